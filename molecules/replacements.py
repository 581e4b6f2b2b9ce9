"""Quick SAR at one position: the usual replacements of an atom or a group, as a medicinal chemist would list them.

The position is the atom that carries a map number: ``COc1ccc([CH2:1]c2ccccc2)cc1``.
"""

from __future__ import annotations

from collections.abc import Iterator

from rdkit import Chem

from molecules import chemistry
from molecules.chemistry import Mol
from reprogram.errors import ConfigError

SUBSTITUENTS = {  # of a group at the end of a chain or on a ring; "" is hydrogen
    "H": "",
    "F": "*F",
    "Cl": "*Cl",
    "Br": "*Br",
    "methyl": "*C",
    "ethyl": "*CC",
    "isopropyl": "*C(C)C",
    "cyclopropyl": "*C1CC1",
    "tert-butyl": "*C(C)(C)C",
    "CHF2": "*C(F)F",
    "CF3": "*C(F)(F)F",
    "OH": "*O",
    "methoxy": "*OC",
    "OCF3": "*OC(F)(F)F",
    "SMe": "*SC",
    "NH2": "*N",
    "NHMe": "*NC",
    "NMe2": "*N(C)C",
    "cyano": "*C#N",
    "ethynyl": "*C#C",
    "CH2OH": "*CO",
    "acetyl": "*C(C)=O",
    "carboxamide": "*C(N)=O",
    "carboxylic acid": "*C(=O)O",
    "acetamido": "*NC(C)=O",
    "SO2Me": "*S(C)(=O)=O",
    "SO2NH2": "*S(N)(=O)=O",
    "phenyl": "*c1ccccc1",
    "3-pyridyl": "*c1cccnc1",
    "morpholino": "*N1CCOCC1",
}
BRIDGES = {  # of an atom between two others: element, and what hangs on it
    "CH2": ("C", ()),
    "CHMe": ("C", ("*C",)),
    "CMe2": ("C", ("*C", "*C")),
    "CF2": ("C", ("*F", "*F")),
    "CHF": ("C", ("*F",)),
    "CHOH": ("C", ("*O",)),
    "C=O": ("C", ("*=O",)),
    "NH": ("N", ()),
    "NMe": ("N", ("*C",)),
    "O": ("O", ()),
    "S": ("S", ()),
    "SO": ("S", ("*=O",)),
    "SO2": ("S", ("*=O", "*=O")),
}
BRANCHES = {"CH": ("C", ()), "N": ("N", ()), "CF": ("C", ("*F",)), "CMe": ("C", ("*C",)), "COH": ("C", ("*O",))}


