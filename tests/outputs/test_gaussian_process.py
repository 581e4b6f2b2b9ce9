"""Gaussian process over taps and features beside: right against textbook formulas, kept and read back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, WhiteKernel

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import SourceOutput, SourceSpec, Tap, TargetInfo
from reprogram.outputs._kernels import _fit_one, _solve, fit_process, radial, tanimoto
from reprogram.outputs._trees import grow
from reprogram.outputs.gaussian_process import GaussianProcessMapping

SPEC = SourceSpec("text", 32, (), feature_size=6, taps=("layer_1", "layer_2"), answers="none")


def info(problem="classification", classes=("a", "b")):
    return TargetInfo("t", "text", problem, classes)


def outputs(n=40, seed=0, beside=True, signal=None):
    generator = torch.Generator().manual_seed(seed)
    taps = {
        Tap(f"layer_{i}", p): torch.randn(n, 6, generator=generator) for i in (1, 2) for p in ("mean", "max", "std")
    }
    if signal is not None:
        taps[Tap("layer_1", "mean")][:, 0] += signal
    if beside:
        taps[Tap("plain", "side")] = torch.randn(n, 4, generator=generator)
        taps[Tap("bits", "side")] = (torch.rand(n, 16, generator=generator) > 0.5).float()
    return [SourceOutput(torch.zeros(n, 0), torch.randn(n, 6, generator=generator), taps)]


def fitted(method, labels, target=None, **kwargs):
    method.build(SPEC, target or info())
    method.fit(outputs(len(labels), **kwargs), labels)
    return method


def test_left_out_predictions_are_those_of_fits_without_the_row():
    rng = np.random.default_rng(0)
    rows, targets = torch.tensor(rng.normal(size=(12, 5))), torch.tensor(rng.normal(size=(12, 2)))
    noise = torch.tensor(rng.uniform(0.2, 1.0, 12))
    kernel = rows @ rows.T
    left = _solve(kernel, targets, noise)[2]
    for row in range(12):
        rest = [i for i in range(12) if i != row]
        alpha, bias, _ = _solve(kernel[rest][:, rest], targets[rest], noise[rest])
        assert torch.allclose(kernel[row, rest] @ alpha + bias, left[row], atol=1e-8)


def test_marginal_likelihood_is_scikit_learns():
    """With the best scale put in, the likelihood of a linear kernel plus noise."""
    rng = np.random.default_rng(1)
    rows, y = rng.normal(size=(15, 3)), rng.normal(size=15)
    y = y - y.mean()
    kernel = torch.tensor(rows @ rows.T)
    likelihood, noise = _fit_one(kernel, torch.tensor(y)[:, None])
    values, vectors = torch.linalg.eigh(kernel)
    scale = float(((vectors.T @ torch.tensor(y)).square() / (values.clamp_min(0) + noise)).mean())
    theirs = GaussianProcessRegressor(
        ConstantKernel(scale) * DotProduct(1e-5) + WhiteKernel(scale * noise), optimizer=None, alpha=0
    ).fit(rows, y)
    constant = 0.5 * 15 * (1 + np.log(2 * np.pi))
    assert np.isclose(theirs.log_marginal_likelihood_value_, likelihood - constant, atol=1e-4)


def test_the_labels_choose_what_is_read():
    """One base explains the labels, the other is noise: the candidate with the first takes nearly all the weight."""
    rng = np.random.default_rng(2)
    good, noise = torch.tensor(rng.normal(size=(40, 3))), torch.tensor(rng.normal(size=(40, 3)))
    targets = good[:, :1].sign()
    fit = fit_process(torch.stack([good @ good.T, noise @ noise.T]) / 3, [[1, 0], [0, 1]], targets, torch.ones(40))
    assert fit.share[0] > 0.99


def test_kernels_by_hand():
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    k = radial(x @ y.T, x.square().sum(1), y.square().sum(1), 2.0)
    assert torch.allclose(k, torch.tensor([[1.0, float(np.exp(-2.5))]]))
    bits = torch.tensor([[1.0, 1, 0], [0, 0, 0]])
    assert torch.allclose(tanimoto(bits, bits), torch.tensor([[1.0, 0], [0, 0]]))


def test_trees_as_tensors_say_what_scikit_learn_says():
    from sklearn.ensemble import ExtraTreesRegressor

    rng = np.random.default_rng(3)
    x, y, weight = rng.normal(size=(30, 5)).astype(np.float32), rng.random((30, 2)), rng.random(30)
    trees, outside = grow(x, y, weight, 7, seed=4)
    forest = ExtraTreesRegressor(7, max_features="sqrt", bootstrap=True, random_state=4).fit(x, y, sample_weight=weight)
    new = rng.normal(size=(11, 5)).astype(np.float32)
    assert np.allclose(trees(torch.tensor(new)).numpy(), forest.predict(new), atol=1e-6)
    assert outside.shape == (30, 2) and not np.allclose(outside, forest.predict(x))


@pytest.mark.parametrize("trees", [0, 10])
def test_classes_are_learned_and_balanced(trees):
    labels = torch.tensor([0] * 30 + [1] * 10)
    signal = labels.float() * 4
    method = fitted(GaussianProcessMapping(trees=trees), labels, signal=signal)
    new = outputs(40, seed=0, signal=signal)
    assert (method(new).argmax(1) == labels).float().mean() > 0.9
    assert method(new).softmax(1).sum(1).allclose(torch.ones(40))


@pytest.mark.parametrize("trees", [0, 10])
def test_missing_labels_do_not_count(trees):
    """Trap: NaN labels poison the fit, or another task's column."""
    labels = torch.stack([(torch.arange(40) % 2).float(), (torch.arange(40) % 3 == 0).float()], 1)
    full = fitted(GaussianProcessMapping(), labels, info("multilabel"))
    labels[5:20, 1] = float("nan")
    method = fitted(GaussianProcessMapping(trees=trees), labels, info("multilabel"))
    assert method(outputs(40)).isfinite().all()
    if not trees:
        assert torch.allclose(method(outputs(40))[:, 0], full(outputs(40))[:, 0], atol=1e-4)
        assert method.dual[:, 5:20, 1].abs().max() == 0


