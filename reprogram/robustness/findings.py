"""What a check found, as plain data: rows for the report, flags that make one doubt them, masks that checks share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from reprogram.evaluation.metrics import wilson
from reprogram.result import Result


class Flag(NamedTuple):
    """A sign that a figure should not be relied on. ``code`` is for programs, ``text`` for people."""

    code: str
    text: str


@dataclass
class Row:
    """One line of a robustness report.

    kind: ``attack`` (a found failure), ``certificate`` (proven), ``estimate`` (a guess) or ``inspection``. threat: what is
    allowed to change and by how much, for people. n: examples. more: further figures beside the promised ones;
    ``family`` and ``size`` say for programs what kind of change it was and how large.
    """

    check: str
    kind: str
    threat: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    flags: list[Flag] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)

    def add_to(self, result: Result) -> None:
        """Writes the row into ``robustness.rows`` of the result."""
        flags = [flag._asdict() for flag in self.flags]
        result.add_check(self.check, self.kind, self.threat, self.value, self.low, self.high, self.n, flags, **self.more)


def share_row(check: str, kind: str, threat: str, good: Tensor | Sequence[float] | np.ndarray, **more: Any) -> Row:
    """A row for the mean of ``good`` [N] (True and False, or shares of passes), with its 95% interval."""
    flags = more.pop("flags", [])
    values = np.asarray(good, dtype=float)
    interval = wilson(float(values.sum()), len(values))
    return Row(check, kind, threat, **interval, n=len(values), flags=list(flags), more=more)


@dataclass
class Outcome:
    """What one check gives: rows for the report, and masks [N] and distances [N] that later checks compare.

    broken: by norm and attack. survival: likewise the share of passes that are right on what each attack found, for
    models that answer at random. access: of each attack in ``broken``. curves: broken masks by norm and size. distances:
    of the smallest perturbations found, by norm.
    """

    rows: list[Row] = field(default_factory=list)
    broken: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    survival: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    access: dict[str, str] = field(default_factory=dict)
    curves: dict[str, dict[float, Tensor]] = field(default_factory=dict)
    distances: dict[str, Tensor] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": [asdict(row) for row in self.rows],
            "broken": {n: {k: m.int().tolist() for k, m in masks.items()} for n, masks in self.broken.items()},
            "survival": {n: {k: s.tolist() for k, s in shares.items()} for n, shares in self.survival.items()},
            "access": self.access,
            "curves": {n: {str(e): m.int().tolist() for e, m in c.items()} for n, c in self.curves.items()},
            "distances": {
                n: [None if d == float("inf") else d for d in far.tolist()] for n, far in self.distances.items()
            },
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Outcome:
        """What :meth:`to_json` wrote."""

        def mask(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.bool)

        return cls(
            [Row(**row | {"flags": [Flag(*flag) for flag in row["flags"]]}) for row in data["rows"]],
            {n: {k: mask(m) for k, m in masks.items()} for n, masks in data["broken"].items()},
            {n: {k: torch.tensor(s) for k, s in shares.items()} for n, shares in data.get("survival", {}).items()},
            dict(data["access"]),
            {n: {float(e): mask(m) for e, m in curve.items()} for n, curve in data["curves"].items()},
            {n: torch.tensor([float("inf") if d is None else d for d in far]) for n, far in data["distances"].items()},
        )
