"""Labels that the other labels contradict.

What a program says of a training example without that example's own label (exact for closed-form programs, which keep it
as ``output.left_out``; out of fold elsewhere) is compared with the label that was given. With left-out probability p of the
given label among T, and a share r of labels that are wrong and then any other class, a label is wrong with the chance
r·q / ((1 - r)·p + r·q), q = (1 - p) / (T - 1); r is learned from the same examples (expectation-maximisation with a
prior) at every inverse temperature of p, and the chances are averaged by how likely each makes the labels.
The same left-out probabilities are what confident learning reads (Northcutt, Jiang & Chuang 2021, arXiv 1911.00068).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PRIOR_WRONG, PRIOR_LABELS = 0.05, 20.0  # before any label is seen, one in twenty is wrong; worth so many labels
SHARPER = 2.0 ** np.linspace(-1, 3, 17)  # wrong labels made the program less sure than it could be: undone here
LEAST_P = 1e-4  # a program is never so sure that a label cannot be right
STEPS = 50


@dataclass(frozen=True)
class Suspects:
    """given [n]: left-out probability of the label that was given; low is suspicious. wrong [n]: chance that the label is
    wrong. suspected [n]: the class that the rest suggests. share: of wrong labels among all."""

    given: np.ndarray
    wrong: np.ndarray
    suspected: np.ndarray
    share: float

    def ranked(self, most: int | None = None) -> np.ndarray:
        """Rows, the most suspicious first."""
        return np.lexsort((self.given, -self.wrong))[:most]

    def doubtful(self, chance: float = 0.5) -> np.ndarray:
        """Rows whose label is more probably wrong than ``chance``, the most suspicious first."""
        ranked = self.ranked()
        return ranked[self.wrong[ranked] > chance]

    def usually_right(self, rows: np.ndarray) -> float:
        """Share of such a list that is expected to be wrong indeed; NaN for an empty one."""
        return float(self.wrong[rows].mean()) if len(rows) else float("nan")


def find_suspects(probabilities: np.ndarray, labels: np.ndarray) -> Suspects:
    """probabilities [n, T]: of each training example without its own label; rows may be NaN (never left out). labels [n].

    An example whose class has no other is never suspected: the rest cannot know the class. Raises ValueError on shapes.
    """
    probabilities, labels = np.asarray(probabilities, float), np.asarray(labels, int)
    if probabilities.ndim != 2 or len(probabilities) != len(labels) or probabilities.shape[1] < 2:
        raise ValueError(f"{probabilities.shape} left-out probabilities for {labels.shape} labels; [n, T >= 2] and [n]")
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    judged = np.isfinite(probabilities).all(1) & (counts[labels] > 1)
    given, chance, suspected = np.ones(len(labels)), np.zeros(len(labels)), labels.copy()
    if not judged.any():
        return Suspects(given, chance, suspected, PRIOR_WRONG)
    p, y = probabilities[judged] / probabilities[judged].sum(1, keepdims=True), labels[judged]
    given[judged], chance[judged], share = _chances(p, y)
    p = p.copy()
    p[np.arange(len(y)), y] = -1.0
    suspected[judged] = p.argmax(1)
    return Suspects(given, chance, suspected, share)


def _chances(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """(left-out probability of each label, chance that it is wrong, share of wrong labels), averaged over inverse
    temperatures by their likelihood: with few labels several fit about as well, and the best one alone is a coin toss."""
    rows, classes = np.arange(len(labels)), probabilities.shape[1]
    chances, shares, likelihoods = [], [], []
    for power in SHARPER:
        sharp = np.maximum(probabilities, 1e-12) ** power
        given = np.clip((sharp / sharp.sum(1, keepdims=True))[rows, labels], LEAST_P, 1 - LEAST_P)
        other, share = (1.0 - given) / (classes - 1), PRIOR_WRONG
        for _ in range(STEPS):
            wrong = share * other / (share * other + (1.0 - share) * given)
            share = float((wrong.sum() + PRIOR_WRONG * PRIOR_LABELS) / (len(given) + PRIOR_LABELS))
        prior = PRIOR_LABELS * (PRIOR_WRONG * np.log(share) + (1 - PRIOR_WRONG) * np.log(1 - share))
        likelihoods.append(float(np.log(share * other + (1.0 - share) * given).sum() + prior))
        chances.append(wrong)
        shares.append(share)
    weight = np.exp(np.array(likelihoods) - max(likelihoods))
    weight /= weight.sum()
    return probabilities[rows, labels], weight @ np.stack(chances), float(weight @ np.array(shares))
