"""No prompt: the target input as the source reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reprogram.inputs.base import ImageInput
from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.modalities import modality


@dataclass(eq=False)
class NoPrompt(ImageInput):
    """Images are resized and, if grey, made RGB; strings pass through unchanged. No parameters.

    The honest baseline of every prompt: on CLIP the same program without its pixel prompt reaches 78.0 where the
    prompt reaches 82.7 (RVP preprint, ablation).
    """

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if modality(spec.kind).pixels:
            super().build(spec, target)

    def forward(self, batch: Any) -> list[Any]:
        return [self.plain(batch)] if hasattr(batch, "shape") else [batch]
