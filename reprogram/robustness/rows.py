"""One line of a robustness report, and intervals for shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from reprogram.evaluation.metrics import wilson
from reprogram.result import Result


@dataclass
class Row:
    """kind: ``attack`` (a found failure), ``certificate`` (proven), ``estimate`` (a guess) or ``inspection``.

    threat: what is allowed to change and by how much. n: examples. more: further figures beside the promised ones.
    """

    check: str
    kind: str
    threat: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    flags: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)

    def add_to(self, result: Result) -> None:
        result.add_check(
            self.check, self.kind, self.threat, self.value, self.low, self.high, self.n, list(self.flags), **self.more
        )


def share_row(check: str, kind: str, threat: str, good: Tensor | Sequence[bool] | np.ndarray, **more: Any) -> Row:
    """A row for the share of True in ``good`` [N], with its 95% interval."""
    flags = more.pop("flags", [])
    values = np.asarray(good, dtype=bool)
    interval = wilson(int(values.sum()), len(values))
    return Row(check, kind, threat, **interval, n=len(values), flags=list(flags), more=more)
