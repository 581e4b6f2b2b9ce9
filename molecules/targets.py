"""Tables of molecules as targets: SMILES checked and canonicalised, salts and duplicates reported, scaffold split.

Every molecule is read as RDKit's canonical SMILES. The classes of public tables often come from sources that write
molecules differently, and a language model learns the way of writing: on BBBP as published it looks ten points better
than on canonical SMILES of the same molecules. The strings as written are kept (``task.written``) to measure that.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from molecules.attribution import pictures
from molecules.chemistry import canonical, clean, from_block, scaffold
from molecules.featurisers import ECFP4, Descriptors
from molecules.invariance import InvarianceHook
from reprogram.errors import ConfigError, DataError, nearest
from reprogram.ranges import Seed, Shots, TestSize
from reprogram.targets.strings import ReadCell, StringReader, StringTarget, StringTask

SALTS = ("keep", "strip")


@StringTarget
def molecules_csv(salts: str = "keep") -> StringReader:
    """A column of SMILES (or mol blocks: ``structure`` of an .sdf) and one or several label columns.

    split: ``stratified`` or ``scaffold`` (Bemis–Murcko). salts: ``keep`` reads all parts of a molecule and reports how many
    have several, ``strip`` keeps the largest organic part, neutralised.
    """
    return molecule_reader(salts)


def molecule_reader(salts: str = "keep") -> StringReader:
    """How SMILES are read, split, described and compared."""
    if salts not in SALTS:
        raise ConfigError(f"target.salts={salts} is not known; {nearest(salts, SALTS)}")

    def read(cell: str) -> ReadCell:
        if "\n" in cell and "M  END" in cell:
            cell = from_block(cell) or ""
            if not cell:
                return ReadCell(problem="have a structure that RDKit cannot read")
        words = cell.split()
        if not words:
            return ReadCell(problem="have an empty SMILES")
        if len(words) > 1:
            return ReadCell(problem="have more than a SMILES in the cell")
        text = canonical(words[0])
        if text is None:
            return ReadCell(problem="have a SMILES that RDKit cannot parse")
        if "." not in text:
            return ReadCell(text)
        if salts == "keep":
            return ReadCell(text, note="have several parts (salts or solvents)")
        cleaned = clean(text)
        if cleaned is None:
            return ReadCell(problem="have no organic part")
        return ReadCell(cleaned.smiles, note="had several parts, the largest organic one was kept")

    return StringReader(
        "molecule",
        read,
        groups={"scaffold": lambda strings: [scaffold(s) for s in strings]},
        featurisers={"ecfp4": ECFP4(), "descriptors": Descriptors()},
        pictures=pictures,
        checks=(InvarianceHook(),),
    )


def b3db(
    labels: Shots = 64,
    shots: Shots = None,
    split: str = "stratified",
    problem: str = "classification",
    test_size: TestSize = 0.2,
    split_seed: Seed = 0,
    seed: Seed = 0,
) -> StringTask:
    """Blood–brain barrier permeability, 7,805 molecules (Meng et al. 2021), from the package qc-b3db.

    problem: ``classification`` (BBB+ / BBB-) or ``regression`` (logBB of 1,058 molecules).
    """
    if problem not in ("classification", "regression"):
        raise ConfigError(f"target.problem={problem}: b3db allows classification or regression.")
    return molecules_csv(
        str(packaged_table(problem)),
        "SMILES",
        "BBB+/BBB-" if problem == "classification" else "logBB",
        labels=labels,
        shots=shots,
        split=split,
        problem=problem,
        test_size=test_size,
        split_seed=split_seed,
        seed=seed,
        name="b3db",
    )


def packaged_table(problem: str) -> Path:
    """The table inside the installed package."""
    package = find_spec("B3DB")
    if package is None or not package.submodule_search_locations:
        raise DataError("target=b3db needs the package qc-b3db: pip install 'reprogram[language]'.")
    return next(Path(package.submodule_search_locations[0]).rglob(f"B3DB_{problem}.tsv"))
