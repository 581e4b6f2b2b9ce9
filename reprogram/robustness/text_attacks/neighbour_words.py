"""Word swaps for neighbours in a table of embeddings (TextFooler, Jin et al. 2020, arXiv 1907.11932)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from reprogram.interfaces import SourceModel
from reprogram.ranges import Count
from reprogram.robustness.text_attacks.base import STOP_WORDS, EvaluatedStrings, TextAttack, common_words


@dataclass
class NeighbourWords(TextAttack):
    """Swap whole words for neighbours in a table of embeddings (TextFooler, arXiv 1907.11932; cosine >= 0.5 as released).

    vocabulary, embeddings [V, D]: the table, e.g. the source's own word vectors. neighbours: tried of each word.
    """

    vocabulary: Sequence[str] = ()
    embeddings: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    neighbours: Count = 10
    cosine: float = 0.5

    def __post_init__(self) -> None:
        self._rows = {word: i for i, word in enumerate(self.vocabulary)}
        self._unit = F.normalize(self.embeddings.float(), dim=1) if len(self.vocabulary) else self.embeddings

    @classmethod
    def on(cls, model: EvaluatedStrings, **options: Any) -> Self | None:
        """The target's own frequent words, near one another as the source's features have it."""
        source, known = model.program.source, common_words(model.train)
        if not (source.differentiable and source.spec.feature_size and len(known) > 1):
            return None
        return cls(seed=model.seed, vocabulary=known, embeddings=embedded(known, _encoder(source)), **options)

    @property
    def constraint(self) -> str:
        return f"at most {self.most} words, each for a neighbour of cosine >= {self.cosine:g}"

    def variants(self, words: list[str], place: int, rng: np.random.Generator) -> list[str]:
        word = words[place]
        row = self._rows.get(word.lower())
        if row is None:
            return []
        near = self._unit @ self._unit[row]
        near[row] = -1
        values, rows = near.topk(min(self.neighbours, len(near)))
        found = [self.vocabulary[int(i)] for i, v in zip(rows, values, strict=True) if float(v) >= self.cosine]
        return [f.capitalize() if word[0].isupper() else f for f in found if f.lower() not in STOP_WORDS]


def embedded(words: Sequence[str], encode: Callable[[list[str]], Tensor]) -> Tensor:
    """[V, D]: what ``encode`` (strings -> [B, D]) makes of the words."""
    with torch.no_grad():
        return torch.cat([encode(list(words[i : i + 64])) for i in range(0, len(words), 64)]).cpu()


def _encoder(source: SourceModel) -> Callable[[list[str]], Tensor]:
    def encode(words: list[str]) -> Tensor:
        answer = source(words)
        return answer.logits if answer.features is None else answer.features

    return encode
