"""The program and its baselines on the test set, which is read here, once, after everything has been chosen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from reprogram.errors import ConfigError, nearest
from reprogram.evaluation import bootstrap, metrics
from reprogram.evaluation.baselines.base import Baseline, Bench, NotApplicable
from reprogram.evaluation.features import CachedSource
from reprogram.evaluation.verdict import Difference, verdict, worth_paying
from reprogram.interfaces import TargetTask
from reprogram.model import ReprogrammedModel
from reprogram.progress import progress
from reprogram.registry import find, names

if TYPE_CHECKING:
    from reprogram.training.loop import Training

PACKAGE = "reprogram.evaluation.baselines"


@dataclass
class Comparison:
    """Test scores [N, T] of the program and of each baseline, and what they come to.

    metrics / baselines: as ``result.json`` has them. differences: program minus baseline in the leading metric, paired.
    skipped: baselines that do not apply, and why. seconds: what each row took.
    """

    metric: str
    scores: np.ndarray
    metrics: dict[str, metrics.Metric]
    baselines: dict[str, dict[str, Any]] = field(default_factory=dict)
    baseline_scores: dict[str, np.ndarray] = field(default_factory=dict)
    differences: dict[str, Difference] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    verdict: str = ""

    def to_json(self) -> dict[str, Any]:
        """The keys that it adds to ``result.json``."""
        return {
            "metrics": self.metrics,
            "baselines": self.baselines,
            "comparison": {
                "metric": self.metric,
                "differences": {name: vars(d) for name, d in self.differences.items()},
                "skipped": self.skipped,
                "seconds": self.seconds,
            },
            "verdict": self.verdict,
        }


def compare(
    model: ReprogrammedModel,
    target: TargetTask,
    training: Training,
    baselines: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int = 32,
) -> Comparison:
    """Score a trained program and the named baselines (None: all) on the test examples.

    Call it inside :func:`reprogram.evaluation.features.shared_answers`, so that baselines share the source's passes.

    Raises:
        ConfigError: no baseline of that name.
    """
    assert isinstance(model.source, CachedSource), "compare() works inside shared_answers(model)"
    info, labels = target.info, target.test.labels
    started = time.perf_counter()
    scores = model.predict_proba(target.test, batch_size)
    found = Comparison(
        metrics.headline(info.problem, len(info.classes)), scores, metrics.evaluate(scores, labels, info.problem, seed)
    )
    found.seconds["program"] = time.perf_counter() - started
    bench = Bench(model, target, scores, training, seed, batch_size)
    chosen: list[type[Baseline]] = [find(PACKAGE, name, Baseline) for name in _order(baselines)]
    with progress("baselines", len(chosen)) as bar:
        for name, method in zip(_order(baselines), chosen, strict=True):
            started = time.perf_counter()
            try:
                if method.needs_labels and not len(target.train):
                    raise NotApplicable("there are no labels to learn from")
                found.baseline_scores |= method()(bench)
            except NotApplicable as reason:
                found.skipped[name] = str(reason)
            found.seconds[name] = time.perf_counter() - started
            bar.advance(note=name)
    for name, other in found.baseline_scores.items():
        found.baselines[name] = metrics.evaluate(other, labels, info.problem, seed)
        found.differences[name] = difference(found.metric, scores, other, labels, info.problem, seed)
    found.verdict = verdict(found.metrics, found.baselines, found.differences, found.metric, target, model.source.name)
    found.verdict += worth_paying(model.source.bill(), found.differences, found.metric, model.input.trainable() > 0)
    return found


def check_baselines(wanted: Sequence[str] | None) -> None:
    """ConfigError for a name that is none, before a run spends anything on what it is compared with."""
    for name in wanted or ():
        if name not in names(PACKAGE):
            raise ConfigError(f"task.baselines has '{name}', which is no baseline; {nearest(name, names(PACKAGE))}")


def _order(baselines: Sequence[str] | None) -> list[str]:
    return names(PACKAGE) if baselines is None else list(dict.fromkeys(baselines))


def difference(
    metric: str, first: np.ndarray, second: np.ndarray, labels: np.ndarray, problem: str, seed: int = 0
) -> Difference:
    """``first`` minus ``second`` on the same test examples: paired bootstrap, and McNemar's exact test for accuracy."""
    n, columns = len(labels), first.shape[1] if first.ndim > 1 else 1
    pair = {str(i): metrics.statistic(metric, s, labels, problem) for i, s in enumerate((first, second))}
    n = int((~np.isnan(np.asarray(labels, dtype=float))).sum()) if problem == "regression" else n
    drawn = bootstrap.distributions(pair, n, seed, bootstrap.resamples(n, columns))
    gap = drawn["0"] - drawn["1"]
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(pair["0"](np.ones((1, n)))[0] - pair["1"](np.ones((1, n)))[0])
    low, high = (float(x) for x in np.nanpercentile(gap, [2.5, 97.5])) if np.isfinite(gap).any() else (value, value)
    p = mcnemar(first.argmax(1) == labels, second.argmax(1) == labels) if metric == "accuracy" else None
    return Difference(value, low, high, p, bool(np.array_equal(first, second)))


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact two-sided p of McNemar's test (1947) from two rows of hits: do they err on different examples?"""
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)
