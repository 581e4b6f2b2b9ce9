"""What a frozen source answers for a pool of inputs without labels, in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from reprogram.errors import BudgetSpent, DataError
from reprogram.evaluation.features import SourceAnswers
from reprogram.interfaces import InputTransformation, SourceModel, SourceOutput, Tap, TargetInfo
from reprogram.modalities import modality
from reprogram.modalities.batches import to_device
from reprogram.model import ReprogrammedModel, concatenate
from reprogram.progress import progress
from reprogram.sources.reading import reading_notes
from reprogram.targets.base import StringExamples
from reprogram.targets.pool import Pool


def read_pool(
    source: SourceModel, pool: Pool, info: TargetInfo, input: InputTransformation, taps: Sequence[Tap]
) -> tuple[list[SourceOutput], np.ndarray]:
    """(source outputs of a pool, one a view; places [n] of the inputs that could be read).

    ``input`` is unbuilt. Raises BudgetSpent, before anything is asked, where the budget of a query-only source cannot pay
    for the whole pool; DataError where nothing can be read.
    """
    model = ReprogrammedModel(source, input, SourceAnswers(tuple(taps)), info, build=False)
    input.build(source.spec, info)
    model.to(next(iter(source.parameters()), torch.zeros(0)).device).eval()
    if not modality(pool.kind).pixels:
        strings = StringExamples([str(text) for text in pool.contents], np.zeros(len(pool)))
        pool.notes += reading_notes(source, input, strings, "unlabelled")
    _check_budget(model, pool)
    places, parts = list[np.ndarray](), list[list[SourceOutput]]()
    with torch.no_grad(), progress("reading inputs without labels", len(pool)) as bar:
        for found, batch in pool.batches():
            batch = to_device(batch, model.device)
            parts.append([output.detach() for output in model.outputs(batch)])
            places.append(found)
            bar.advance(len(found))
    if not parts:
        raise DataError(f"None of {pool.total:,} inputs without labels can be read. {' '.join(pool.told()[-1:])}".strip())
    return [concatenate([part[view] for part in parts]) for view in range(len(parts[0]))], np.concatenate(places)


def _check_budget(model: ReprogrammedModel, pool: Pool) -> None:
    left = model.source.affordable()
    if left == float("inf"):
        return
    price = model.source.price(view for _, batch in pool.batches() for view in model.input(batch))
    if price > left:
        raise BudgetSpent(
            f"Reading {len(pool):,} inputs without labels needs {price:,} queries and {left:,.0f} are left in the budget, "
            "so none was asked; give a larger source.budget, or fewer inputs."
        )
