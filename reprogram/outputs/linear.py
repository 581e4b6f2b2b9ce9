"""A linear layer on source logits, learned by gradient (FullyMap)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.interfaces import SourceOutput, SourceSpec, TargetInfo
from reprogram.outputs._probe import ProbeHead
from reprogram.outputs.base import mean_logits


@dataclass(eq=False)
class Linear(ProbeHead):
    """AutoVP's FullyMap (Tsao et al. 2024): every source label may speak for and against every target label."""

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if not spec.labels:
            raise ConfigError("output=linear needs source labels; this source has none (try output=linear_features)")
        self._build(len(spec.labels), target)

    def values(self, outputs: list[SourceOutput]) -> Tensor:
        return mean_logits(outputs)
