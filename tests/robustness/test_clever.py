import numpy as np
import pytest
import torch
from scipy.stats import kstest, weibull_max

from reprogram.robustness.estimates.clever import CleverScore, reverse_weibull
from reprogram.threat import length


@pytest.mark.parametrize(("norm", "dual"), [("l1", float("inf")), ("l2", 2), ("linf", 1)])
def test_clever_is_exact_on_a_linear_model(norm, dual, linear_model):
    """Constant gradients leave nothing to fit: the maximum is the answer, not a degenerate likelihood."""
    torch.manual_seed(0)
    images = torch.rand(4, 3, 2, 2)
    logits = linear_model(images)
    labels = logits.argmax(1)
    weight = linear_model[1].weight
    found = CleverScore(norm, batches=10, samples=8, radius=50.0)(linear_model, images, labels)
    for row, label in enumerate(labels.tolist()):
        exact = min(
            float((logits[row, label] - logits[row, j]) / (weight[label] - weight[j]).norm(dual))
            for j in range(3)
            if j != label
        )
        assert found.score[row] == pytest.approx(exact, rel=0.01)
    assert np.isnan(found.p_value).all()


def test_clever_is_zero_where_the_answer_is_wrong_and_never_above_its_radius(linear_model):
    images = torch.rand(3, 3, 2, 2)
    labels = linear_model(images).argmin(1)
    assert (CleverScore(batches=4, samples=4)(linear_model, images, labels).score == 0).all()
    right = linear_model(images).argmax(1)
    assert (CleverScore(batches=4, samples=4, radius=1e-3)(linear_model, images, right).score <= 1e-3).all()


@pytest.mark.parametrize(("shape", "location", "scale"), [(2.0, 3.0, 1.0), (5.0, 10.0, 2.0), (1.2, 5.0, 0.5)])
def test_reverse_weibull_fit_recovers_the_end_point(shape, location, scale):
    values = weibull_max.rvs(shape, location, scale, size=(5, 500), random_state=0)
    found, p_values = reverse_weibull(values)
    assert np.median(found) == pytest.approx(location, abs=0.1 * scale)
    assert (p_values > 0.01).all()


def test_the_fit_is_the_maximum_likelihood_that_scipy_finds():
    values = weibull_max.rvs(3.0, 2.0, 1.0, size=(1, 300), random_state=1)
    found, _ = reverse_weibull(values)
    shape, location, scale = weibull_max.fit(values[0], 3.0, loc=2.0, scale=1.0)
    ours = weibull_max.fit(values[0], floc=float(found[0]))
    assert (
        weibull_max.logpdf(values[0], *ours).sum() >= weibull_max.logpdf(values[0], shape, location, scale).sum() - 0.05
    )


def test_bad_fits_are_told_by_their_p_value():
    values = np.concatenate([np.full(50, 1.0), np.full(50, 2.0)])[None] + np.random.default_rng(0).normal(0, 1e-3, 100)
    assert reverse_weibull(values)[1][0] < 0.01


def test_the_end_point_neither_sticks_to_the_largest_value_nor_runs_away():
    """Gumbel-like maxima have a flat likelihood: scipy's fit (ART's too) ends at the maximum or at 1e5 and beyond."""
    values = np.random.default_rng(0).gumbel(10, 1, size=(5, 100))
    found, _ = reverse_weibull(values)
    spread = np.ptp(values, axis=1)
    assert (found > values.max(1)).all() and (found < values.max(1) + 3 * spread).all()


def test_pooled_samples_agree_with_fresh_ones(digit_cnn):
    model, images, labels = digit_cnn
    fresh = CleverScore("l2", batches=60, samples=30, radius=1.0, targets=2)(model, images[:8], labels[:8])
    pooled = CleverScore("l2", batches=60, samples=30, radius=1.0, targets=2, pool=20)(model, images[:8], labels[:8])
    assert np.median(pooled.score / fresh.score) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_screening_leaves_the_score_and_asks_for_fewer_gradients(norm, digit_cnn):
    model, images, labels = digit_cnn
    backward = []

    def counted(x):
        logits = model(x)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: backward.append(len(gradient)))
        return logits

    spent = {}
    found = {}
    for screen in (False, True):
        backward.clear()
        score = CleverScore(
            norm, batches=10, samples=20, radius={"l1": 5.0, "l2": 1.0, "linf": 0.1}[norm], screen=screen
        )
        found[screen], spent[screen] = score(counted, images[:6], labels[:6]), sum(backward)
    assert np.allclose(found[True].score, found[False].score)
    assert (found[True].by_class >= found[True].score[:, None] - 1e-9).all(), "what was left out is not nearer"
    assert spent[True] < 0.7 * spent[False]


def test_classes_that_may_be_the_nearest_are_all_followed(monkeypatch, digit_cnn):
    model, images, labels = digit_cnn
    options = {"batches": 10, "samples": 20, "radius": 1.0}
    whole = CleverScore(**options, screen=False)(model, images[:3], labels[:3])
    monkeypatch.setattr("reprogram.robustness.estimates.clever.SCREEN", 1e9)  # nothing is known of the others' end points
    found = CleverScore(**options)(model, images[:3], labels[:3])
    assert np.allclose(found.by_class, whole.by_class) and np.allclose(found.p_value, whole.p_value)


def test_clever_agrees_with_art_within_sampling_error(digit_cnn):
    from art.estimators.classification import PyTorchClassifier
    from art.metrics import clever_t

    model, images, labels = digit_cnn
    art = PyTorchClassifier(model, torch.nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0.0, 1.0))
    right = (model(images).argmax(1) == labels).nonzero().squeeze(1)[:5].tolist()
    ours = CleverScore("l2", batches=40, samples=40, radius=1.0, pool=10, targets=1)
    ratios = []
    for row in right:
        found = ours(model, images[row : row + 1], labels[row : row + 1])
        target = int(found.classes[0, 0])
        theirs = clever_t(art, images[row].numpy(), target, 40, 40, radius=1.0, norm=2, pool_factor=10)
        ratios.append(found.score[0] / theirs)
    assert np.median(ratios) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("size", [(1, 1, 2), (1, 3, 4)])
def test_points_are_uniform_in_the_ball(norm, size):
    """The share of the volume within r is (r / R)^d, so (length / R)^d must be uniform; so must the signs."""
    score = CleverScore(norm, radius=3.0, low=-float("inf"), high=float("inf"))
    points = score._sample(torch.zeros(size), 4000, torch.Generator().manual_seed(0)).flatten(1)
    dimension = points.shape[1]
    shares = (length(points, norm) / 3.0).double().numpy() ** dimension
    assert kstest(shares, "uniform").pvalue > 1e-3
    assert float(points.mean(0).abs().max()) < 0.12 and float((points > 0).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_points_are_cut_to_the_range_of_the_pixels():
    points = CleverScore("l2", radius=3.0)._sample(torch.full((1, 2, 2), 0.9), 50, torch.Generator().manual_seed(0))
    assert points.min() == 0 and points.max() == 1


def test_the_score_uses_the_end_point_and_not_the_largest_norm():
    """Gradient norms that come up to their limit slowly: the limit lies above every sample, and the score below."""
    values = weibull_max.rvs(4.0, 5.0, 1.0, size=(1, 60), random_state=3)
    found, _ = reverse_weibull(values)
    assert found[0] > values.max() + 0.02
