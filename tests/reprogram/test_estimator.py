"""scikit-learn's own checks of our estimators, and the tools that people use them with."""

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from reprogram.estimator import ReprogrammedClassifier, ReprogrammedRegressor
from reprogram.inputs.pad import Pad
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.training.loop import Training

# Checks of scikit-learn that do not apply, and why.
EXCEPTIONS = {
    "check_estimators_overwrite_params": "compares by hash, and two equal copies of a torch module have two hashes",
    "check_methods_subset_invariance": "asks for 1e-7; float32 networks differ by 1e-5 with the size of a batch",
}


@pytest.fixture
def tiny(tiny_source):
    return tiny_source()


@pytest.mark.parametrize("kind", [ReprogrammedClassifier, ReprogrammedRegressor])
def test_checks_of_scikit_learn(kind, tiny):
    rows = check_estimator(kind(source=tiny, output=RidgeTaps(layers=("conv@2",))), on_fail=None, on_skip=None)
    failed = {row["check_name"]: str(row["exception"])[:200] for row in rows if row["status"] == "failed"}
    assert set(failed) == set(EXCEPTIONS), failed
    assert sum(row["status"] == "passed" for row in rows) > 40


def images(n=30, seed=0, channels=3):
    """Two classes that the mean of the first channel tells apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    shown = (rng.random((n, 12, 12, channels)) * 100).astype(np.uint8)
    shown[labels == 1, ..., 0] += 120
    return shown, np.array(["dark", "red"])[labels]


def classifier(tiny, **changes):
    return ReprogrammedClassifier(source=tiny, output=RidgeTaps(layers=("conv@2",)), **changes)


def test_same_answers_from_arrays_pictures_and_paths(tiny, tmp_path):
    X, y = images()
    pictures = [Image.fromarray(x) for x in X]
    paths = [tmp_path / f"{i}.png" for i in range(len(X))]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    answers = [
        classifier(tiny).fit(data, y).predict_proba(data) for data in (X, pictures, paths, list(map(str, paths)))
    ]
    assert all(np.allclose(answers[0], other, atol=1e-6) for other in answers[1:])
    assert classifier(tiny).fit(X, y).score(X, y) > 0.95


def test_channels_first_and_grey_images(tiny):
    X, y = images()
    last = classifier(tiny).fit(X, y).predict_proba(X)
    first = classifier(tiny).fit(X.transpose(0, 3, 1, 2), y).predict_proba(X.transpose(0, 3, 1, 2))
    assert np.allclose(last, first)
    assert classifier(tiny).fit(X[..., 0], y).score(X[..., 0], y) > 0.95


def test_cross_validation_pipeline_and_grid_search(tiny):
    X, y = load_digits(return_X_y=True)
    X, y = X[:60], y[:60]
    assert cross_val_score(classifier(tiny), X, y, cv=3).mean() > 0.3
    pipeline = make_pipeline(FunctionTransformer(np.sqrt), classifier(tiny))
    search = GridSearchCV(pipeline, {"reprogrammedclassifier__image_shape": [(1, 8, 8), (1, 16, 4)]}, cv=3)
    assert search.fit(X, y).best_estimator_.predict(X).shape == (60,)


def test_fitting_changes_no_parameter(tiny):
    X, y = images()
    prompt = Pad(size=16)
    estimator = classifier(tiny, input=prompt, training=Training(epochs=1))
    mark = tiny.fingerprint()
    fitted = clone(estimator).fit(X, y)
    assert estimator.input is prompt and not list(prompt.parameters())
    assert tiny.fingerprint() == fitted.model_.source.fingerprint() == mark


def test_same_seed_same_answers(tiny):
    X, y = images()
    make = lambda seed: classifier(tiny, input=Pad(), training=Training(epochs=2), random_state=seed)  # noqa: E731
    assert np.array_equal(make(1).fit(X, y).predict_proba(X), make(1).fit(X, y).predict_proba(X))


def test_regression(tiny):
    X, _ = images()
    y = X[..., 0].mean((1, 2)) * 1000.0
    model = ReprogrammedRegressor(source=tiny, output=RidgeTaps(layers=("conv@2",))).fit(X, y)
    assert model.score(X, y) > 0.9


@pytest.mark.parametrize(
    ("X", "y", "sentence"),
    [
        (images()[0], ["a"] * 30, "one class only"),
        (images()[0][:5], ["a", "b"], "Found 5 inputs and 2 labels"),
        (np.full((4, 8, 8), 2.0), [0, 1, 0, 1], "must lie in"),
        (["no_such_file.png"] * 2, [0, 1], "no_such_file.png"),
    ],
)
def test_what_cannot_be_learned_from_is_said(tiny, X, y, sentence):
    with pytest.raises(ValueError, match=sentence):
        classifier(tiny).fit(X, y)


def test_rows_need_room_in_the_image(tiny):
    with pytest.raises(ValueError, match="no room for the 9 features"):
        classifier(tiny, image_shape=(1, 2, 2)).fit(np.random.default_rng(0).random((6, 9)), [0, 1] * 3)
