"""One pass of the frozen source a view for a whole dataset, shared by all programs and seeds, and kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reprogram.inputs.views import Views
from reprogram.interfaces import Examples, SourceModel, SourceOutput, Tap, TargetInfo
from reprogram.modalities import modality
from reprogram.model import ReprogrammedModel
from reprogram.progress import progress

View = tuple[int, str]  # side in pixels; plain, mirrored or inverted


class Answers:
    """What ``source`` answers for rows of one dataset, by view; float16 in memory and in ``folder``."""

    def __init__(self, source: SourceModel, folder: Path) -> None:
        self.source, self.folder = source, folder
        self.taps = tuple(Tap(*layer.split("@")) for layer in modality(source.spec.kind).default_layers(source.spec))
        self.known: dict[View, dict[str, int]] = {}
        self.values: dict[View, Tensor] = {}
        self.sizes: list[int] = []

    def outputs(self, examples: Examples, rows: Sequence[object], views: Sequence[View]) -> list[SourceOutput]:
        """One output a view for ``examples``, whose names in the dataset are ``rows``; asks for what is not known."""
        names = [str(row) for row in rows]
        for view in views:
            self._load(view)
            missing = [i for i, name in enumerate(names) if name not in self.known[view]]
            for start in range(0, len(missing), 256):  # kept on disk as it grows
                self._ask(examples, names, missing[start : start + 256], view)
        return [self._output(self.values[view][[self.known[view][name] for name in names]]) for view in views]

    def _ask(self, examples: Examples, names: list[str], missing: list[int], view: View) -> None:
        info = TargetInfo("", "image", "classification", ("",))
        side, change = view
        scale = Views(sizes=(side,), flip=change == "mirrored", invert=change == "inverted")
        scale.build(self.source.spec, info)
        found = []
        with torch.inference_mode(), progress(f"{self.folder.name} {side} px {change}", len(missing)) as bar:
            for start in range(0, len(missing), 64):
                rows = missing[start : start + 64]
                answer = self.source(scale(examples.batch(rows))[-1], self.taps)
                assert answer.features is not None
                parts = [*(answer.taps[tap] for tap in self.taps), answer.features, answer.logits]
                self.sizes = [part.shape[1] for part in parts]
                found.append(torch.cat(parts, 1).half())
                bar.advance(len(rows))
        before = self.values[view]
        self.values[view] = torch.cat([before, *found]) if len(before) else torch.cat(found)
        count = len(self.known[view])
        self.known[view] |= {names[row]: count + i for i, row in enumerate(missing)}
        self._save(view)

    def _output(self, values: Tensor) -> SourceOutput:
        *taps, features, logits = values.float().split(self.sizes, 1)
        return SourceOutput(logits, features, dict(zip(self.taps, taps, strict=True)))

    def _file(self, view: View) -> Path:
        return self.folder / f"{view[0]}_{view[1]}.safetensors"

    def _load(self, view: View) -> None:
        if view in self.known:
            return
        self.known[view], self.values[view] = {}, torch.zeros(0, 0)
        if self._file(view).exists():
            kept = load_file(self._file(view))
            names = bytes(kept["names"].tolist()).decode().split("\n")
            self.values[view], self.sizes = kept["values"], kept["sizes"].tolist()
            self.known[view] = {name: i for i, name in enumerate(names)}

    def _save(self, view: View) -> None:
        names = torch.from_numpy(np.frombuffer("\n".join(self.known[view]).encode(), dtype=np.uint8).copy())
        partial = self._file(view).with_suffix(".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        save_file({"names": names, "values": self.values[view], "sizes": torch.tensor(self.sizes)}, partial)
        partial.replace(self._file(view))


class Recollecting(ReprogrammedModel):
    """A reprogrammed model without a prompt whose source has been asked already: training and prediction as always."""

    def recall(self, train: tuple[Examples, list[SourceOutput]], test: tuple[Examples, list[SourceOutput]]) -> None:
        self._answers = {id(train[0]): train[1], id(test[0]): test[1]}

    def collect(self, examples: Examples, batch_size: int = 64, description: str = "") -> list[SourceOutput]:
        return self._answers[id(examples)]

    def logits(self, examples: Examples, batch_size: int = 64, description: str = "") -> Tensor:
        with torch.inference_mode():
            return self.output(self._answers[id(examples)])
