"""Logistic regression on the source's features, each input's scaled to length 1, fitted to its optimum.

A linear probe that no value's deviation over a few labels can upset. Alone it is weaker than reading several layers; averaged
with :mod:`reprogram.outputs.label_names` it helps where a class has 4 to 8 labels: ``docs/results/few_label_text.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError
from reprogram.interfaces import OutputMapping, SourceOutput, SourceSpec, TargetInfo
from reprogram.outputs.base import pooled_features
from reprogram.ranges import Positive

STEPS = 1000  # at most, of the solver
ABSENT = -10.0  # logit of a class without an example


@dataclass(eq=False)
class Logistic(OutputMapping):
    """Classification. strength: scikit-learn's C, of the inverse penalty; every class counts the same."""

    strength: Positive = 3.0

    closed_form: ClassVar[bool] = True

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if target.problem != "classification":
            raise ConfigError(f"output=logistic needs classes, but target {target.name} is {target.problem}")
        if spec.feature_size is None:
            raise ConfigError("output=logistic needs the source's features, and the source answers none")
        self._columns = len(target.classes)
        self.weight: Tensor = nn.Buffer(torch.zeros(spec.feature_size, self._columns))
        self.bias: Tensor = nn.Buffer(torch.zeros(self._columns))

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        """Logits [B, T]."""
        features = pooled_features(outputs)
        with torch.autocast(features.device.type, enabled=False):
            return nn.functional.normalize(features.float(), dim=1) @ self.weight + self.bias

    @torch.no_grad()
    def fit(self, outputs: list[SourceOutput], labels: Tensor) -> None:
        from sklearn.linear_model import LogisticRegression

        values = nn.functional.normalize(pooled_features(outputs).float(), dim=1).cpu().double().numpy()
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
        self.weight = torch.from_numpy(weight).float().to(self.weight.device)
        self.bias = torch.from_numpy(bias).float().to(self.bias.device)
