"""The source's answers as they are, for a source that already answers what the target asks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.interfaces import OutputMapping, SourceOutput, SourceSpec, TargetInfo
from reprogram.outputs.base import mean_logits


@dataclass(eq=False)
class IdentityMapping(OutputMapping):
    """Logits [B, S] averaged over views; S must be T. Where both have the same names, they are matched by name."""

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if len(spec.labels) != len(target.classes):
            raise ConfigError(
                f"output=identity needs as many source labels as target labels; found {len(spec.labels)} and "
                f"{len(target.classes)}."
            )
        same = len(set(spec.labels)) == len(spec.labels) and set(spec.labels) == set(target.classes)
        self._columns = [spec.labels.index(name) for name in target.classes] if same else None

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        logits = mean_logits(outputs)
        return logits if self._columns is None else logits[:, self._columns]
