"""A program where labels are too few to choose by: the names of the classes, read by the source, are the first guess."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reprogram.errors import SourceError
from reprogram.evaluation.features import source_outputs
from reprogram.full_precision import full_precision
from reprogram.interfaces import OutputMapping, SourceModel, TargetTask, to_tensor_labels
from reprogram.modalities import modality
from reprogram.modalities.base import Named
from reprogram.model import ReprogrammedModel
from reprogram.outputs import __name__ as OUTPUTS
from reprogram.registry import find
from reprogram.selection.candidates import make_input, make_output
from reprogram.selection.choice import Choice
from reprogram.selection.crossval import learn
from reprogram.targets.splits import are_classes


def too_few_to_choose(labels: np.ndarray) -> bool:
    """No class has two examples, so nothing can be held out."""
    return are_classes(labels) and (len(labels) == 0 or int(np.bincount(labels).max()) < 2)


def program_by_names(
    sources: Sequence[SourceModel], target: TargetTask, hints: Mapping[str, Any], seed: int
) -> Choice:
    """The program of the first source that reads class names, fitted. Raises SourceError where none does.

    Where each class has a label it may be a mean with programs that need labels, if that is the preferred one.
    """
    started = time.monotonic()
    train, info = target.train, target.info
    every = len(np.unique(train.labels)) == len(info.classes)
    listed = [
        candidate
        for index, source in enumerate(sources)
        for candidate in modality(info.kind).candidates(source.spec, info, index, hints)
        if reads_names(candidate.output) and (every or make_output(candidate.output).without_labels)
    ]
    listed.sort(key=lambda candidate: "preferred" not in candidate.tags)
    few = "There are no labels to learn from" if not len(train) else "No class has two labels, so none can be held out"
    if not listed:
        raise SourceError(
            f"{few}, and {sources[0].name} reads no class names here: give target.shots=2 or more, or text and source=minilm."
        )
    candidate = listed[0]
    source = sources[candidate.source]
    model = ReprogrammedModel(source, make_input(candidate.input), make_output(candidate.output), info)
    model.to(model.device)
    if len(train):
        with full_precision(model.device):
            outputs = source_outputs(source, train, info, model.input, model.output.taps())
            learn(model.output, outputs, to_tensor_labels(train.labels), info.problem, seed)
    model.settle()
    note = f"{few}: the program that reads the names of the classes was taken, and nothing is forecast."
    row = {"candidate": candidate.name, "kind": candidate.kind, "status": "chosen", "why": note}
    return Choice(model.eval(), candidate, None, [row], [note], seconds=time.monotonic() - started)


def reads_names(output: Named) -> bool:
    """Does this output, or a member of this mean, know something of the classes without labels?"""
    names = [output[0], *(member["name"] for member in output[1].get("members", ()))]
    return any(find(OUTPUTS, name, OutputMapping).without_labels for name in names)
