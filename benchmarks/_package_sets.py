"""Labelled sets that lie inside installed packages: small, offline, and not used to shape anything in this toolkit.

``load(name, few, seed)`` -> a target with ``few`` training labels. Topics and parts are the first paragraphs of docstrings:
which of twenty packages, or which part of one package, is described. Molecules and peptides come with B3DB and modlAMP.
"""

from __future__ import annotations

import ast
import csv
import tempfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from reprogram.interfaces import TargetTask

TOPICS = (
    "scipy/stats", "scipy/optimize", "scipy/signal", "scipy/sparse", "sklearn/cluster", "sklearn/linear_model",
    "sympy/polys", "sympy/geometry", "sympy/combinatorics", "networkx/algorithms", "statsmodels/tsa", "torch/distributed",
    "torch/distributions", "torch/fx", "pandas/io", "matplotlib/backends", "PIL", "rdkit/Chem", "transformers/generation",
    "sqlalchemy/sql",
)  # fmt: skip
PARTS = {"scipy": 8, "sympy": 10, "statsmodels": 8, "torch": 10, "networkx": 4, "pandas": 3, "matplotlib": 10}
LETTERS = (60, 400)  # of a paragraph that is kept
TABLES = {  # name -> (file, input column, label column, reader)
    "logbb": ("B3DB/B3DB_regression.tsv", "SMILES", "logBB", "molecules"),
    "bbb external": ("B3DB/B3DB_classification_external.tsv", "SMILES", "BBB+/BBB-", "molecules"),
}
PEPTIDES = {"acp_tm": "ACP_CancPPD_vs_TM.csv", "acp_random": "ACP_CancPPD_vs_Random.csv", "amp_tm": "AMPvsTMset.csv"}
LENGTH = ("length",)  # a value of every docstring set: the logarithm of how many letters its whole docstring has


def folder(package: str) -> Path:
    """Where an installed package lies."""
    found = find_spec(package.partition("/")[0])
    assert found is not None and found.submodule_search_locations, f"the package {package} is not installed"
    return Path(found.submodule_search_locations[0], *package.split("/")[1:])


def paragraphs(root: Path) -> list[tuple[str, str, int]]:
    """(part of the package, first paragraph of a docstring, letters of the whole docstring), each text once."""
    found: dict[str, tuple[str, int]] = {}
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root)
        if "test" in str(inside):
            continue
        try:
            tree = ast.parse(path.read_text(errors="ignore"))
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                text = ast.get_docstring(node) or ""
                first = " ".join(text.split("\n\n")[0].split())
                if LETTERS[0] < len(first) < LETTERS[1]:
                    found.setdefault(first, (inside.parts[0].removesuffix(".py"), len(text)))
    return [(part, text, size) for text, (part, size) in found.items()]


@lru_cache(maxsize=16)
def rows(name: str) -> list[tuple[str, str]]:
    """(text, label) of a docstring set; for ``lengths PACKAGE`` (text, value)."""
    if name == "topics":
        found = [(text, topic) for topic in TOPICS for _, text, _ in paragraphs(folder(topic))[:250]]
        return list(dict(found).items())
    kind, package = name.split()
    read = paragraphs(folder(package))
    if kind == "lengths":
        return [(text, f"{np.log(size):.4f}") for _, text, size in read]
    counts: dict[str, int] = {}
    for part, _, _ in read:
        counts[part] = counts.get(part, 0) + 1
    largest = sorted(counts, key=lambda part: -counts[part])[: PARTS[package]]
    return [(text, part) for part, text, _ in read if part in largest]


def names() -> list[str]:
    """Every set there is."""
    texts = ["topics", *(f"parts {package}" for package in PARTS)]
    return [*texts, "lengths scipy", "lengths sympy", *TABLES, *PEPTIDES]


def load(name: str, few: int, seed: int, test: int = 1000) -> TargetTask:
    """A target with ``few`` training labels, and at most ``test`` test examples."""
    from molecules.targets import molecules_csv
    from reprogram.targets.csv import csv as text_csv
    from reprogram.targets.sequences_csv import sequences_csv

    if name in TABLES:
        file, inputs, label, _ = TABLES[name]
        path = folder(file.split("/")[0]) / file.split("/")[1]
        found = molecules_csv(str(path), inputs, label, labels=few, seed=seed, test_size=0.4, name=name)
    elif name in PEPTIDES:
        lines = (folder("modlamp") / "data" / PEPTIDES[name]).read_text().splitlines()[1:]
        pairs = [(line.split(",")[0].strip(), line.split(",")[-1].strip()) for line in lines if "," in line]
        with _table(pairs) as path:
            found = sequences_csv(str(path), "text", "label", labels=few, seed=seed, test_size=0.4, name=name)
    else:
        with _table(rows(name)) as path:
            found = text_csv(str(path), "text", "label", labels=few, seed=seed, test_size=0.5, name=name)
    if len(found.test) > test:
        picked = np.sort(np.random.default_rng(0).permutation(len(found.test))[:test])
        found.test, found.test_rows = found.test.subset(picked), [found.test_rows[i] for i in picked]
    return found


class _table:
    """A temporary CSV file of (text, label)."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.pairs = pairs

    def __enter__(self) -> Path:
        self.place = tempfile.TemporaryDirectory()
        path = Path(self.place.name) / "set.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(self.pairs)
        return path

    def __exit__(self, *_: object) -> None:
        self.place.cleanup()
