"""Which atoms an answer hangs on: each atom in turn is replaced by a wildcard, and the change of the answer is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from molecules.chemistry import Mol, parse
from reprogram.errors import DataError
from reprogram.interfaces import TargetTask

SHOWN, LARGEST = 6, 40  # molecules in the picture; atoms of a molecule that is drawn
TITLE = "Atoms that the answer hangs on (blue: speaks for it, red: against)"


def atom_attributions(model: nn.Module, smiles: str) -> np.ndarray:
    """[atoms]: how much the answer (logit of the predicted class over the mean of the others, or the value) falls when the
    atom becomes ``*``; occlusion as in Zeiler & Fergus 2014 (arXiv 1311.2901). 0 for an atom that cannot be replaced."""
    mol = _molecule(smiles)
    written = [_without(mol, i) for i in range(mol.GetNumAtoms())]
    usable = [i for i, text in enumerate(written) if text is not None]
    model.eval()
    with torch.no_grad():
        logits = model([smiles, *(written[i] for i in usable)])
    if logits.shape[1] == 1:
        answers = logits[:, 0]
    else:
        top = int(logits[0].argmax())
        answers = logits[:, top] - (logits.sum(1) - logits[:, top]) / (logits.shape[1] - 1)
    found = np.zeros(mol.GetNumAtoms())
    found[usable] = (answers[0] - answers[1:]).cpu().numpy()
    return found


def _molecule(smiles: str) -> Mol:
    mol = parse(smiles)
    if mol is None:
        raise DataError(f"'{smiles}' is not a SMILES that RDKit can parse.")
    return mol


def _without(mol: Mol, index: int) -> str | None:
    from rdkit import Chem

    edited = Chem.RWMol(mol)
    edited.ReplaceAtom(index, Chem.Atom("*"))
    text = Chem.MolToSmiles(edited)
    return text if parse(text) is not None else None


def pictures(model: nn.Module, target: TargetTask) -> dict[str, bytes]:
    """One grid of the first test molecules of moderate size."""
    strings = target.test.batch(np.arange(min(len(target.test), 50)))
    chosen = [s for s in strings if 1 < _molecule(s).GetNumAtoms() <= LARGEST][:SHOWN]
    return {TITLE: draw(chosen, [atom_attributions(model, s) for s in chosen])} if chosen else {}


def draw(smiles: Sequence[str], values: Sequence[np.ndarray]) -> bytes:
    """PNG of molecules with atoms coloured by value, the strongest of each molecule in full colour."""
    from rdkit import Chem
    from rdkit.Chem.Draw import rdMolDraw2D

    columns = 3
    drawer = rdMolDraw2D.MolDraw2DCairo(260 * columns, 220 * -(-len(smiles) // columns), 260, 220)
    colours = []
    for row in values:
        strongest = max(float(np.abs(row).max()), 1e-12)
        colours.append({i: _colour(float(v) / strongest) for i, v in enumerate(row) if abs(v) > 0.1 * strongest})
    drawer.DrawMolecules(
        [Chem.Mol(_molecule(s)) for s in smiles],
        highlightAtoms=[list(c) for c in colours],
        highlightAtomColors=colours,
        highlightBonds=[[] for _ in colours],
    )
    drawer.FinishDrawing()
    return drawer.GetDrawingText()


def _colour(share: float) -> tuple[float, float, float]:
    fade = 1.0 - min(abs(share), 1.0) * 0.7
    return (fade, fade, 1.0) if share > 0 else (1.0, fade, fade)
