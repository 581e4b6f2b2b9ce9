"""A program learned again with other labels, from one pass of the source: what wrong labels cost, and who finds them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprogram.interfaces import SourceOutput, TargetTask
from reprogram.labels.reading import read_pool
from reprogram.labels.suspects import find_suspects
from reprogram.model import ReprogrammedModel, pick
from reprogram.targets.base import ArrayExamples, StringExamples


class Relearner:
    """Fits a closed-form program again. labels [n]: those that were given."""

    def __init__(self, model: ReprogrammedModel, target: TargetTask) -> None:
        self.model, self.target = model, target
        self.labels = np.asarray(target.train.labels)
        self._train: list[SourceOutput] | None = None

    def possible(self) -> bool:
        """A closed-form program for classes, on a source whose answers cost nothing, with labels enough to lose some."""
        free = self.model.source.affordable(None) == float("inf")
        classes = self.target.info.problem == "classification" and len(np.unique(self.labels)) > 1
        return free and classes and self.model.output.closed_form and self.model.unbuilt_copies() is not None

    def read(self, inputs: Any) -> list[SourceOutput]:
        """Source outputs of test images [N, C, H, W] or strings, one a view."""
        none = np.zeros(len(inputs))
        shown = StringExamples(inputs, none) if isinstance(inputs, list) else ArrayExamples(inputs.cpu().numpy(), none)
        return self.model.collect(shown)

    @property
    def train(self) -> list[SourceOutput]:
        """Source outputs of the training examples, read once."""
        if self._train is None:
            self._train = self.model.collect(self.target.train)
        return self._train

    def answers(self, outputs: list[SourceOutput], labels: np.ndarray, rows: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """(classes [N] of the test inputs, suspected rows) by a program that learned ``labels`` [n] of these rows."""
        output, suspected = self.learned(self.train, labels, rows)
        with torch.no_grad():
            return output(outputs).argmax(1).cpu(), suspected

    def learned(self, train: list[SourceOutput], labels: np.ndarray, rows: np.ndarray) -> tuple[Any, np.ndarray]:
        """(output mapping, suspected rows) that learned ``labels`` [n] of these rows of ``train``."""
        output = self._output()
        output.fit(pick(train, torch.from_numpy(rows)), torch.from_numpy(labels[rows]))
        if output.left_out is None:
            return output, np.zeros(0, int)
        left_out = output.left_out.double().softmax(1).cpu().numpy()
        return output, rows[find_suspects(left_out, labels[rows]).doubtful()]

    def changed(self, rows: np.ndarray, outputs: list[SourceOutput]) -> list[SourceOutput]:
        """The training examples' source outputs with others in these rows."""
        index = torch.from_numpy(rows)

        def put(into: Tensor | None, values: Tensor | None) -> Any:
            return into if into is None or values is None else into.index_copy(0, index.to(into.device), values.to(into))

        return [
            SourceOutput(
                put(a.logits, b.logits), put(a.features, b.features), {t: put(v, b.taps[t]) for t, v in a.taps.items()}
            )
            for a, b in zip(self.train, outputs, strict=True)
        ]

    def _output(self) -> Any:
        copies = self.model.unbuilt_copies()
        assert copies is not None
        before, output = copies
        output.build(self.model.source.spec, self.model.target)
        output.to(self.model.device)
        if output.reads_pool and self.target.pool is not None:
            output.observe_pool(self._pool(before, output))
        return output

    def _pool(self, before: Any, output: Any) -> list[SourceOutput]:
        if not hasattr(self, "_pool_outputs"):
            source, info = self.model.source, self.model.target
            self._pool_outputs = read_pool(source, self.target.pool, info, before, output.taps())[0]
        return self._pool_outputs
