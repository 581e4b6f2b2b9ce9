"""How SMILES and SELFIES fall into tokens. No RDKit is needed; every string is covered."""

from __future__ import annotations

import re

from reprogram.modalities.base import Tokenization

SMILES_PATTERN = re.compile(
    r"(\[[^\]]+]|Br|Cl|[BCNOPSFI]|[bcnops]|\(|\)|\.|=|#|-|\+|\\|/|:|~|@|\?|>|\*|\$|%[0-9]{2}|[0-9]|.)", re.DOTALL
)
BRACKET_ATOMS = (
    "[nH]", "[C@@H]", "[C@H]", "[C@]", "[C@@]", "[N+]", "[O-]", "[n+]", "[NH+]", "[NH2+]", "[NH3+]", "[nH+]",
    "[S+]", "[S@]", "[S@@]", "[P+]", "[N-]", "[n-]", "[NH-]", "[C-]", "[c-]", "[S-]", "[B-]", "[H]", "[H+]", "[2H]",
    "[Na+]", "[K+]", "[Li+]", "[Ca+2]", "[Mg+2]", "[Cl-]", "[Br-]", "[I-]", "[F-]", "[Si]", "[se]", "[Se]", "[As]",
    "[Sn]", "[Hg]", "[Pt]",
)  # fmt: skip
NAMES = {
    "C": "carbon", "c": "aromatic carbon", "N": "nitrogen", "n": "aromatic nitrogen", "O": "oxygen",
    "o": "aromatic oxygen", "S": "sulfur", "s": "aromatic sulfur", "P": "phosphorus", "B": "boron", "F": "fluorine",
    "Cl": "chlorine", "Br": "bromine", "I": "iodine", "=": "double bond", "#": "triple bond", "(": "branch",
    ")": "close", ".": "salt", "[O-]": "oxygen anion", "[N+]": "nitrogen cation", "[nH]": "aromatic nitrogen hydrogen",
    "[Na+]": "sodium", "[K+]": "potassium", "[Cl-]": "chloride", "[Br-]": "bromide", "[H]": "hydrogen",
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


def _selfies_alphabet() -> list[str]:
    import selfies

    return sorted(selfies.get_semantic_robust_alphabet() | {"[nop]", "[C@@H1]", "[C@H1]", "[C@]", "[C@@]"})


SMILES = Tokenization(smiles_tokens, lambda: ["Cl", "Br", *BRACKET_ATOMS, *(f"%{i}" for i in range(10, 20))], NAMES)
SELFIES = Tokenization(selfies_tokens, _selfies_alphabet)
