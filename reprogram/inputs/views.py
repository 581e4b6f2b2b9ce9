"""The image at several scales, optionally mirrored or inverted: no parameters, one cached pass a view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any

from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.inputs.base import ImageInput, resize, with_channels
from reprogram.interfaces import InputTransformation, SourceSpec, TargetInfo
from reprogram.ranges import InputSide, Length


@dataclass(eq=False)
class Views(InputTransformation):
    """Source inputs ordered by size, then mirrored, then inverted: [64, 64 mirrored, 96, 96 mirrored, …].

    A convolutional source reads any size, and another scale is another way of seeing: few labels gain more from reading
    several than from any trained prompt.

    sizes: sides in pixels, one at least.
    flip: also the mirror image (natural images; never digits). invert: also the negative, 1 - x (drawings).
    """

    sizes: Annotated[tuple[InputSide, ...], Length()] = (96, 128, 160, 224)
    flip: bool = False
    invert: bool = False

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if len(set(self.sizes)) < len(self.sizes):
            raise ConfigError(f"input.sizes is {list(self.sizes)}; each size may occur once")
        self._scales = []
        for size in self.sizes:
            scale = ImageInput(size)
            scale.build(spec, target)
            self._scales.append(scale.side)
        self.channels = spec.channels

    def work(self) -> float:
        """Pixels read."""
        return float(sum(side**2 for side in self.sizes)) * 2.0 ** (self.flip + self.invert)

    @classmethod
    def merge(cls, configs: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], list[list[int]]] | None:
        sizes = sorted({size for config in configs for size in config["sizes"]})
        changes = {name: True for name in ("flip", "invert") if any(config.get(name) for config in configs)}
        mirrors, negatives = ((False, True) if changes.get(name) else (False,) for name in ("flip", "invert"))
        order = list(product(sizes, mirrors, negatives))  # as forward() gives them
        read = [
            [
                place
                for place, (size, mirrored, inverted) in enumerate(order)
                if size in config["sizes"]
                and (config.get("flip") or not mirrored)
                and (config.get("invert") or not inverted)
            ]
            for config in configs
        ]
        return {"sizes": sizes, "flip": False} | changes, read

    @classmethod
    def passes(cls, config: dict[str, Any]) -> list[dict[str, Any]]:
        """One size each: programs that read some of the same sizes share them."""
        return [config | {"sizes": [size]} for size in config["sizes"]]

    def forward(self, batch: Any) -> list[Any]:
        return [view for side in self._scales for view in self._at(with_channels(resize(batch, side), self.channels))]

    def _at(self, image: Tensor) -> list[Tensor]:
        mirrored = [image, image.flip(-1)] if self.flip else [image]
        return [v for view in mirrored for v in ((view, 1.0 - view) if self.invert else (view,))]
