"""What output mappings share: one logit matrix from several views, and shapes checked once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import OutputMapping, SourceOutput, SourceSpec, TargetInfo


def mean_logits(outputs: list[SourceOutput]) -> Tensor:
    """Source logits [B, S], averaged over views."""
    return torch.stack([output.logits for output in outputs]).mean(0)


def pooled_features(outputs: list[SourceOutput]) -> Tensor:
    """Penultimate features [B, D], averaged over views."""
    features = [output.features for output in outputs if output.features is not None]
    if len(features) < len(outputs):
        raise SourceError("This output needs the source's features, and the source answers none.")
    return torch.stack(features).mean(0)


@dataclass(eq=False)
class LabelMapping(OutputMapping):
    """Base of the mappings that read source labels alone: all that a model behind an API shows.

    After :meth:`build`: ``source_labels`` S and ``target_labels`` T. T counts the target's classes, never the classes
    that happen to be in the sample: a class without examples keeps its column.
    """

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        self.source_labels, self.target_labels = len(spec.labels), len(target.classes)
        if target.problem != "classification":
            raise ConfigError(
                f"output={self.name} maps labels to labels, but target {target.name} is {target.problem}; "
                "allowed there: ridge_taps, linear, linear_features"
            )
        if spec.answers == "none" or self.source_labels == 0:
            raise ConfigError(f"output={self.name} needs source labels; this source has none (try output=ridge_taps)")
