"""What accuracy to expect with these labels and with twice as many."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Evidence:
    """What a program knows of itself without a test set.

    labels: n. classes: T. foreseen, foreseeable: labelled examples that the rest predicts rightly, and those whose class has
    another example. sure: mean left-out probability of the given label. confidence: mean largest probability over the pool.
    """

    labels: int
    classes: int
    foreseen: int
    foreseeable: int
    sure: float
    confidence: float

    @classmethod
    def of(cls, left_out: np.ndarray, labels: np.ndarray, pool: np.ndarray) -> Evidence:
        """left_out [n, T], labels [n], pool [N, T]: probabilities."""
        counts = np.bincount(labels, minlength=left_out.shape[1])
        seen = (counts[labels] > 1) & np.isfinite(left_out).all(1)
        right = left_out[seen].argmax(1) == labels[seen]
        sure = left_out[seen, labels[seen]]
        return cls(
            len(labels),
            left_out.shape[1],
            int(right.sum()),
            int(seen.sum()),
            float(sure.mean()) if len(sure) else float("nan"),
            float(pool.max(1).mean()),
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"sure": None if np.isnan(self.sure) else self.sure}
