"""A trainable prefix of embeddings in front of every string (Lester et al. 2021, arXiv 2104.08691)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError
from reprogram.inputs._tokens import embed, vocabulary_of
from reprogram.inputs.text import spaced
from reprogram.interfaces import InputTransformation, SourceSpec, TargetInfo
from reprogram.ranges import NotEmpty, Range
from reprogram.tokenization import splitter


@dataclass(eq=False)
class SoftPrompt(InputTransformation):
    """length: trainable embeddings, after the opening special token. words: text whose embeddings they start from, repeated
    or cut to ``length`` (a random start trains worse: Lester et al., figure 3b). tokens: as for ``input=text``."""

    length: Annotated[int, Range(1, 10_000)] = 8
    words: NotEmpty = "the chemical properties of this molecule"
    tokens: str = "own"

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if self.length < 1:
            raise ConfigError(f"input.length={self.length} must be at least 1.")
        if self.tokens != "own":
            splitter(self.tokens)
        self._vocabulary, self._longest = vocabulary_of(spec, self.name), spec.size
        start = self._vocabulary.encode([self.words])[0]
        if not start:
            raise ConfigError(f"input.words='{self.words}' has no token of the source.")
        ids = (start * self.length)[: self.length]
        self.prompt = nn.Parameter(self._vocabulary.embeddings()[ids].detach().clone())

    @property
    def own_tokens(self) -> int:  # type: ignore[override]
        """Tokens of the prompt, and the mask where the model answers at one."""
        return self.length + (self._vocabulary.mask is not None)

    def tokenised(self, batch: Sequence[str]) -> list[list[str]]:
        return [[spaced(text, self.tokens) for text in batch]]

    def forward(self, batch: Sequence[str]) -> list[dict[str, Tensor]]:
        rows = self._vocabulary.encode([spaced(text, self.tokens) for text in batch])
        used = sorted({i for row in rows for i in row})
        place = {token: i for i, token in enumerate(used)}
        with torch.no_grad():
            table = self._vocabulary.embeddings()[used]
        return [embed([[place[i] for i in r] for r in rows], table, self._vocabulary, self._longest, self.prompt)]
