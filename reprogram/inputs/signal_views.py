"""Several pictures of one signal, one view each: no parameters, one cached pass a view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from torch import Tensor, nn

from reprogram.errors import ConfigError, nearest
from reprogram.inputs import __name__ as INPUTS
from reprogram.inputs._signals import SignalInput
from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.ranges import InputSide, Length
from reprogram.registry import find, names


@dataclass(eq=False)
class SignalViews(SignalInput):
    """Source inputs in the order of ``pictures``; every picture is another way of seeing, and few labels gain from several.

    pictures: names of input transformations of signals, with their own defaults.
    size: side of all pictures in pixels; None takes the default of each.
    """

    size: InputSide | None = None
    pictures: Annotated[tuple[str, ...], Length(1, 16)] = ("line_plot", "gramian", "recurrence", "spectrogram")

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        if len(set(self.pictures)) < len(self.pictures):
            raise ConfigError(f"input.pictures is {list(self.pictures)}; each may occur once")
        made = self._made()
        for part in made:
            part.build(spec, target)
        self.parts: Any = nn.ModuleList(made)

    def _made(self) -> list[SignalInput]:
        known = [name for name in names(INPUTS) if name != "signal_views"]
        found = []
        for name in self.pictures:
            method: Any = find(INPUTS, name, SignalInput) if name in known else None
            if method is None or method is SignalViews:
                raise ConfigError(f"input.pictures has '{name}', which is no picture of a signal; {nearest(name, known)}")
            found.append(method(stretch=self.stretch, **({} if self.size is None else {"size": self.size})))
        return found

    def work(self) -> float:
        """Pixels read."""
        return sum(part.work() for part in self._made())

    @classmethod
    def merge(cls, configs: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], list[list[int]]] | None:
        first = {key: value for key, value in configs[0].items() if key != "pictures"}
        if any({key: value for key, value in config.items() if key != "pictures"} != first for config in configs):
            return None
        every = list(dict.fromkeys(name for config in configs for name in config["pictures"]))
        return first | {"pictures": every}, [[every.index(name) for name in config["pictures"]] for config in configs]

    @classmethod
    def passes(cls, config: dict[str, Any]) -> list[dict[str, Any]]:
        """One picture each: programs that read some of the same pictures share them."""
        return [config | {"pictures": [name]} for name in config["pictures"]]

    def planes(self, block: Tensor) -> Tensor:
        found: Tensor = self.parts[0].planes(block)
        return found

    def forward(self, batch: Any) -> list[Any]:
        block = self.block(batch)
        return [view for part in self.parts for view in part(block)]
