"""How strings of chemistry and biology fall into tokens. No RDKit is needed; every string is covered."""

from __future__ import annotations

import re
import string
from collections.abc import Callable

from reprogram.errors import ConfigError, nearest

SMILES_PATTERN = re.compile(
    r"(\[[^\]]+]|Br|Cl|[BCNOPSFI]|[bcnops]|\(|\)|\.|=|#|-|\+|\\|/|:|~|@|\?|>|\*|\$|%[0-9]{2}|[0-9]|.)", re.DOTALL
)
AMINO_ACIDS = {
    "A": "alanine", "R": "arginine", "N": "asparagine", "D": "aspartate", "C": "cysteine", "Q": "glutamine",
    "E": "glutamate", "G": "glycine", "H": "histidine", "I": "isoleucine", "L": "leucine", "K": "lysine",
    "M": "methionine", "F": "phenylalanine", "P": "proline", "S": "serine", "T": "threonine", "W": "tryptophan",
    "Y": "tyrosine", "V": "valine",
}  # fmt: skip


def smiles_tokens(text: str) -> list[str]:
    """SMILES -> tokens by the usual pattern (Schwaller et al. 2018, arXiv 1711.04810): ``Cl``, ``[nH]``, ``%12``.

    Joining the tokens gives the string back, whatever the string.
    """
    return SMILES_PATTERN.findall(text)


def selfies_tokens(text: str) -> list[str]:
    """SMILES -> SELFIES tokens (Krenn et al. 2020, arXiv 1905.13741). What SELFIES cannot say is read as SMILES tokens."""
    import selfies

    try:
        return list(selfies.split_selfies(selfies.encoder(text, strict=False)))
    except (selfies.EncoderError, ValueError):
        return smiles_tokens(text)


SPLITTERS: dict[str, Callable[[str], list[str]]] = {
    "smiles": smiles_tokens,
    "selfies": selfies_tokens,
    "amino_acids": list,
    "characters": list,
}
BRACKET_ATOMS = (
    "[nH]", "[C@@H]", "[C@H]", "[C@]", "[C@@]", "[N+]", "[O-]", "[n+]", "[NH+]", "[NH2+]", "[NH3+]", "[nH+]",
    "[S+]", "[S@]", "[S@@]", "[P+]", "[N-]", "[n-]", "[NH-]", "[C-]", "[c-]", "[S-]", "[B-]", "[H]", "[H+]", "[2H]",
    "[Na+]", "[K+]", "[Li+]", "[Ca+2]", "[Mg+2]", "[Cl-]", "[Br-]", "[I-]", "[F-]", "[Si]", "[se]", "[Se]", "[As]",
    "[Sn]", "[Hg]", "[Pt]",
)  # fmt: skip
CHARACTERS = tuple(string.printable[:95])
UNKNOWN = "<unknown>"
NAMES = {
    "amino_acids": AMINO_ACIDS,
    "smiles": {
        "C": "carbon", "c": "aromatic carbon", "N": "nitrogen", "n": "aromatic nitrogen", "O": "oxygen",
        "o": "aromatic oxygen", "S": "sulfur", "s": "aromatic sulfur", "P": "phosphorus", "B": "boron", "F": "fluorine",
        "Cl": "chlorine", "Br": "bromine", "I": "iodine", "=": "double bond", "#": "triple bond", "(": "branch",
        ")": "close", ".": "salt", "[O-]": "oxygen anion", "[N+]": "nitrogen cation", "[nH]": "aromatic nitrogen hydrogen",
        "[Na+]": "sodium", "[K+]": "potassium", "[Cl-]": "chloride", "[Br-]": "bromide", "[H]": "hydrogen",
    },
}  # fmt: skip


def splitter(kind: str, key: str = "input.tokens") -> Callable[[str], list[str]]:
    """Strings to target tokens, by name: ``smiles``, ``selfies``, ``amino_acids`` or ``characters``."""
    if kind not in SPLITTERS:
        raise ConfigError(f"{key}={kind} is not a tokenisation; {nearest(kind, SPLITTERS)}")
    return SPLITTERS[kind]


class TargetTokens:
    """A closed vocabulary of target tokens: a token that is not in it is spelled by its characters.

    tokens: names in id order, :data:`UNKNOWN` first (letters that no chemist writes).
    """

    def __init__(self, kind: str) -> None:
        self.kind, self._split = kind, splitter(kind)
        self.tokens = (UNKNOWN, *CHARACTERS, *_longer_tokens(kind))
        self._id = {token: i for i, token in enumerate(self.tokens)}

    def encode(self, text: str) -> list[int]:
        pieces = [p for token in self._split(text) for p in ([token] if token in self._id else token)]
        return [self._id.get(piece, 0) for piece in pieces]

    def names(self) -> list[str]:
        """What each token means in English, or how it is written."""
        return [NAMES.get(self.kind, {}).get(token, token) for token in self.tokens]


def _longer_tokens(kind: str) -> list[str]:
    if kind == "smiles":
        return ["Cl", "Br", *BRACKET_ATOMS, *(f"%{i}" for i in range(10, 20))]
    if kind == "selfies":
        import selfies

        return sorted(selfies.get_semantic_robust_alphabet() | {"[nop]", "[C@@H1]", "[C@H1]", "[C@]", "[C@@]"})
    return []