def replacements(text: str, key: str = "start.molecule") -> list[tuple[str, str]]:
    """(what stands there, canonical SMILES): the molecule itself first, then every replacement that is a molecule."""
    mol = Chem.MolFromSmiles(text) if text else None
    marked = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomMapNum()] if mol is not None else []
    if mol is None or len(marked) != 1:
        raise ConfigError(
            f"{key} '{text}' must be a SMILES with one atom that carries a map number, such as COc1ccc([CH2:1]C)cc1."
        )
    mol.GetAtomWithIdx(marked[0]).SetAtomMapNum(0)
    found = {chemistry.canonical(Chem.MolToSmiles(mol)) or text: "as it is"}
    for name, edited in _variants(mol, marked[0]):
        if Chem.SanitizeMol(edited, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE:
            smiles = chemistry.canonical(Chem.MolToSmiles(edited))
            if smiles is not None:
                found.setdefault(smiles, name)
    return [(name, smiles) for smiles, name in found.items()]


def _variants(mol: Mol, at: int) -> Iterator[tuple[str, Chem.RWMol]]:
    atom = mol.GetAtomWithIdx(at)
    orders = [bond.GetBondType() for bond in atom.GetBonds()]
    if atom.GetIsAromatic():
        yield from _aromatic(mol, at)
    elif atom.GetDegree() == 1:
        near = atom.GetNeighbors()[0].GetIdx()
        if orders[0] == Chem.BondType.SINGLE:
            for name, group in SUBSTITUENTS.items():
                yield name, _with_groups(_without(mol, at), near - (at < near), (group,) if group else ())
    elif all(order == Chem.BondType.SINGLE for order in orders) or _carbonyl(mol, at):
        plain = _bare(mol, at)
        table = BRIDGES if plain.GetAtomWithIdx(plain.GetNumAtoms() - 1).GetDegree() == 2 else BRANCHES
        for name, (element, groups) in table.items():
            edited = Chem.RWMol(plain)
            _reset(edited, edited.GetNumAtoms() - 1, element)
            yield name, _with_groups(edited, edited.GetNumAtoms() - 1, groups)


def _aromatic(mol: Mol, at: int) -> Iterator[tuple[str, Chem.RWMol]]:
    """Nitrogen in the ring, or carbon with each of the usual substituents; in a five-membered ring O, S and NH, too."""
    kekulised = Chem.RWMol(mol)
    Chem.Kekulize(kekulised, clearAromaticFlags=True)
    if kekulised.GetAtomWithIdx(at).GetDegree() > 2:
        return
    single = all(b.GetBondType() == Chem.BondType.SINGLE for b in kekulised.GetAtomWithIdx(at).GetBonds())
    for element in ("N", "O", "S") if single else ("N",):
        edited = Chem.RWMol(kekulised)
        _reset(edited, at, element)
        yield {"N": "NH" if single else "N"}.get(element, element), edited
    for name, group in SUBSTITUENTS.items() if not single else ():
        edited = Chem.RWMol(kekulised)
        _reset(edited, at, "C")
        yield f"C-{name}", _with_groups(edited, at, (group,) if group else ())


def _carbonyl(mol: Mol, at: int) -> bool:
    """Double bonds to single oxygens only: C=O, SO2."""
    doubles = [b.GetOtherAtom(mol.GetAtomWithIdx(at)) for b in mol.GetAtomWithIdx(at).GetBonds() if b.GetBondTypeAsDouble() > 1]
    return all(other.GetAtomicNum() == 8 and other.GetDegree() == 1 for other in doubles)


def _bare(mol: Mol, at: int) -> Chem.RWMol:
    """Without the small groups that hang on the atom, which becomes the last one."""
    atom = mol.GetAtomWithIdx(at)
    near = sorted((n for n in atom.GetNeighbors()), key=lambda n: n.GetDegree())
    hanging = [n.GetIdx() for n in near if n.GetDegree() == 1][: max(len(near) - 2, 0)]
    order = [i for i in range(mol.GetNumAtoms()) if i != at and i not in hanging]
    edited = Chem.RWMol(Chem.RenumberAtoms(mol, [*order, at, *hanging]))
    for index in range(mol.GetNumAtoms() - 1, len(order), -1):
        edited.RemoveAtom(index)
    return edited


def _without(mol: Mol, at: int) -> Chem.RWMol:
    edited = Chem.RWMol(mol)
    edited.RemoveAtom(at)
    return edited


def _reset(edited: Chem.RWMol, at: int, element: str) -> None:
    """Another element, its hydrogens by valence, without a stereo mark."""
    atom = edited.GetAtomWithIdx(at)
    atom.SetAtomicNum(Chem.GetPeriodicTable().GetAtomicNumber(element))
    atom.SetFormalCharge(0)
    atom.SetNoImplicit(False)
    atom.SetNumExplicitHs(0)
    atom.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)


def _with_groups(edited: Chem.RWMol, at: int, groups: tuple[str, ...]) -> Chem.RWMol:
    for group in groups:
        piece = Chem.MolFromSmiles(group)
        order = piece.GetBondBetweenAtoms(0, 1).GetBondType()
        size = edited.GetNumAtoms()
        edited = Chem.RWMol(Chem.CombineMols(edited, piece))
        edited.AddBond(at, size + 1, order)
        edited.RemoveAtom(size)
    atom = edited.GetAtomWithIdx(at)
    if not atom.GetFormalCharge():
        atom.SetNoImplicit(False)
        atom.SetNumExplicitHs(0)
    return edited
