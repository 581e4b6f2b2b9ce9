"""Logistic regression on the source's features, each input's scaled to length 1, fitted to its optimum.

A linear probe that no value's deviation over a few labels can upset. Alone it is weaker than reading several layers; averaged
with :mod:`reprogram.outputs.label_names` it helps where a class has 4 to 8 labels. On a plain feature beside the source, such
as words and punctuation marks, it adds what the source has not kept: ``docs/results/few_label_text.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import OutputMapping, SourceOutput, SourceSpec, Tap, TargetInfo
from reprogram.outputs.base import pooled_features
from reprogram.ranges import Positive, Range

STEPS = 1000  # at most, of the solver
WIDEST = 1_000_000  # values of a plain feature; a program from a stranger cannot ask for all memory
ABSENT = -10.0  # logit of a class without an example


@dataclass(eq=False)
class Logistic(OutputMapping):
    """Classification; every class counts the same.

    strength: scikit-learn's C, of the inverse penalty. feature: a plain feature of ``input.features`` that is read in place
    of the source's own features. width: its number of values; written by :meth:`fit`, so that a kept program knows its
    shapes.
    """

    strength: Positive = 3.0
    feature: str = ""
    width: Annotated[int, Range(0, WIDEST)] = 0

    closed_form: ClassVar[bool] = True

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if target.problem != "classification":
            raise ConfigError(f"output=logistic needs classes, but target {target.name} is {target.problem}")
        if spec.feature_size is None and not self.feature:
            raise ConfigError("output=logistic needs the source's features, and the source answers none")
        self._columns = len(target.classes)
        width = self.width if self.feature else spec.feature_size or 0
        self.weight: Tensor = nn.Buffer(torch.zeros(width, self._columns))
        self.bias: Tensor = nn.Buffer(torch.zeros(self._columns))

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        """Logits [B, T]."""
        values = self._read(outputs)
        if values.shape[1] != len(self.weight):
            raise SourceError(f"output=logistic weighs {len(self.weight)} values an example but reads {values.shape[1]}")
        with torch.autocast(values.device.type, enabled=False):
            return nn.functional.normalize(values.float(), dim=1) @ self.weight + self.bias

    def _read(self, outputs: list[SourceOutput]) -> Tensor:
        """[B, D], averaged over views. Raises ConfigError where the input makes no such plain feature."""
        if not self.feature:
            return pooled_features(outputs)
        found = [output.taps.get(Tap(self.feature, "side")) for output in outputs]
        known = [values for values in found if values is not None]
        if len(known) < len(outputs):
            raise ConfigError(f"output.feature={self.feature} is read from the input: give 'input.features=[{self.feature}]'.")
        return torch.stack(known).mean(0)

    @torch.no_grad()
    def fit(self, outputs: list[SourceOutput], labels: Tensor) -> None:
        from sklearn.linear_model import LogisticRegression

        values = nn.functional.normalize(self._read(outputs).float(), dim=1).cpu().double().numpy()
        truth = labels.cpu().numpy()
        weight, bias = np.zeros((values.shape[1], self._columns)), np.full(self._columns, ABSENT)
        present = np.unique(truth)
        bias[present] = 0.0
        if len(present) > 1:
            solved = LogisticRegression(C=self.strength, max_iter=STEPS, class_weight="balanced").fit(values, truth)
            rows, shift = solved.coef_, solved.intercept_
            if len(rows) == 1:  # of two classes it keeps the second, against the first
                rows, shift = np.stack([-rows[0], rows[0]]) / 2, np.array([-shift[0], shift[0]]) / 2
            weight[:, present], bias[present] = rows.T, shift
        self.width = len(weight) if self.feature else 0
        self.weight = torch.from_numpy(weight).float().to(self.weight.device)
        self.bias = torch.from_numpy(bias).float().to(self.bias.device)
