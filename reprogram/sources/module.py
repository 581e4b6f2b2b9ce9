"""Any ``torch.nn.Module`` from Python as a source."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reprogram.errors import SourceError, nearest
from reprogram.interfaces import SourceModel, SourceOutput, SourceSpec, Tap
from reprogram.sources.pooling import pool_grid, taps_by_layer
from reprogram.sources.preprocessing import Preprocessing


class ModuleSource(SourceModel):
    """A frozen copy of a module that maps normalised images [B, C, size, size] to logits [B, S].

    labels: source label names, or how many there are; None counts them. mean, std: the module's own normalisation.
    features: name of the submodule whose *input* are the penultimate features (``fc``); None finds the last linear layer
    with S outputs. taps: names of submodules whose output maps [B, C, h, w] may be read.

    A program for such a source is loaded with ``from_pretrained(folder, source=ModuleSource(…))``.
    """

    named_in_programs = False

    def __init__(
        self,
        module: nn.Module,
        size: int = 224,
        channels: int = 3,
        labels: Sequence[str] | int | None = None,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        features: str | None = None,
        taps: Sequence[str] = (),
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.name = name or type(module).__name__
        self.module = copy.deepcopy(module)  # what the caller does to theirs later does not reach this one
        self.preprocessing = Preprocessing(size, 1 / 255, 0.0, tuple(mean), tuple(std))
        self.freeze()
        known = dict(self.module.named_modules())
        for wanted in (*taps, *([features] if features else [])):
            if wanted not in known:
                raise SourceError(f"{self.name} has no submodule '{wanted}'; {nearest(wanted, filter(None, known))}.")
        with torch.no_grad():
            logits = self._logits(torch.full((1, channels, size, size), 0.5))
        count = logits.shape[1]
        names = tuple(labels) if isinstance(labels, Sequence) else tuple(f"label {i}" for i in range(labels or count))
        if len(names) != count:
            raise SourceError(f"{self.name} answers {count} logits, but {len(names)} labels were given.")
        self.features = features if features is not None else _last_linear(self.module, count)
        self.spec = SourceSpec("image", size, names, channels, None, tuple(taps))
        with torch.no_grad():
            read = self.answer(torch.full((1, channels, size, size), 0.5)).features
        self.spec = SourceSpec("image", size, names, channels, None if read is None else read.shape[1], tuple(taps))

    def settings(self) -> dict[str, Any]:
        """How pixels are normalised and where features are read; the module's own numbers stay its author's business."""
        return {"preprocessing": self.preprocessing.settings(), "features": self.features}

    def answer(self, source_input: Tensor, taps: Sequence[Tap] = ()) -> SourceOutput:
        """Pixels in [0, 1], [B, C, h, w], resized to the module's size -> logits, features, taps."""
        wanted = taps_by_layer(taps, self.spec.taps)
        seen: dict[str, Tensor] = {}
        read: dict[Tap, Tensor] = {}

        def keep_input(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            seen["features"] = arguments[0].flatten(1)

        def keep_output(layer: str, output: Tensor) -> None:
            read.update({tap: pool_grid(output, tap.pooling) for tap in wanted[layer]})

        handles = [
            self.module.get_submodule(layer).register_forward_hook(
                lambda _module, _inputs, output, layer=layer: keep_output(layer, output)
            )
            for layer in wanted
        ]
        if self.features is not None:
            handles.append(self.module.get_submodule(self.features).register_forward_pre_hook(keep_input))
        try:
            logits = self._logits(source_input)
        finally:
            for handle in handles:
                handle.remove()
        return SourceOutput(logits, seen.get("features"), read)

    def _logits(self, pixels: Tensor) -> Tensor:
        logits = self.module(self.preprocessing(self.preprocessing.fit(pixels, smallest=None)))
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise SourceError(f"{self.name} must answer logits [B, S]; found {found}.")
        return logits


def _last_linear(module: nn.Module, outputs: int) -> str | None:
    layers = [name for name, m in module.named_modules() if isinstance(m, nn.Linear) and m.out_features == outputs]
    return layers[-1] if layers else None
