"""A soft prompt right in front of a frozen decoder: extra memory slots and one offset on the rest of the memory.

Prefix tuning (Li & Liang 2021, arXiv 2101.00190) of the cross-attention alone: the encoder runs as it is, and the
decoder, which cannot be trained, looks at a memory that can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import nn

from reprogram.errors import ConfigError
from reprogram.interfaces import InputTransformation, SourceSpec, TargetInfo
from reprogram.modalities import check_source
from reprogram.ranges import NotNegative, Range


@dataclass(eq=False)
class DecoderPrompt(InputTransformation):
    """slots: trainable vectors [slots, D] put before the memory. std: standard deviation that they start with.

    The offset [D] starts at 0. The view is ``{"text": strings, "slots": [P, D], "offset": [D]}``.
    """

    slots: Annotated[int, Range(0, 10_000)] = 8
    std: NotNegative = 0.02

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if self.slots < 0:
            raise ConfigError(f"input.slots={self.slots} must be 0 or more.")
        check_source(self.name, "text", spec)
        if spec.embedding_size is None or spec.vocabulary is not None:
            raise ConfigError("input=decoder_prompt needs an encoder-decoder that reads text, such as annalog.")
        generator = torch.Generator().manual_seed(0)
        start = self.std * torch.randn(self.slots, spec.embedding_size, generator=generator)
        self.prompt, self.offset = nn.Parameter(start), nn.Parameter(torch.zeros(spec.embedding_size))

    def forward(self, batch: Sequence[str]) -> list[dict[str, Any]]:
        return [{"text": list(batch), "slots": self.prompt, "offset": self.offset}]
