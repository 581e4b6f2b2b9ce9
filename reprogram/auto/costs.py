"""How long a pass of a frozen source will take, learned from the passes already made."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Atom = tuple[str, dict[str, Any]]  # an input method and its options

SLACK = 1.25  # a pass may be this much slower than those before it


def work(atom: Atom) -> float:
    """Size of a pass in arbitrary units: the pixels that it reads, or the spellings of a string."""
    options = atom[1]
    if "sizes" in options:
        return sum(side**2 for side in options["sizes"]) * (2.0 if options.get("flip") else 1.0)
    return float(options.get("spellings", 1)) * (2.0 if "+" in str(options.get("tokens", "")) else 1.0)


@dataclass
class PassCosts:
    """Seconds and work of the passes made, by source."""

    seconds: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    done: dict[int, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def measured(self, source: int, atom: Atom) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[source] += time.monotonic() - started
        self.done[source] += work(atom)

    def expected(self, source: int, atoms: Sequence[Atom]) -> float:
        """Seconds that these passes will take; 0 before the source was measured."""
        if not self.done[source]:
            return 0.0
        return SLACK * sum(map(work, atoms)) * self.seconds[source] / self.done[source]
