"""An input transformation: a trained colour over the whole image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from reprogram.inputs.base import ImageInput, add
from reprogram.interfaces import SourceSpec, TargetInfo


@dataclass(eq=False)
class Tint(ImageInput):
    """strength: of the colour that it starts from."""

    strength: float = 0.1

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        self.colour = nn.Parameter(torch.full((1, self.channels, 1, 1), self.strength))

    def forward(self, batch: Any) -> list[Any]:
        return [add(self.plain(batch), self.colour)]
