"""A linear layer on penultimate features, learned by gradient (LoR-VP's head; with no prompt: a linear probe)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.interfaces import SourceOutput, SourceSpec, TargetInfo
from reprogram.outputs._probe import ProbeHead
from reprogram.outputs.base import pooled_features


@dataclass(eq=False)
class LinearFeatures(ProbeHead):
    """What LoR-VP trains beside its prompt. No label mapping is left: this is a linear probe behind a prompt."""

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if spec.feature_size is None:
            raise ConfigError("output=linear_features needs the source's features, and the source answers none")
        self._build(spec.feature_size, target)

    def values(self, outputs: list[SourceOutput]) -> Tensor:
        return pooled_features(outputs)
