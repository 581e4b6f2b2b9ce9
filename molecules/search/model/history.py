"""What a surrogate search has evaluated so far, and the Gaussian process that is fitted on it."""

from __future__ import annotations

import math

import numpy as np

from molecules import chemistry
from molecules.objective import Scored
from molecules.search.model.features import ELEMENTS, Features
from molecules.search.model.fit_values import ScoreRange, to_fit
from molecules.search.model.tanimoto_gp import CANDIDATES, KINDS, Kernel, TanimotoGP, best_kernel

ALL_KINDS = (*KINDS, "ap")
RESELECT = 1.6  # the kernel is chosen again each time that the number of evaluated molecules has grown by this factor
SELECT_ON = 400  # molecules used to choose it


class History:
    """Evaluated molecules with their features, in order; the last 1% gain of the top ten."""

    def __init__(self) -> None:
        self.scored: list[Scored] = []
        self.features = Features.of([], ALL_KINDS).compact()
        self.best_mean, self.best_at = -math.inf, 0

    def __len__(self) -> int:
        return len(self.scored)

    def add(self, known: list[Scored]) -> None:
        self.scored += known
        mols = [m for m in (chemistry.parse(s.smiles) for s in known) if m is not None]
        self.features = self.features.joined(Features.of(mols, ALL_KINDS).compact())

    def note_gain(self, top: float) -> None:
        """``top``: mean score of the ten best by now."""
        if top > self.best_mean + 0.01 * abs(self.best_mean) or math.isinf(self.best_mean):
            self.best_mean, self.best_at = top, len(self)

    @property
    def flat(self) -> bool:
        """Nothing to learn from yet: no molecule was scored, or all have the same score."""
        return len({(s.score, s.violation) for s in self.scored}) < 2

    def values(self) -> np.ndarray:
        """What the Gaussian process is fitted on, float [N]."""
        return to_fit(self.raw(), self.violations())

    def raw(self) -> np.ndarray:
        """Scores, float [N]."""
        return np.array([s.score for s in self.scored])

    def violations(self) -> np.ndarray:
        """How far each misses the constraints, float [N]."""
        return np.array([s.violation for s in self.scored])

    def scale(self) -> ScoreRange:
        """The range of the scores so far."""
        return ScoreRange.of(self.raw())

    def surplus(self, best: int = 50) -> dict[str, float]:
        """How many more atoms of each element the ``best`` molecules have than all that were evaluated, on average."""
        counts = self.features.descriptors[:, : len(ELEMENTS)]
        order = np.argsort([-s.score for s in self.scored], kind="stable")[:best]
        return dict(zip(ELEMENTS, (counts[order].mean(0) - counts.mean(0)).tolist()))

    def leaders(self, among: int, count: int = 20) -> list[str]:
        """Up to ``count`` of the best ``among`` that are less than 0.5 similar to each other (sphere exclusion)."""
        order = np.argsort([-s.score for s in self.scored], kind="stable")[:among]
        prints = self.features.take(order, ["ecfp4"]).fingerprints["ecfp4"]
        taken: list[int] = []
        covered = np.zeros(len(order), dtype=bool)
        while len(taken) < count and not covered.all():
            first = int(np.argmin(covered))
            taken.append(first)
            covered |= chemistry.tanimoto(prints[first : first + 1], prints)[0] >= 0.5
            covered[first] = True
        return [self.scored[order[i]].smiles for i in taken]


class SurrogateModel:
    """Fits a Gaussian process on a part of the history.

    points: (best, latest, random) molecules of the history that it is fitted on.
    """

    def __init__(self, points: tuple[int, int, int], rng: np.random.Generator) -> None:
        self.points, self.rng = points, rng
        self.kernel: Kernel | None = None
        self.selected_at = 0

    def fit(self, history: History) -> TanimotoGP:
        values = history.values()
        best, latest, any_ = self.points
        order = np.argsort(-values, kind="stable")
        rows = {*order[:best].tolist(), *range(max(len(values) - latest, 0), len(values))}
        rest = np.setdiff1d(np.arange(len(values)), np.fromiter(rows, int))
        rows |= set(self.rng.permutation(rest)[:any_].tolist())
        chosen = np.array(sorted(rows))
        if self.kernel is None or len(history) >= RESELECT * self.selected_at:
            subset = chosen[np.argsort(-values[chosen], kind="stable")[:SELECT_ON]]
            self.kernel = best_kernel(history.features.take(subset), values[subset], CANDIDATES)
            self.selected_at = len(history)
        return TanimotoGP(self.kernel).fit(history.features.take(chosen, self.kernel.kinds()), values[chosen])
