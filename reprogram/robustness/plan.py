"""Which checks a depth runs, in which order, on how many examples: derived from ``conf/robustness`` and ``conf/check``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from reprogram.errors import ConfigError
from reprogram.ranges import Count
from reprogram.robustness.checks.base import ALL, FEW, Check, Scope
from reprogram.threat import NORMS, Threat

DEPTHS = ("quick", "full")


@dataclass
class Settings:
    """How deep to look; made by :func:`settings` from ``conf/robustness/DEPTH.yaml``.

    examples: test examples drawn by the seed; ``few`` of them for the norms after the first and for expensive checks.
    threats: size of each norm in pixels of the target. checks: by name, in the order in which they run; None: left out.
    """

    examples: Count = 16
    few: Count = 16
    threats: dict[str, float] = field(default_factory=lambda: {"linf": 8 / 255})
    batch_size: Count = 64
    checks: dict[str, Check | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for norm, eps in self.threats.items():
            try:
                Threat(norm, eps)
            except ConfigError as error:
                raise ConfigError(f"robustness.threats.{norm}={eps} is not possible: {error}") from error
        if not self.threats:
            raise ConfigError("robustness.threats names no norm; give linf, l2 or l1 a size, like robustness.threats.linf=0.03.")
        for key in ("examples", "few", "batch_size"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key}={getattr(self, key)} must be at least 1.")

    def to_json(self) -> dict[str, Any]:
        checks = {name: check.config() for name, check in self.checks.items() if check is not None}
        return {
            "examples": self.examples,
            "few": self.few,
            "threats": dict(self.threats),
            "batch_size": self.batch_size,
            "checks": checks,
        }

    def plan(self, model: Any, changes: str) -> Iterator[tuple[Check, Scope]]:
        """Attacks of every norm, then what certifies and estimates by norm, then the rest; only what this model allows.

        changes: what an attack on these inputs changes (:class:`~reprogram.modalities.Modality`).
        """
        wanted = {n: c for n, c in self.checks.items() if c is not None and c.suits(changes) and c.fits(model)}
        by_norm = {name: check for name, check in wanted.items() if check.norms}
        for attacking in (True, False):
            for norm, eps in self.threats.items():
                for name, check in by_norm.items():
                    if (check.kind == "attack") == attacking and norm in check.norms and check.fits(model, norm):
                        yield check, Scope(name, self.count(check, norm), self.threats, Threat(norm, eps))
        first = next(iter(self.threats))
        for name, check in wanted.items():
            if not check.norms:
                yield check, Scope(name, self.count(check, first), self.threats)

    def count(self, check: Check, norm: str) -> int:
        """Examples that a check looks at in this norm."""
        if check.examples == ALL:
            return self.examples if norm == next(iter(self.threats)) else min(self.few, self.examples)
        return min(self.few if check.examples == FEW else int(check.examples), self.examples)


def settings(depth: str, /, **changes: Any) -> Settings:
    """The settings of a depth from Python. ``changes`` replace keys of its file, ``checks`` key by key::

        settings("quick", examples=50, checks={"pgd": {"attack": {"steps": 40}}, "square": None})
    """
    from reprogram.configuration import load

    if "threats" in changes:  # these and no others
        changes["threats"] = dict.fromkeys(NORMS) | dict(changes["threats"])
    made: Settings = load("robustness", depth, **changes).settings
    return made

