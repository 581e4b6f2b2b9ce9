"""Hard limits on what may be paid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from reprogram.errors import ConfigError
from reprogram.ranges import Amount, Checked, NotNegative

TRAINING, EVALUATION = "training", "evaluation"


@dataclass(frozen=True)
class Budget(Checked):
    """Hard limits; None means no limit.

    queries: calls for training (evaluation is counted apart and not limited by it).
    price: what all calls together may cost, evaluation included, in the currency of ``price_per_query``.
    evaluation: calls of ``price`` that training must leave for the test set.
    """

    group: ClassVar[str] = "budget."

    queries: Amount | None = None
    price: NotNegative | None = None
    price_per_query: NotNegative = 0.0
    evaluation: Amount = 0

    def __post_init__(self) -> None:
        if self.price is not None and self.price_per_query == 0:
            raise ConfigError(
                f"budget.price={self.price:g} limits nothing while a query costs nothing; "
                "give budget.price_per_query too, or budget.queries."
            )

    def affordable(self, kind: str, paid: Mapping[str, int]) -> float:
        """How many more calls of this kind the limits allow."""
        total = sum(paid.values())
        by_count = math.inf if self.queries is None or kind != TRAINING else self.queries - paid.get(TRAINING, 0)
        by_price = math.inf
        if self.price is not None:
            by_price = math.floor(self.price / self.price_per_query + 1e-9) - total
            if kind == TRAINING:
                by_price -= max(0, self.evaluation - paid.get(EVALUATION, 0))
        return max(0, min(by_count, by_price))

    def __str__(self) -> str:
        limits = [] if self.queries is None else [f"budget.queries={self.queries}"]
        limits += [] if self.price is None else [f"budget.price={self.price:g} at {self.price_per_query:g} a query"]
        return " and ".join(limits) or "no limit"
