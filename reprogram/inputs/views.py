"""The image at several scales, optionally mirrored or inverted: no parameters, one cached pass a view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.inputs.base import ImageInput, resize, with_channels
from reprogram.interfaces import InputTransformation, SourceSpec, TargetInfo
from reprogram.ranges import InputSide


@dataclass(eq=False)
class Views(InputTransformation):
    """Source inputs ordered by size, then mirrored, then inverted: [64, 64 mirrored, 96, 96 mirrored, …].

    A convolutional source reads any size, and another scale is another way of seeing: few labels gain more from reading
    several than from any trained prompt.

    sizes: sides in pixels; empty is the side that the source was trained at, alone.
    flip: also the mirror image (natural images; never digits). invert: also the negative, 1 - x (drawings).
    """

    sizes: tuple[InputSide, ...] = (96, 128, 160, 224)
    flip: bool = False
    invert: bool = False

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if len(set(self.sizes)) < len(self.sizes):
            raise ConfigError(f"input.sizes is {list(self.sizes)}; each size may stand there once")
        self._scales = []
        for size in self.sizes or (spec.size,):
            scale = ImageInput(size)
            scale.build(spec, target)
            self._scales.append(scale.side)
        self.channels = spec.channels

    def forward(self, batch: Any) -> list[Any]:
        return [view for side in self._scales for view in self._at(with_channels(resize(batch, side), self.channels))]

    def _at(self, image: Tensor) -> list[Tensor]:
        mirrored = [image, image.flip(-1)] if self.flip else [image]
        return [v for view in mirrored for v in ((view, 1.0 - view) if self.invert else (view,))]
