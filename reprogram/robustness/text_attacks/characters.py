"""Character edits (DeepWordBug, Gao et al. 2018, arXiv 1801.04354), chosen by queries alone."""

from __future__ import annotations

import string
from dataclasses import dataclass

import numpy as np

from reprogram.ranges import Count
from reprogram.robustness.text_attacks.base import TextAttack


@dataclass
class Characters(TextAttack):
    """Swap, substitute, delete or insert one character of a word (DeepWordBug, Gao et al. 2018, arXiv 1801.04354).

    tries: edits tried of each word. Words of one character, and the first and last of longer ones, stay readable.
    """

    tries: Count = 8

    @property
    def constraint(self) -> str:
        return f"edit distance at most {2 * self.most}, one edit a word"

    def variants(self, words: list[str], place: int, rng: np.random.Generator) -> list[str]:
        word = words[place]
        if len(word) < 3:
            return []
        found = set()
        for _ in range(self.tries):
            i = int(rng.integers(1, len(word) - 1))
            letter = string.ascii_lowercase[int(rng.integers(26))]
            kind = int(rng.integers(4))
            edited = {
                0: word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :],
                1: word[:i] + letter + word[i + 1 :],
                2: word[:i] + word[i + 1 :],
                3: word[:i] + letter + word[i:],
            }[kind]
            found.add(edited)
        return sorted(found - {word})
