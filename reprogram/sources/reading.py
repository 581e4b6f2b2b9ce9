"""What a language model makes of strings before anything is spent on them: unknown to its vocabulary, empty, or cut.

A vocabulary that does not fit gives every string the same tokens, or none; all that follows would look like an answer.
Asked at the start of whatever learns from strings; what it finds stands in the notes of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reprogram.errors import SourceError
from reprogram.interfaces import Examples, InputTransformation, SourceModel, Vocabulary
from reprogram.modalities.batches import is_strings
from reprogram.tokenization import tokenizations

MOST = 20_000  # strings that are looked at, evenly over all
UNREADABLE = 0.5  # share of its characters without a token from which on a string counts as not read
REFUSED = 0.25  # share of strings that are not read from which on a run is refused


@dataclass(frozen=True)
class Reading:
    """Of one view. strings: looked at. cut: longer than the model reads. unread [strings]: share of their characters
    that no known token stands for (1 for a string without any)."""

    strings: int
    cut: int
    unread: np.ndarray

    @property
    def unreadable(self) -> float:
        """Share of strings of which most is not read."""
        return float((self.unread > UNREADABLE).mean()) if self.strings else 0.0


def reading_notes(
    source: SourceModel, input: InputTransformation, examples: Examples, what: str = "training", refuse: bool = True
) -> list[str]:
    """Plain sentences about what ``source`` cannot read of ``examples`` (strings) through ``input``, after what had to be
    guessed when it was loaded.

    what: which examples they are. refuse: raise SourceError where more than a quarter of the strings is not read in any
    view; without it, that is a note too.
    """
    vocabulary = source.spec.vocabulary
    notes = list(source.loading_notes)
    if vocabulary is None or not len(examples):
        return notes
    rows = np.unique(np.linspace(0, len(examples) - 1, min(len(examples), MOST)).astype(int))
    batch = examples.batch(rows)
    if not is_strings(batch):
        return notes
    views = input.tokenised(batch)
    found = [read(view, vocabulary, source.spec.size - input.own_tokens) for view in views]
    best = min(found, key=lambda reading: reading.unreadable, default=None)
    if best is not None and best.unreadable > REFUSED:
        count = int((best.unread > UNREADABLE).sum())
        sentence = (
            f"{source.name} reads nothing, or almost nothing, of {count:,} of {best.strings:,} {what} strings "
            f"({count / best.strings:.0%}): its vocabulary does not fit them; {_advice(views[0], vocabulary, input)}."
        )
        if refuse:
            raise SourceError(sentence)
        notes.append(sentence)
    elif best is not None:
        notes += _unread(best, source.name, what)
    cut = max([reading.cut for reading in found] + [input.cut(batch)])
    if cut:
        share = f"{cut:,} of {len(rows):,} {what} strings ({cut / len(rows):.1%})"
        notes.append(f"{share} are longer than the {source.spec.size:,} tokens that {source.name} reads: cut.")
    return notes


def read(strings: Sequence[str], vocabulary: Vocabulary, longest: int) -> Reading:
    """How much of ``strings`` has a token, and how many need more than ``longest`` tokens."""
    around = len(vocabulary.prefix) + len(vocabulary.suffix)
    lengths = np.array([len(ids) for ids in vocabulary.encode(strings)], int)
    counted = [(0, 1)] * len(strings) if vocabulary.unread is None else vocabulary.unread(strings)
    unread = np.array([missing / total if total else 1.0 for missing, total in counted], float)
    unread[lengths == 0] = 1.0
    return Reading(len(strings), int((lengths + around > longest).sum()), unread)


def _unread(reading: Reading, name: str, what: str) -> list[str]:
    nothing, some = int((reading.unread > UNREADABLE).sum()), int((reading.unread > 0).sum())
    notes = []
    if nothing:
        notes.append(f"{name} reads nothing, or almost nothing, of {nothing:,} of {reading.strings:,} {what} strings.")
    if some > nothing:
        share = float(reading.unread.mean())
        notes.append(
            f"{some:,} of {reading.strings:,} {what} strings have characters without a token of {name} "
            f"({share:.1%} of all characters)."
        )
    return notes


def _advice(strings: Sequence[str], vocabulary: Vocabulary, input: InputTransformation) -> str:
    """The first way of setting tokens apart that this vocabulary can read, or other sources."""
    some = strings[:50]
    if getattr(input, "tokens", None) == "own":
        for kind, way in tokenizations().items():
            try:
                apart = [" ".join(way.split(text)) for text in some]
            except ImportError:  # its package is optional
                continue
            if read(apart, vocabulary, 1 << 30).unreadable <= REFUSED:
                return f"use input.tokens={kind}, which it reads"
    ways = ", ".join(name for name in tokenizations() if name != "characters")
    return f"choose another source, or source.tokenizer= ({ways}) where its vocabulary is such tokens"
