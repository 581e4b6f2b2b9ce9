"""Plain features of molecules: fingerprints and descriptors, for baselines and for hybrid programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from molecules.chemistry import fingerprint_matrix, parse
from reprogram.errors import DataError
from reprogram.interfaces import Featuriser

SCALES = Path(__file__).with_name("descriptor_scales.json")
FARTHEST = 10.0  # standard deviations; an extreme descriptor of an odd molecule must not decide alone


def _parsed(batch: Sequence[str]) -> list:
    mols = [parse(smiles) for smiles in batch]
    for smiles, mol in zip(batch, mols):
        if mol is None:
            raise DataError(f"'{smiles}' is not a SMILES that RDKit can parse.")
    return mols


class ECFP4(Featuriser):
    """Folded Morgan bits of radius 2: [B, bits] of 0 and 1 (Rogers & Hahn 2010). ``counts``: bits count occurrences, too."""

    models = ("forest", "logistic")

    def __init__(self, bits: int = 2048, counts: bool = False) -> None:
        self.bits, self.counts = bits, counts

    def __call__(self, batch: Sequence[str]) -> np.ndarray:
        return fingerprint_matrix(_parsed(batch), "ecfp4", self.bits, self.counts)


class Descriptors(Featuriser):
    """RDKit's two-dimensional descriptors: [B, 215], in standard deviations around the mean of ordinary molecules.

    Signed logarithm, what cannot be computed as 0. Means and standard deviations are those of 1,667 molecules of the NCI file
    that comes with RDKit (``python -m molecules.featurisers`` computes them again): sixteen labelled molecules are too few to
    estimate the scale of a descriptor. Ipc and AvgIpc are left out: they take four times as long as all others together.
    """

    models = ("scaled_logistic", "forest")

    def __call__(self, batch: Sequence[str]) -> np.ndarray:
        _parsed(batch)
        centre, std = _scales()
        raw = np.stack([_descriptors(smiles) for smiles in batch])
        return np.clip((raw - centre) / std, -FARTHEST, FARTHEST).astype(np.float32)


@lru_cache(maxsize=1)
def _scales() -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each descriptor, in the file's order; a descriptor that RDKit no longer has is an error."""
    scales = np.array(list(json.loads(SCALES.read_text()).values()))
    return scales[:, 0], scales[:, 1]


@lru_cache(maxsize=1)
def _functions() -> list:
    from rdkit.Chem.Descriptors import descList

    known = dict(descList)
    return [known[name] for name in json.loads(SCALES.read_text())]


@lru_cache(maxsize=20_000)
def _descriptors(smiles: str) -> np.ndarray:
    mol = parse(smiles)
    return _signed_log([function(mol) for function in _functions()])


def _signed_log(values: Sequence[float]) -> np.ndarray:
    finite = np.nan_to_num(np.array(values, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return np.sign(finite) * np.log1p(np.abs(finite))


def reference_scales(every: int = 3) -> dict[str, list[float]]:
    """{descriptor: [mean, std]} of the signed logarithms over RDKit's NCI molecules."""
    from rdkit import RDConfig
    from rdkit.Chem.Descriptors import descList

    functions = {name: function for name, function in descList if name not in ("Ipc", "AvgIpc")}
    lines = (Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi").read_text().splitlines()[::every]
    mols = [mol for mol in (parse(line.split()[0]) for line in lines) if mol is not None]
    table = np.stack([_signed_log([function(mol) for function in functions.values()]) for mol in mols])
    std = np.maximum(table.std(0), 0.1)  # in units of log(1 + value); rare groups must not get extreme values
    return {n: [round(float(m), 5), round(float(s), 5)] for n, m, s in zip(functions, table.mean(0), std)}


if __name__ == "__main__":
    SCALES.write_text(json.dumps(reference_scales(), indent=1) + "\n")
