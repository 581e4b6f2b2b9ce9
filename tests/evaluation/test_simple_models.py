"""Simple models on simple features, for every kind of problem."""

import numpy as np
import pytest

from reprogram.errors import ConfigError
from reprogram.evaluation.simple_models import MODELS, best_of, fit_predict
from reprogram.featurisers import TfIdf
from reprogram.interfaces import TargetInfo


def info(problem, classes):
    return TargetInfo("t", "text", problem, classes)


def readable(name, features):
    """Naive Bayes reads counts: positive and negative parts apart."""
    return np.c_[features.clip(0), (-features).clip(0)] if name == "complement_nb" else features


@pytest.mark.parametrize("name", MODELS)
def test_every_model_learns_classes_and_keeps_the_column_of_an_absent_one(name):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 2, 3], 20)  # class 1 is absent: its column must stay, empty
    features = np.eye(4)[labels] * 3 + rng.normal(size=(60, 4)) * 0.3
    features = readable(name, features)
    scores = fit_predict(name, features, labels, features, info("classification", ("a", "b", "c", "d")))
    assert scores.shape == (60, 4) and (scores[:, 1] == 0).all()
    assert scores.sum(1) == pytest.approx(1.0)
    assert (scores.argmax(1) == labels).mean() > 0.95


@pytest.mark.parametrize("name", MODELS)
def test_every_model_learns_values(name):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 3))
    values = 2 * features[:, 0] + 5
    values[3] = np.nan  # left out
    found = fit_predict(name, features, values[:, None], features, info("regression", ("y",)))
    assert found.shape == (80, 1)
    known = ~np.isnan(values)
    assert np.corrcoef(found[known, 0], values[known])[0, 1] > 0.9


@pytest.mark.parametrize("name", MODELS)
def test_every_model_masks_missing_labels(name):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 3))
    labels = (features[:, :2] > 0).astype(float)
    first, features = features[:, 0], readable(name, features)
    labels = np.c_[labels, np.full(60, np.nan), np.ones(60)]
    labels[::4, 0] = np.nan
    scores = fit_predict(name, features, labels, features, info("multilabel", ("a", "b", "none", "always")))
    assert scores.shape == (60, 4) and (scores[:, 2] == 0.5).all() and (scores[:, 3] == 1.0).all()
    assert ((scores[:, 0] > 0.5) == (first > 0)).mean() > 0.75


def test_one_class_only():
    scores = fit_predict(
        "logistic", np.ones((3, 2)), np.array([1, 1, 1]), np.ones((2, 2)), info("classification", ("a", "b"))
    )
    assert scores.tolist() == [[0.0, 1.0], [0.0, 1.0]]


def test_unknown_model_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'logistic'"):
        fit_predict("logistc", np.ones((2, 1)), np.array([0, 1]), np.ones((1, 1)), info("classification", ("a", "b")))


# Baselines are tuned on the training labels, as programs are.


