"""How strings of chemistry and biology fall into tokens. No RDKit is needed; every string is covered."""

from __future__ import annotations

import re

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
