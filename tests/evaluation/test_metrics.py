"""Metrics: scikit-learn's values, intervals that cover, masked labels, absent classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn import metrics as sk

from reprogram.evaluation import bootstrap, metrics


def example(n=60, classes=3, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    scores = rng.random((n, classes)) + 0.8 * np.eye(classes)[labels]
    scores = np.round(scores, 1) if ties else scores
    return scores / scores.sum(1, keepdims=True), labels


def test_values_are_those_of_scikit_learn():
    scores, labels = example()
    found = metrics.evaluate(scores, labels, "classification")
    answers = scores.argmax(1)
    expected = {
        "accuracy": sk.accuracy_score(labels, answers),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, answers),
        "macro_f1": sk.f1_score(labels, answers, average="macro"),
        "roc_auc": sk.roc_auc_score(labels, scores, multi_class="ovr"),
        "pr_auc": sk.average_precision_score(np.eye(3)[labels], scores, average="macro"),
    }
    assert {k: found[k]["value"] for k in expected} == pytest.approx(expected)
    assert all(m["low"] <= m["value"] <= m["high"] for m in found.values())


RANKED = {
    "roc_auc": (bootstrap.roc_auc, sk.roc_auc_score),
    "average_precision": (bootstrap.average_precision, sk.average_precision_score),
}


@pytest.mark.parametrize("name", RANKED)
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_weighted_ranking_equals_scikit_learn_on_the_resample(name, seed, ties):
    vectorised, reference = RANKED[name]
    rng = np.random.default_rng(seed)
    positive, scores = rng.random(25) < 0.4, rng.random(25)
    scores = np.round(scores, 1) if ties else scores
    if not 0 < positive.sum() < 25:
        return
    drawn = bootstrap.counts(25, 4, rng)
    with np.errstate(invalid="ignore"):
        values = vectorised(positive, scores)(drawn)
    for count, value in zip(drawn.astype(int), values, strict=True):
        y, s = np.repeat(positive, count), np.repeat(scores, count)
        if 0 < y.sum() < len(y):
            assert value == pytest.approx(reference(y, s))
        elif name == "roc_auc":
            assert np.isnan(value)


def test_every_regression_statistic_equals_the_library_on_resamples():
    rng = np.random.default_rng(1)
    known = np.round(rng.normal(size=30), 1)
    predicted = np.round(known + rng.normal(size=30), 1)
    drawn = bootstrap.counts(30, 5, rng)
    statistics = {m: metrics.statistic(m, predicted, known, "regression") for m in ("rmse", "mae", "r2", "spearman")}
    for row in drawn:
        y, p = np.repeat(known, row.astype(int)), np.repeat(predicted, row.astype(int))
        values = {name: float(s(row[None])[0]) for name, s in statistics.items()}
        assert values == pytest.approx(
            {
                "rmse": sk.root_mean_squared_error(y, p),
                "mae": sk.mean_absolute_error(y, p),
                "r2": sk.r2_score(y, p),
                "spearman": spearmanr(y, p).statistic,
            }
        )


def test_classification_statistics_equal_the_library_on_resamples():
    scores, labels = example(40, 4, seed=3)
    for row in bootstrap.counts(40, 5, np.random.default_rng(0)).astype(int):
        y, s = np.repeat(labels, row), np.repeat(scores, row, axis=0)
        for metric, value in {
            "accuracy": sk.accuracy_score(y, s.argmax(1)),
            "balanced_accuracy": sk.balanced_accuracy_score(y, s.argmax(1)),
            "macro_f1": sk.f1_score(y, s.argmax(1), average="macro"),
        }.items():
            found = metrics.statistic(metric, scores, labels, "classification")(row[None].astype(float))
            assert found[0] == pytest.approx(value)


def test_wilson_interval_of_ten_in_ten():
    assert metrics.wilson(10, 10) == pytest.approx({"value": 1.0, "low": 0.7225, "high": 1.0}, abs=1e-4)
    assert metrics.wilson(0, 10)["low"] == 0.0 and metrics.wilson(0, 10)["high"] == pytest.approx(0.2775, abs=1e-4)


def test_a_perfect_score_is_not_certain():
    labels = np.repeat([0, 1], 10)
    found = metrics.evaluate(np.eye(2)[labels] * 0.98 + 0.01, labels, "classification")
    for metric in ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "pr_auc"):
        assert found[metric]["value"] == 1.0 and 0.6 < found[metric]["low"] < 0.9, metric


def test_intervals_cover_the_truth_about_95_percent_of_the_time():
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(40):
        labels = rng.integers(0, 2, 150)
        shown = labels + rng.normal(size=150)  # the true area is P(N(1, 2) > 0) = Phi(1 / sqrt 2)
        chance = 1 / (1 + np.exp(-shown))
        area = metrics.evaluate(np.c_[1 - chance, chance], labels, "classification", seed=trial)["roc_auc"]
        inside += area["low"] <= 0.7602 <= area["high"]
    assert 34 <= inside <= 40


def test_same_seed_same_interval():
    scores, labels = example()
    first, second, third = (metrics.evaluate(scores, labels, "classification", seed=s) for s in (1, 1, 2))
    assert first == second and first["roc_auc"] != third["roc_auc"]


def test_class_absent_from_the_test_set_leaves_the_others_defined():
    scores, labels = example(50, 4)
    labels[labels == 3] = 0
    found = metrics.evaluate(scores, labels, "classification")
    assert found["roc_auc"]["value"] == pytest.approx(
        np.mean([sk.roc_auc_score(labels == c, scores[:, c]) for c in range(3)])
    )


def test_one_class_in_the_test_set_has_no_ranking():
    found = metrics.evaluate(np.full((8, 2), 0.5), np.zeros(8, dtype=int), "classification")
    assert found["roc_auc"] == {"value": None, "low": None, "high": None}
    assert found["accuracy"]["value"] == 1.0


def test_calibration_error_of_a_known_case():
    scores = np.tile([0.8, 0.2], (100, 1))
    labels = np.array([0] * 60 + [1] * 40)
    found = metrics.evaluate(scores, labels, "classification")["calibration_error"]
    assert found["value"] == pytest.approx(0.2) and found["low"] < 0.2 < found["high"]


def test_missing_labels_are_masked():
    rng = np.random.default_rng(0)
    labels = (rng.random((80, 3)) < 0.5).astype(float)
    scores = np.clip(0.3 * rng.random((80, 3)) + 0.5 * labels, 0, 1)
    masked = labels.copy()
    masked[::3, 0] = np.nan
    masked[:, 2] = np.nan
    found = metrics.evaluate(scores, masked, "multilabel")
    rows = ~np.isnan(masked[:, 0])
    expected = [sk.roc_auc_score(labels[rows, 0], scores[rows, 0]), sk.roc_auc_score(labels[:, 1], scores[:, 1])]
    assert found["roc_auc"]["value"] == pytest.approx(np.mean(expected))
    unmasked = ~np.isnan(masked)
    hits = ((scores >= 0.5) == labels)[unmasked]
    assert found["accuracy"]["value"] == pytest.approx(hits.mean())
    assert all(m["low"] <= m["value"] <= m["high"] for m in found.values())


def test_missing_regression_values_are_left_out():
    found = metrics.evaluate(np.array([1.0, 2.0, 3.5, 9.0]), np.array([[1.0], [2.0], [3.0], [np.nan]]), "regression")
    assert found["mae"]["value"] == pytest.approx(0.5 / 3)


@pytest.mark.parametrize("scores", [np.zeros((0, 2)), np.zeros((3, 2))])
def test_predictions_that_do_not_fit_are_refused(scores):
    with pytest.raises(ValueError, match="both must be the same and not zero"):
        metrics.evaluate(scores, np.zeros(0 if len(scores) == 0 else 2, dtype=int), "classification")


def test_large_tests_draw_fewer_resamples():
    assert bootstrap.resamples(500, 10) == 1000
    assert bootstrap.resamples(50_000, 100) == 200


def test_the_calibration_interval_is_read_from_the_other_side():
    """Resampling adds to a calibration error, so plain percentiles lie above the truth; a calibrated model shows it."""
    holds = plain = 0
    for trial in range(30):
        rng = np.random.default_rng(trial)
        chance = rng.random(300)
        labels = (rng.random(300) < chance).astype(int)  # the true error is 0
        scores = np.c_[1 - chance, chance]
        found = metrics.evaluate(scores, labels, "classification", seed=trial)["calibration_error"]
        statistic = bootstrap.calibration_error(scores.max(1), (scores.argmax(1) == labels).astype(float))
        drawn = bootstrap.distributions({"e": statistic}, 300, trial, 1000)["e"]
        low, high = np.percentile(drawn, [2.5, 97.5])
        value = found["value"]
        assert found["low"] == pytest.approx(min(value, max(0, 2 * value - high)), abs=0.01)
        assert found["high"] == pytest.approx(max(value, 2 * value - low), abs=0.01)
        holds += found["low"] <= 0.01
        plain += low <= 0.01
    assert holds >= 24 and plain == 0, (holds, plain)


def test_the_interval_of_a_mean_is_1_96_standard_errors():
    rng = np.random.default_rng(0)
    known, predicted = np.zeros(3000), rng.exponential(size=3000)
    found = metrics.evaluate(predicted, known, "regression")["mae"]
    error = predicted.std() / np.sqrt(3000)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_bins_of_the_calibration_error_are_closed_above():
    """A confidence of exactly k / 15 belongs to the bin that ends there (Guo et al. 2017); 1.0 to the last."""
    confidence, hit = np.array([3 / 15, 2.5 / 15, 1.0, 14.5 / 15]), np.array([1.0, 0.0, 0.0, 1.0])
    found = bootstrap.calibration_error(confidence, hit)(np.ones((1, 4)))[0]
    first = abs((1 - 3 / 15) + (0 - 2.5 / 15))
    last = abs((0 - 1.0) + (1 - 14.5 / 15))
    assert found == pytest.approx((first + last) / 4)
