"""What scoring a candidate will cost: seconds, learned from the passes already made, and queries of a paid source."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from reprogram.errors import BudgetSpent
from reprogram.interfaces import InputTransformation, SourceModel, TargetTask
from reprogram.ledger import EVALUATION
from reprogram.modalities import Candidate
from reprogram.modalities.base import Named
from reprogram.model import READ_AT_ONCE
from reprogram.selection.candidates import make_input

SLACK = 1.25  # a pass may be this much slower than those before it


@dataclass
class PassCosts:
    """Seconds and work of the passes made, by source."""

    seconds: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    done: dict[int, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def measured(self, source: int, atom: Named) -> Iterator[None]:
        """The time within this block counts as the cost of one pass of that atom."""
        started = time.monotonic()
        yield
        self.seconds[source] += time.monotonic() - started
        self.done[source] += make_input(atom).work()

    def expected(self, source: int, atoms: Sequence[Named]) -> float:
        """Seconds that these passes will take; 0 before the source was measured."""
        if not self.done[source]:
            return 0.0
        return SLACK * sum(make_input(atom).work() for atom in atoms) * self.seconds[source] / self.done[source]


def check_budget(
    source: SourceModel, target: TargetTask, candidate: Candidate, readers: Sequence[InputTransformation]
) -> None:
    """Can the budget pay for what ``readers`` show of the training examples and, where the whole bill is limited, for
    what the candidate will show of the test examples? Raises BudgetSpent before anything is paid."""
    if source.differentiable:
        return
    size = len(target.train)
    batches = [target.train.batch(rows) for rows in np.array_split(np.arange(size), -(-size // READ_AT_ONCE))]
    price = source.price(view for batch in batches for reader in readers for view in reader(batch))
    if price > source.affordable():
        raise BudgetSpent(f"it needs {price:,} more queries and {source.affordable():,.0f} are left in the budget")
    left = source.affordable(EVALUATION) - price
    if math.isfinite(left):
        whole = make_input(candidate.input)
        whole.build(source.spec, target.info)
        needed = len(target.test) * len(whole(batches[0][:1])) * source.queries_each
        if needed > left:
            raise BudgetSpent(f"its evaluation needs {needed:,} queries and {left:,.0f} would be left in the budget")
