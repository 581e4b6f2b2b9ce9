"""Class centres from labels and pool: heaps are found from one label each, and what is kept is linear."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import SourceOutput, SourceSpec, Tap, TargetInfo
from reprogram.outputs._pool import temperature
from reprogram.outputs.prototypes import Prototypes

SPEC = SourceSpec("text", 32, (), taps=("layer_1",), answers="none")
INFO = TargetInfo("t", "text", "classification", ("a", "b", "c"))


def outputs(points):
    points = torch.as_tensor(points, dtype=torch.float32)
    taps = {Tap("layer_1", pooling): points for pooling in ("mean", "max", "std")}
    return [SourceOutput(torch.zeros(len(points), 0), None, taps)]


def heaps(n=300, seed=0, stretch=1.0):
    """Three heaps in five dimensions, stretched along one that says nothing of the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    centres = np.eye(3, 5) * 6
    return centres[labels] + rng.normal(size=(n, 5)) * [1, 1, 1, 1, stretch], labels


def fitted(points, rows, labels, **options):
    method = Prototypes(head=False, **options)
    method.build(SPEC, INFO)
    method.observe_pool(outputs(points))
    method.fit(outputs(points[rows]), torch.tensor(labels[rows]))
    return method


@pytest.mark.parametrize("shrink", [1.0, 0.3])
def test_one_label_a_heap_names_the_heap(shrink):
    points, labels = heaps()
    rows = [int(np.flatnonzero(labels == c)[3]) for c in range(3)]
    method = fitted(points, rows, labels, shrink=shrink)
    new, truth = heaps(seed=1)
    assert (method(outputs(new)).argmax(1).numpy() == truth).mean() > 0.97


def test_the_shared_covariance_is_that_of_the_classes():
    """With every label given the fit is linear discriminant analysis of equal classes, shrunk hardly at all."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    points, labels = heaps(600, stretch=4.0)
    method = fitted(points, np.arange(600), labels, shrink=1e-6)
    theirs = LinearDiscriminantAnalysis(priors=[1 / 3] * 3).fit(points, labels)
    new, _ = heaps(2000, seed=2, stretch=4.0)
    assert (method(outputs(new)).argmax(1).numpy() == theirs.predict(new)).mean() > 0.99


def test_a_class_without_a_label_is_never_answered():
    points, labels = heaps()
    rows = np.flatnonzero(labels < 2)[:8]
    method = fitted(points, rows, labels)
    assert (method(outputs(points)).argmax(1) < 2).all()


def test_left_out_answers_do_not_know_the_label():
    points, labels = heaps()
    rows = np.arange(30)
    right = fitted(points, rows, labels).left_out
    assert (right.argmax(1).numpy() == labels[:30]).mean() > 0.9
    wrong = labels.copy()
    wrong[0] = (labels[0] + 1) % 3
    assert fitted(points, rows, wrong).left_out[0].argmax() == labels[0]


def test_it_comes_back_and_keeps_no_row_of_the_pool():
    points, labels = heaps()
    method = fitted(points, np.arange(12), labels)
    again = Prototypes(**method.config())
    again.build(SPEC, INFO)
    again.load_state_dict(method.state_dict())
    assert torch.equal(again(outputs(points)), method(outputs(points)))
    assert max(len(t) for t in method.state_dict().values() if t.ndim) == method.width == 15


def test_a_temperature_is_drawn_to_one_where_labels_are_few():
    sure = np.log(np.array([[0.9, 0.1]] * 2 + [[0.1, 0.9]] * 2))
    few = temperature(sure, np.eye(2)[[0, 0, 1, 1]])
    many = temperature(np.repeat(sure, 50, 0), np.eye(2)[[0, 0, 1, 1]].repeat(50, 0))
    assert 1 <= few < many
    assert temperature(sure[:1], np.eye(2)[[0]]) == pytest.approx(1.0)


def test_one_sentence_where_something_is_wrong():
    with pytest.raises(ConfigError, match="needs classes"):
        Prototypes().build(SPEC, TargetInfo("t", "text", "regression", ("v",)))
    with pytest.raises(ConfigError, match="shrink"):
        Prototypes(shrink=0.0).build(SPEC, INFO)
    method = Prototypes(head=False)
    method.build(SPEC, INFO)
    with pytest.raises(ConfigError, match=r"target\.unlabelled"):
        method.fit(outputs(np.zeros((3, 2))), torch.tensor([0, 1, 2]))
    with pytest.raises(SourceError, match="must be fitted"):
        method(outputs(np.zeros((3, 2))))
