"""Any text column of a CSV or TSV file: topics, sentiments, scores; classes, many labels, or values."""

from __future__ import annotations

from collections.abc import Sequence

from reprogram.featurisers import TfIdf
from reprogram.interfaces import TargetTask
from reprogram.ranges import Seed, Shots, TestSize
from reprogram.targets.strings import Reader, plain_text, string_task


def csv(
    path: str,
    input_column: str,
    label_column: str | Sequence[str],
    labels: Shots = None,
    shots: Shots = None,
    problem: str = "auto",
    test_size: TestSize = 0.2,
    test_path: str | None = None,
    allow_overlap: bool = False,
    split_seed: Seed = 0,
    seed: Seed = 0,
    name: str | None = None,
    delimiter: str | None = None,
) -> TargetTask:
    """Text classification, multi-label (empty cells are unknown) or regression; see :func:`string_task`."""
    return string_task(
        Reader("text", plain_text, featurisers={"tfidf": TfIdf()}),
        path,
        input_column,
        label_column,
        labels=labels,
        shots=shots,
        problem=problem,
        test_size=test_size,
        test_path=test_path,
        allow_overlap=allow_overlap,
        split_seed=split_seed,
        seed=seed,
        name=name,
        delimiter=delimiter,
    )
