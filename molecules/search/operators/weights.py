"""How often each edit is tried: fixed weights, shifted towards the edits whose children succeeded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

FIXED, FLOOR = 0.5, 0.1  # shares of the fixed and of the uniform weights; the rest follows success
FORGET = 0.98  # how much of an edit's record survives each round


class EditWeights:
    """Draws names of edits; :meth:`reward` tells what became of their children."""

    def __init__(self, weights: Mapping[str, float], random: Random) -> None:
        self.weights, self.random, self.names = dict(weights), random, list(weights)
        self._tried = dict.fromkeys(self.names, 1.0)
        self._won = dict.fromkeys(self.names, 0.1)
        self._refresh()

    def draw(self) -> str:
        """The name of an edit."""
        return self.random.choices(self.names, cum_weights=self._cumulative)[0]

    def reward(self, children: Sequence[tuple[str, bool]]) -> None:
        """Tell which edits' children (edit name, did it rank among the best?) succeeded."""
        for name in self.names:
            self._tried[name] = FORGET * self._tried[name] + (1 - FORGET)
            self._won[name] = FORGET * self._won[name] + 0.1 * (1 - FORGET)
        for name, success in children:
            if name not in self._tried:  # made by no edit
                continue
            self._tried[name] += 1
            self._won[name] += success
        self._refresh()

    def _refresh(self) -> None:
        rates = {n: self._won[n] / self._tried[n] * self.weights[n] for n in self.names}
        total_rate, total = sum(rates.values()), sum(self.weights.values())
        running, self._cumulative = 0.0, []
        for n in self.names:
            running += (
                FIXED * self.weights[n] / total + FLOOR / len(self.names) + (1 - FIXED - FLOOR) * rates[n] / total_rate
            )
            self._cumulative.append(running)
