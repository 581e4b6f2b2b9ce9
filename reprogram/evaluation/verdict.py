"""One plain sentence: what to use and why. It is allowed to say "use the linear probe".

It is worded after the fact from paired differences on the test examples; nothing is chosen by them. Because the best of
several baselines is looked for on the test set itself, a tie goes to the baseline, the simpler thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reprogram.evaluation.metrics import LOWER_IS_BETTER, TITLES, better
from reprogram.interfaces import TargetTask

NAMES = {
    "mapping_only": "the same program without its prompt",
    "linear_probe": "the linear probe",
    "nearest_centroid": "the nearest centroid on the source's features",
    "raw_input": "logistic regression on the raw input",
    "random_source": "the same program on a source with random weights",
    "from_scratch": "a small network trained from scratch",
    "as_written": "the same program on the strings as written",
}
CHECKS = ("as_written",)  # rows that are no alternative to the program

MODELS = {
    "logistic": "logistic regression",
    "scaled_logistic": "logistic regression",
    "forest": "a random forest",
    "nearest_centroid": "the nearest centroid",
}
SHORT = {
    "mapping_only": "mapping only",
    "linear_probe": "linear probe",
    "nearest_centroid": "nearest centroid",
    "raw_input": "raw input",
    "random_source": "random weights",
    "from_scratch": "from scratch",
}


@dataclass
class Difference:
    """Program minus baseline on the same test examples, with a 95 % interval; ``p``: McNemar's, for accuracy."""

    value: float
    low: float
    high: float
    p: float | None = None
    same: bool = False  # the baseline is the program itself

    def sign(self, metric: str) -> int:
        """1 where the program is better beyond chance, -1 where the baseline is, else 0."""
        low, high = (-self.high, -self.low) if metric in LOWER_IS_BETTER else (self.low, self.high)
        return 1 if low > 0 else -1 if high < 0 else 0


def verdict(
    metrics: Mapping[str, Any],
    baselines: Mapping[str, Mapping[str, Any]],
    differences: Mapping[str, Difference],
    metric: str,
    target: TargetTask,
    source: str,
) -> str:
    """The sentence. ``metrics`` and ``baselines`` as in ``result.json``, ``metric`` the leading one."""
    value = metrics[metric]["value"]
    asked = f"on {len(target.test):,} test examples, from {len(target.train):,} labels"
    if value is None:
        return f"The test set does not allow a {TITLES[metric]}: it has one class only."
    rivals = {n: m for n, m in baselines.items() if n not in CHECKS}
    others = {n: m[metric]["value"] for n, m in rivals.items() if not differences[n].same}
    others = {n: v for n, v in others.items() if v is not None}
    if not others:
        return f"The program reaches {shown(metric, value)} {asked}; no baseline was run."
    best = max(others, key=lambda n: -others[n] if metric in LOWER_IS_BETTER else others[n])
    floor = chance(metric, target)
    if floor is not None and not _learned(metrics[metric], floor, metric) and not better(metric, others[best], floor):
        return (
            f"Use neither the program nor a baseline yet: the program's {shown(metric, value)} {asked} is not better "
            f"than always answering the most frequent class ({shown(metric, floor)}); more labels are needed."
        )
    gap, name = differences[best], called(best)
    sign = gap.sign(metric)
    if sign > 0:
        return (
            f"Use the program: it reaches {shown(metric, value)} {asked}, {_apart(metric, gap)} better than {name}, "
            f"the best baseline ({shown(metric, others[best], bare=True)}).{_doubt(differences, metric)}"
        )
    if sign < 0:
        return (
            f"Use {name}: it reaches {shown(metric, others[best])} {asked}, {_apart(metric, gap)} better than the "
            f"program ({shown(metric, value, bare=True)})."
        )
    return (
        f"Use {name}: with {shown(metric, others[best])} {asked} it does not differ measurably from the program "
        f"({shown(metric, value, bare=True)}; 95 % interval of the difference {_ends(metric, gap)}), and it is simpler."
        if best not in ("random_source", "from_scratch")
        else f"The program reaches {shown(metric, value)} {asked} and does not differ measurably from {name} "
        f"({shown(metric, others[best], bare=True)}): what the source {source} has learned does not help here."
    )


