"""Groups that react, decompose or rearrange before a molecule can be used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from molecules import chemistry
from molecules.chemistry import Mol
from molecules.constraints.base import Constraint

UNSTABLE = {
    "chain of three heteroatoms": "[#7,#8,#16;!a;!$(S(=O)=O);!$([N+](=O)[O-]);!$(N=[N+]=[N-]);!$([N-]=[N+]=N);"
    "!$(N(N=O)C=O)]~[#7,#8;!a;!$([N+](=O)[O-]);!$([N+](=N)=[N-]);!$(N(=O)NC=O)]~[#7,#8,#16;!a;!$(S(=O)=O)]",
    "oxygen bound to oxygen": "[#8]-[#8]",
    "hydrazine": "[NX3;!a;!$(N-C=O);!$(N-S=O);!$(N-[a])]-[NX3;!a;!$(N-C=O);!$(N-S=O);!$(N-[a])]",
    "halogen on a heteroatom": "[F,Cl,Br,I]-[#7,#8,#16,#15;!$(P);!$(S(F)(F))]",
    "cumulated double bonds": "[#6,#7]=[#6]=[#6,#7,#8,#16]",
    "alkyne on a heteroatom": "[CX2]#[CX2]-[#7,#8,#16;!$(S(=O)=O)]",
    "open cyclopentadiene": "[CX4;r5]1-[C;!a;r5]=[C;!a;r5]-[C;!a;r5]=[C;!a;r5]-1",
    "three- or four-membered ring with a double bond": "[r3,r4;!a;!$(*[r3,r4]=[O,N])]=[r3,r4;!a;!$(*[r3,r4]=[O,N])]",
    "geminal hydroxyl, amine or thiol": "[CX4]([OH,NH2,SH])[OH,NH2,SH]",
    "hemiaminal or hemiacetal in the open": "[CX4;!R]([OH])[NX3,OX2;!R;!$([N,O]-C=O)]",
    "enol or enamine in the open": "[CX3;!a;!$(C=O);!$(C=N);!$(C(O)=C(O)C=O);!$(C(O)(C=O)=CO)]"
    "(=[CX3;!a;!$(C-[C,S,N+]=O);!$(C-C#N)])[OH,NH2]",
    "imine without a substituent": "[CX3;!$(C-N);!$(C-O);!$(C-S)]=[NH]",
    "acyl halide": "[CX3](=O)[F,Cl,Br,I]",
    "anhydride": "[CX3](=O)[OX2;!R][CX3]=O",
    "sulfur chain": "[#16;X2]-[#16;X2]-[#16]",
    "metal or odd element": "[!#0;!#1;!#5;!#6;!#7;!#8;!#9;!#14;!#15;!#16;!#17;!#34;!#35;!#53]",
}


@dataclass
class Unstable(Constraint):
    """No chains of heteroatoms, peroxides, enols, hemiacetals, acyl halides and their like; no radical."""

    name: str = "unstable"

    @cached_property
    def _queries(self) -> dict[str, Mol]:
        return {reason: chemistry.smarts(pattern, reason) for reason, pattern in UNSTABLE.items()}

    def reasons(self, mol: Mol) -> list[str]:
        found = [reason for reason, query in self._queries.items() if mol.HasSubstructMatch(query)]
        return [*found, "radical"] if chemistry.is_radical(mol) else found

    def violation(self, mol: Mol) -> float:
        return float(len(self.reasons(mol)))
