"""Structures that a chemist would not draw."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from molecules import chemistry
from molecules.chemistry import Mol
from molecules.constraints.base import Constraint

IMPLAUSIBLE = {
    "chain of three heteroatoms": "[#7,#8,#16;!a;!$(S(=O)=O);!$([N+](=O)[O-])]~[#7,#8;!a;!$([N+](=O)[O-])]~"
    "[#7,#8,#16;!a;!$(S(=O)=O)]",
    "oxygen bound to oxygen": "[#8]-[#8]",
    "hydrazine": "[NX3;!a;!$(N-C=O);!$(N-S=O);!$(N-[a])]-[NX3;!a;!$(N-C=O);!$(N-S=O);!$(N-[a])]",
    "halogen on a heteroatom": "[F,Cl,Br,I]-[#7,#8,#16,#15;!$(P);!$(S(F)(F))]",
    "cumulated double bonds": "[#6,#7]=[#6]=[#6,#7,#8,#16]",
    "triple bond in a small ring": "[r3,r4,r5,r6,r7]#[r3,r4,r5,r6,r7]",
    "aryne or allene in a ring": "[R]=[R]=[R]",
    "three- or four-membered ring with a double bond": "[r3,r4;!a]=[r3,r4;!a]",
    "anti-Bredt double bond": "[R3;!a]=[R2,R3;!a]",
    "geminal hydroxyl, amine or thiol": "[CX4]([OH,NH2,SH])[OH,NH2,SH]",
    "hemiaminal or hemiacetal in the open": "[CX4;!R]([OH])[NX3,OX2;!R;!$([N,O]-C=O)]",
    "enol or enamine in the open": "[CX3;!a;!$(C=O);!$(C=N)](=[CX3;!a;!$(C-[C,S,N+]=O);!$(C-C#N)])[OH,NH2]",
    "imine without a substituent": "[CX3;!$(C-N);!$(C-O);!$(C-S)]=[NH]",
    "acyl halide": "[CX3](=O)[F,Cl,Br,I]",
    "anhydride": "[CX3](=O)[OX2;!R][CX3]=O",
    "sulfur chain": "[#16;X2]-[#16;X2]-[#16]",
    "metal or odd element": "[!#1;!#5;!#6;!#7;!#8;!#9;!#14;!#15;!#16;!#17;!#35;!#53]",
}


@dataclass
class Plausible(Constraint):
    """Structures that a chemist would not draw: chains of heteroatoms, arynes, anti-Bredt bonds, cages, large rings."""

    largest_ring: int = 8
    name: str = "plausible"

    @cached_property
    def _queries(self) -> dict[str, Mol]:
        return {reason: chemistry.smarts(pattern, reason) for reason, pattern in IMPLAUSIBLE.items()}

    def reasons(self, mol: Mol) -> list[str]:
        """What is implausible about the molecule, in words."""
        found = [reason for reason, query in self._queries.items() if mol.HasSubstructMatch(query)]
        if chemistry.largest_ring(mol) > self.largest_ring:
            found.append(f"ring of more than {self.largest_ring} atoms")
        if _is_cage(mol):
            found.append("cage")
        if chemistry.is_radical(mol):
            found.append("radical")
        return found

    def violation(self, mol: Mol) -> float:
        return float(len(self.reasons(mol)))


def _is_cage(mol: Mol) -> bool:
    """An atom in four or more small rings, or three ring-sharing bonds at a saturated atom of three small rings."""
    rings = [set(r) for r in mol.GetRingInfo().AtomRings() if len(r) <= 5]
    counts: dict[int, int] = {}
    for ring in rings:
        for atom in ring:
            counts[atom] = counts.get(atom, 0) + 1
    return any(n >= 3 and not mol.GetAtomWithIdx(atom).GetIsAromatic() for atom, n in counts.items())
