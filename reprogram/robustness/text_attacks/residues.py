"""Substitutions in proteins and nucleic acids by similar residues, greedily, for any model that answers queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from reprogram.robustness.text_attacks.base import EvaluatedStrings, TextAttack

TRANSITIONS = {"A": "G", "G": "A", "C": "T", "T": "C", "U": "C"}  # purine for purine, pyrimidine for pyrimidine
RELATIVES = {  # positive scores off the diagonal of BLOSUM62 (Henikoff & Henikoff 1992)
    "A": "S", "R": "KQ", "N": "DHS", "D": "EN", "Q": "EKR", "E": "DKQ", "H": "NY", "I": "LMV", "L": "IMV", "K": "EQR",
    "M": "ILV", "F": "WY", "S": "ANT", "T": "S", "W": "FY", "Y": "FHW", "V": "ILM",
}  # fmt: skip


def are_nucleotides(sequences: Sequence[str]) -> bool:
    """Nothing but the letters of DNA or RNA."""
    return set("".join(sequences).upper()) <= set("ACGTUN")


@dataclass
class Residues(TextAttack):
    """Each residue may become a similar one: BLOSUM62 > 0 for proteins, transitions for DNA and RNA.

    A substitution can truly change what a sequence does, so a broken example is a hint and not a proof of weakness.
    nucleotides: the strings are DNA or RNA.
    """

    nucleotides: bool = False

    changes: ClassVar[str] = "residues"

    @classmethod
    def on(cls, model: EvaluatedStrings, **options: Any) -> Self | None:
        return cls(seed=model.seed, nucleotides=are_nucleotides(model.train), **options)

    @property
    def constraint(self) -> str:
        kind = "a transition (A-G, C-T)" if self.nucleotides else "one of BLOSUM62 > 0"
        return f"at most {self.most} residues, each for {kind}"

    def split(self, text: str) -> list[str]:
        return list(text)

    def places(self, words: list[str]) -> list[int]:
        return [i for i, letter in enumerate(words) if self._relatives(letter)]

    def variants(self, words: list[str], place: int, rng: np.random.Generator) -> list[str]:
        letter, found = words[place], self._relatives(words[place])
        if self.nucleotides and letter.upper() == "C" and {"U", "u"} & set(words):
            found = "U"  # RNA
        return [f if letter.isupper() else f.lower() for f in found]

    def _relatives(self, letter: str) -> str:
        return (TRANSITIONS if self.nucleotides else RELATIVES).get(letter.upper(), "")