def topics(n, seed, classes=12):
    """Texts of ten common words and three of forty topical ones, so that a fixed C = 1 hardly moves from the prior."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    common = np.array(["the", "of", "and", "to", "in", "is", "that", "for", "it", "with", "as", "was"])
    own = [[f"{chr(97 + c)}{chr(97 + w % 26)}{chr(97 + w // 26)}q" for w in range(40)] for c in range(classes)]
    return [" ".join([*rng.choice(common, 10), *rng.choice(own[c], 3)]) for c in labels], labels


def accuracy_of(name, train, labels, test, known):
    classes = tuple(map(str, range(labels.max() + 1)))
    scores = fit_predict(name, train, labels, test, info("classification", classes))
    return (scores.argmax(1) == known).mean()


@pytest.mark.parametrize("name", ["logistic", "complement_nb"])
def test_tfidf_is_no_straw_man(name):
    """Trap: TF-IDF rows have length 1, and logistic regression with C = 1 hardly learns from them."""
    from sklearn.linear_model import LogisticRegression

    (texts, labels), (new, known) = topics(96, 0), topics(400, 1)
    variants = []
    for variant in TfIdf().variants():
        variant.fit(texts)
        variants.append((variant(texts), variant(new)))
    plain = LogisticRegression().fit(variants[0][0], labels).predict(variants[0][1])
    classes = tuple(map(str, range(12)))
    scores = best_of(name, variants, labels, info("classification", classes))
    assert (scores.argmax(1) == known).mean() > (plain == known).mean() + 0.03
    assert np.allclose(scores.sum(1), 1)


def test_a_choice_of_strength_makes_up_for_the_scale_of_the_features():
    rng = np.random.default_rng(0)
    labels, known = np.arange(80) % 4, np.arange(200) % 4
    make = lambda y: np.eye(4)[y] @ np.eye(4, 30) + rng.normal(size=(len(y), 30)) * 0.5  # noqa: E731
    train, test = make(labels), make(known)
    reached = [accuracy_of("logistic", train * s, labels, test * s, known) for s in (1e-2, 1.0, 30.0)]
    assert min(reached) > max(reached) - 0.03 and min(reached) > 0.6


def test_few_examples_of_many_features_are_projected_without_a_change():
    from sklearn.linear_model import LogisticRegression

    from reprogram.evaluation.simple_models import _prepared

    rng = np.random.default_rng(0)
    train, test, labels = rng.normal(size=(20, 300)), rng.normal(size=(7, 300)), np.arange(20) % 3
    unit = np.sqrt(np.square(train).sum(1).mean())
    train, test = train / unit, test / unit
    near, far = _prepared(MODELS["logistic"], train, test)
    assert near.shape == (20, 20) and far.shape == (7, 20)
    ours, theirs = (LogisticRegression(tol=1e-8, max_iter=5000).fit(x, labels) for x in (near, train))
    assert ours.predict_proba(far) == pytest.approx(theirs.predict_proba(test), abs=1e-4)


def test_what_was_chosen_is_fitted_on_all_labels_and_chosen_alike_every_time():
    from reprogram.evaluation.tuning import MOST_ROWS, choose

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 3 * MOST_ROWS)
    features = labels[:, None] + rng.normal(size=(len(labels), 3))
    fitted = []

    class Counting:
        def __init__(self, noise):
            self.noise, self.classes_ = noise, np.array([0, 1])

        def fit(self, x, y):
            fitted.append(len(x))
            return self

        def decision_function(self, x):
            return (x[:, 0] - 0.5) * (-1 if self.noise else 1)

    found = choose([lambda: Counting(True), lambda: Counting(False)], features, labels, 2)
    assert found.chosen == 1 and fitted[-1] == len(labels) and max(fitted[:-1]) < MOST_ROWS
    assert found.inverse_temperature > 0 and 0 < found.error < 0.5
    assert choose([lambda: Counting(True), lambda: Counting(False)], features, labels, 2).chosen == 1


def test_one_example_a_class_needs_no_folds():
    for name in MODELS:
        scores = fit_predict(name, np.eye(3), np.arange(3), np.eye(3), info("classification", ("a", "b", "c")))
        assert scores.argmax(1).tolist() == [0, 1, 2], name


def test_strings_of_symbols_or_stop_words_only_still_have_features():
    for texts in (["the of and", "it is a"], ["C=O ( )", "N#C [ ]"], ["a b", "b c"]):
        for variant in TfIdf().variants():
            variant.fit(texts)
            assert variant(texts).shape[0] == 2


def test_the_default_is_left_on_evidence_only():
    """Trap: tuned on few labels, a model is often worse than untuned, and then again a straw man."""
    from reprogram.evaluation.tuning import _better

    rng = np.random.default_rng(0)
    lucky = [_better(rng.normal(1, 1, (6, 40))) for _ in range(100)]
    assert lucky.count(0) > 30
    assert _better(np.stack([np.ones(40), np.full(40, 0.9)]) + rng.normal(0, 0.01, (2, 40))) == 1
    assert _better(np.array([[1.0, np.nan, 1.0], [0.5, 0.5, 0.6]])) == 1


def test_answers_are_on_the_sharpness_that_fits_the_labels():
    """Cosines alone would call nothing surer than 0.9."""
    rng = np.random.default_rng(0)
    labels, known = np.arange(60) % 2, np.arange(400) % 2
    make = lambda y, s: np.where(y[:, None] == 1, 1.0, -1.0) * np.eye(6)[0] + s * rng.normal(size=(len(y), 6))  # noqa: E731
    clear, vague = (
        fit_predict("nearest_centroid", make(labels, s), labels, make(known, s), info("classification", ("a", "b")))
        for s in (0.2, 2.0)
    )
    assert clear.max(1).mean() > 0.97
    assert abs(vague.max(1).mean() - (vague.argmax(1) == known).mean()) < 0.15