def test_values_are_predicted_in_their_own_unit():
    signal = torch.linspace(-2, 2, 60)
    method = fitted(
        GaussianProcessMapping(trees=20), (signal * 100 + 1000)[:, None], info("regression", ("y",)), signal=signal * 3
    )
    answers = method(outputs(60, signal=signal * 3))
    assert answers.shape == (60, 1) and np.corrcoef(answers[:, 0], signal)[0, 1] > 0.9 and 900 < answers.mean() < 1100


def test_what_is_kept_answers_the_same():
    labels = torch.arange(40) % 2
    method = fitted(GaussianProcessMapping(trees=5), labels)
    again = GaussianProcessMapping(**method.config())
    again.build(SPEC, info())
    again.load_state_dict(method.state_dict())
    assert torch.equal(again(outputs(10, seed=9)), method(outputs(10, seed=9)))
    assert method.groups == ("source:36", "dense:4", "bits:16") and method.examples == 40


def test_values_in_different_units_are_each_read_by_their_own_deviation():
    generator = torch.Generator().manual_seed(0)
    plain = torch.randn(90, 6, generator=generator)
    labels = (plain[:, 0] > 0).long()
    plain[:, 0] *= 0.01  # the value that matters has the small unit
    plain[:, 5] = 0.1 + 0.2  # a constant, and the rounding of its mean

    def accuracy(units):
        parts = [outputs(45), outputs(45, seed=1)]
        for part, rows in zip(parts, plain.split(45), strict=True):
            part[0].taps[Tap("plain", "side")] = rows
        method = GaussianProcessMapping(units=units)
        method.build(SPEC, info())
        method.fit(parts[0], labels[:45])
        kept = GaussianProcessMapping(**method.config())
        kept.build(SPEC, info())
        kept.load_state_dict(method.state_dict())
        assert torch.equal(kept(parts[1]), method(parts[1]))
        return float((method(parts[1]).argmax(1) == labels[45:]).float().mean())

    assert accuracy(units=True) > accuracy(units=False) + 0.1


def test_spellings_are_averaged():
    labels = torch.arange(40) % 2
    views = outputs(40) * 2
    one, two = GaussianProcessMapping(), GaussianProcessMapping(average=2)
    for method, given in ((one, outputs(40)), (two, views)):
        method.build(SPEC, info())
        method.fit(given, labels)
    assert torch.allclose(one(outputs(7, seed=3)), two(outputs(7, seed=3) * 2), atol=1e-5)


def test_a_class_without_examples_keeps_its_column():
    method = fitted(GaussianProcessMapping(), torch.arange(20) % 2, info(classes=("a", "b", "c")))
    assert method(outputs(5)).shape == (5, 3) and (method(outputs(5)).argmax(1) < 2).all()


def test_mistakes_are_named():
    with pytest.raises(SourceError, match="must be fitted"):
        method = GaussianProcessMapping()
        method.build(SPEC, info())
        method(outputs(3))
    with pytest.raises(ConfigError, match="at least 1"):
        GaussianProcessMapping(average=0).build(SPEC, info())
    with pytest.raises(ConfigError, match="shows none"):
        GaussianProcessMapping().build(SourceSpec("text", 32, (), taps=()), info())
    with pytest.raises(ConfigError, match="more than is kept"):
        GaussianProcessMapping(examples=10**7, groups=("source:1000",)).build(SPEC, info())
    with pytest.raises(SourceError, match="groups of"):
        fitted(GaussianProcessMapping(), torch.arange(10) % 2)(outputs(3, beside=False))
    with pytest.raises(ConfigError, match="up to 2000"):
        fitted(GaussianProcessMapping(), torch.arange(2001) % 2, beside=False)