def called(name: str) -> str:
    """A baseline's row name in words."""
    if name in NAMES:
        return NAMES[name]
    features, _, model = name.partition("+")
    return f"{MODELS.get(model, model)} on {features}" if model else f"a simple model on {features}"


def short(name: str) -> str:
    """A baseline's row name where there is little room."""
    return SHORT.get(name, name.replace("+", " + ").replace("_", " "))


def shown(metric: str, value: float, bare: bool = False) -> str:
    """``96.1 % accuracy``, ``ROC-AUC 0.912``; ``bare`` leaves the metric's name out."""
    if metric == "accuracy":
        return f"{100 * value:.1f} %" if bare else f"{100 * value:.1f} % accuracy"
    return f"{value:.3f}" if bare else f"{TITLES[metric]} {value:.3f}"


def _apart(metric: str, gap: Difference) -> str:
    if metric == "accuracy":
        return f"{100 * abs(gap.value):.1f} points ({_ends(metric, gap)})"
    return f"{abs(gap.value):.3f} ({_ends(metric, gap)})"


def _ends(metric: str, gap: Difference) -> str:
    low, high = sorted((gap.low, gap.high)) if gap.value >= 0 else sorted((-gap.low, -gap.high))
    scale, digits = (100, 1) if metric == "accuracy" else (1, 3)
    return f"{scale * low:.{digits}f} to {scale * high:.{digits}f}"


def _doubt(differences: Mapping[str, Difference], metric: str) -> str:
    """What the numbers also say: a prompt that does not pay."""
    prompt = differences.get("mapping_only")
    if prompt is not None and not prompt.same and prompt.sign(metric) == 0:
        return " Its prompt adds nothing that can be measured here."
    return ""


def worth_paying(bill: Mapping[str, Any], differences: Mapping[str, Difference], metric: str, searched: bool) -> str:
    """What a black-box (query-only) model has cost, and whether a searched prompt was worth it; empty for others.

    Every search starts from the map that the first pass fitted, which is the row ``mapping_only``.
    """
    queries = bill.get("by_kind", {}).get("training", 0)
    if not queries:
        return ""
    price = f" ({bill['price']:g} in all, evaluation included)" if bill.get("price") else ""
    start = differences.get("mapping_only")
    if not searched or start is None:
        return f" It took {queries:,} queries{price}."
    if start.sign(metric) > 0:
        return f" It took {queries:,} queries{price}; the search added {_apart(metric, start)} to the first pass."
    return (
        f" It took {queries:,} queries{price}, and nothing beyond the first pass was worth paying for: the search "
        "added nothing that can be measured."
    )


def search_outcome(search: Mapping[str, Any]) -> str:
    """What a :class:`~reprogram.training.hold_out_selection.HoldOutSelection` found of a search
    that sees losses only; empty without one."""
    if not search:
        return ""
    judged = f"on {search['held_out']} labels kept out of the search, its squared error"
    if search["kept"] == "search":
        return f" Judged {judged} fell by {search['gain']:.3f} ± {search['standard_error']:.3f}."
    return (
        f" The search ended no better than its start: {judged} did not fall by more than one standard error "
        f"({search['gain']:.3f} ± {search['standard_error']:.3f}), so the start is what was kept."
    )


def chance(metric: str, target: TargetTask) -> float | None:
    """What always answering the most frequent class would get on the test set (regression: the training mean)."""
    known = np.asarray(target.test.labels, dtype=float)
    if metric == "accuracy":
        return float(np.bincount(known.astype(int)).max() / len(known))
    if metric == "rmse":
        known = known.reshape(len(known))
        middle = np.nanmean(np.asarray(target.train.labels, dtype=float))
        return float(np.sqrt(np.nanmean((known - middle) ** 2)))
    return 0.5 if metric == "roc_auc" else None


def _learned(metric_value: Mapping[str, Any], floor: float, metric: str) -> bool:
    bound = metric_value["high"] if metric in LOWER_IS_BETTER else metric_value["low"]
    return better(metric, metric_value["value"] if bound is None else bound, floor)
