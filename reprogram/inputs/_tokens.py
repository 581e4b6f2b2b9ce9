"""What the transformations below the tokenizer share: rows of token ids become embeddings that a frozen model reads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.interfaces import SourceSpec, Vocabulary


def vocabulary_of(spec: SourceSpec, method: str) -> Vocabulary:
    """The tokens of a text source; ConfigError for a source that has none."""
    if spec.vocabulary is None:
        raise ConfigError(f"input={method} works on the tokens of a language model; this source reads {spec.kind}")
    return spec.vocabulary


def cut(rows: Sequence[Sequence[int]], vocabulary: Vocabulary, longest: int) -> int:
    """How many rows :func:`embed` shortens."""
    around = len(vocabulary.prefix) + len(vocabulary.suffix) + (vocabulary.mask is not None)
    return sum(len(row) + around > longest for row in rows)


def embed(
    rows: Sequence[Sequence[int]], table: Tensor, vocabulary: Vocabulary, longest: int, front: Tensor | None = None
) -> dict[str, Tensor]:
    """Rows of ids into ``table`` [T, D] -> ``inputs_embeds``, ``attention_mask``, and ``answer_at`` for a masked model.

    Around each row stand the tokens that the source's own tokenizer would put there; ``front`` [P, D] comes before the
    row, a mask token (where the source fills one in) after it. Rows are cut so that all of it fits into ``longest``.
    """
    source = vocabulary.embeddings()
    mask = [] if vocabulary.mask is None else [vocabulary.mask]
    before = source[list(vocabulary.prefix)]
    front = before[:0] if front is None else front
    after = source[[*mask, *vocabulary.suffix]]
    room = longest - len(before) - len(front) - len(after)
    if room < 1:
        raise ConfigError(f"The source reads {longest} tokens, and {longest - room} of them are not the target's own.")
    words = torch.cat([before.to(table.dtype), front.to(table.dtype), table, after.to(table.dtype)])
    lead, shift = list(range(len(before) + len(front))), len(before) + len(front)
    tail = [shift + len(table) + i for i in range(len(after))]
    ids = [[*lead, *(shift + i for i in row[:room]), *tail] for row in rows]
    width = max(max(map(len, ids)), 1)
    lengths = torch.tensor([max(len(row), 1) for row in ids], device=table.device)
    index = torch.tensor([row + [0] * (width - len(row)) for row in ids], device=table.device)
    attention = (torch.arange(width, device=table.device) < lengths[:, None]).long()
    prepared = {"inputs_embeds": words[index], "attention_mask": attention}
    if vocabulary.mask is not None:
        prepared["answer_at"] = lengths - len(after)
    return prepared
