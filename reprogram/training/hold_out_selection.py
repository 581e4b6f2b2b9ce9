"""A search that sees losses only never returns something worse than its start, as far as labels can tell.

Three labels in ten of each class are kept out of the search and out of its mapping. After every epoch, and once more when
the budget ends the search, the training inputs are asked under the current program: the mapping is fitted again on the
searched part, and the squared error of calibrated probabilities (:mod:`reprogram.training.brier`) on the held-out part is
compared with the start's, example by example. The best program must beat the start by more than one standard error of that
difference; otherwise the start is returned. Either way its mapping is then fitted on all labels, from answers that are
paid for already.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprogram.errors import BudgetSpent
from reprogram.interfaces import Examples, SourceOutput, to_tensor_labels
from reprogram.modalities.batches import to_device
from reprogram.model import READ_AT_ONCE, ReprogrammedModel, pick
from reprogram.targets.splits import are_classes, take
from reprogram.training import brier
from reprogram.training.base import fit_mapping

HELD_OUT = 0.3  # share of each class's labels


def held_out(labels: np.ndarray, seed: int) -> np.ndarray:
    """Bool [N]: 30% of each class and at least one, none of a class of one; without classes 30% of all."""
    strata = labels if are_classes(labels) else np.zeros(len(labels), int)
    present, sizes = np.unique(strata, return_counts=True)
    counts = {int(c): max(1, round(HELD_OUT * size)) for c, size in zip(present, sizes, strict=True) if size > 1}
    held = np.zeros(len(labels), bool)
    for rows in take(strata, counts, np.random.default_rng([seed, 0x6A])):
        held[rows] = True
    return held


class HoldOutSelection:
    """Keeps the best program of a search. ``searched``: rows that the search may use; ``points``: what was judged."""

    def __init__(self, model: ReprogrammedModel, examples: Examples, seed: int) -> None:
        self.model, self.examples = model, examples
        self.labels = to_tensor_labels(examples.labels).to(model.device)
        held = held_out(examples.labels, seed)
        self.held = np.flatnonzero(held) if held.any() else np.arange(len(examples))  # classes of one: judged in sample
        self.searched = np.flatnonzero(~held)
        self.refits = model.output.statistics or model.output.closed_form
        self.points: list[dict[str, Any]] = []
        self.start = self.best = torch.empty(0)  # held-out squared errors
        self.first = self.kept = self.judged = model.program()

    @property
    def queries(self) -> int:
        """Inputs that one judgement asks for, an upper bound of what it costs."""
        count = len(self.examples) if self.refits else len(self.held)
        one = self.examples.batch(np.arange(1))
        views = len(self.model.input(to_device(one, self.model.device)))
        return count * views * self.model.source.queries_each

    def searching(self) -> Any:
        """Inside, what the next judgement needs cannot be spent."""
        return self.model.source.holding_back(self.queries)

    @torch.no_grad()
    def judge(self, epoch: int) -> dict[str, Any]:
        """Ask, refit the mapping for the epochs to come, and keep the program if it is the best so far.

        Raises BudgetSpent, before anything is paid, when the budget cannot pay for the whole judgement.
        """
        if self.points and _same(self.judged, self.model.program()):  # the budget ended between two epochs
            return self.points[-1]
        rows = np.arange(len(self.examples)) if self.refits else self.held
        self._check_budget(rows)
        outputs = self._asked(rows)
        if self.refits:
            fit_mapping(self.model.output, pick(outputs, torch.from_numpy(self.searched)), self.labels[self.searched])
            outputs = pick(outputs, torch.from_numpy(self.held))
        logits, labels = self.model.output(outputs).float(), self.labels[self.held]
        problem = self.model.target.problem
        predicted = brier.squash(logits * brier.inverse_temperature(logits, labels, problem), problem)
        errors = brier.squared_error(predicted, labels, problem).nan_to_num().cpu()
        if epoch == 0:
            self.start = errors
        self.judged = self.model.program()
        if epoch == 0 or errors.mean() < self.best.mean():
            self.best, self.kept = errors, self.judged
        point: dict[str, Any] = {"epoch": epoch, "held_out_error": float(errors.mean())}
        if not self.model.source.differentiable:
            point["queries"] = int(self.model.source.bill()["queries"])
        if self.model.target.problem == "classification":
            point["held_out_accuracy"] = float((logits.argmax(1) == labels).float().mean())
        self.points.append(point)
        return point

    @torch.no_grad()
    def finish(self) -> dict[str, Any]:
        """Put the kept program in force, its mapping fitted on all labels; returns what ``result.json`` says of it."""
        fall = (self.start - self.best).double()
        error = float(fall.std() / len(fall) ** 0.5) if len(fall) > 1 else float("inf")
        better = float(fall.mean()) > error
        self.model.load_program(self.kept if better else self.first)
        if self.refits:
            fit_mapping(self.model.output, self._asked(np.arange(len(self.examples))), self.labels)
        best = min(self.points, key=lambda point: point["held_out_error"])
        return {
            "kept": "search" if better else "start",
            "best_epoch": best["epoch"],
            "held_out": len(self.held),
            "gain": float(fall.mean()),
            "standard_error": error,
            "points": self.points,
        }

    def state_dict(self) -> dict[str, Any]:
        return {"points": self.points, "best": self.best, "kept": self.kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.points, self.best, self.kept = state["points"], state["best"], state["kept"]
        self.judged = self.model.program()  # a checkpoint is written after a judgement

    def _check_budget(self, rows: np.ndarray) -> None:
        source, left = self.model.source, self.model.source.affordable()
        if math.isinf(left):
            return
        with self.model.batches(self.examples.subset(rows), READ_AT_ONCE, "what judging costs") as batches:
            price = source.price(view for batch in batches for view in self.model.input(batch))
        if price > left:
            raise BudgetSpent(f"Judging the program needs {price:,} queries and {left:,.0f} are left in the budget.")

    def _asked(self, rows: np.ndarray) -> list[SourceOutput]:
        with self._whole_size():
            return self.model.collect(self.examples.subset(rows), description="judging the program")

    @contextmanager
    def _whole_size(self) -> Iterator[None]:
        side, self.model.working_size = self.model.working_size, None
        try:
            yield
        finally:
            self.model.working_size = side


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())
