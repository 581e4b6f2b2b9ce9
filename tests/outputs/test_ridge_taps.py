"""Closed-form ridge over taps: every shortcut against the long way round."""

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import SourceOutput, SourceSpec, Tap
from reprogram.modalities import modality
from reprogram.outputs._ridge import (
    block_kernels,
    fit_ridge,
    inverse_temperature,
    learn_kernel_weights,
    left_factors,
    left_out_error,
)
from reprogram.outputs.ridge_taps import RidgeTaps, signed_root

LAYERS = ("low@2", "high@1")


def built(spec, target, **options):
    mapping = RidgeTaps(**({"layers": LAYERS} | options))
    mapping.build(spec, target)
    return mapping


@pytest.mark.parametrize(("n", "width"), [(12, 30), (30, 7)])
def test_left_out_predictions_equal_n_refits(n, width):
    rng = np.random.default_rng(n)
    x, y, w = rng.normal(size=(n, width)) + 3, rng.normal(size=(n, 2)), rng.uniform(0.2, 2, n)
    w = w / w.mean()
    strength = 0.05
    fit = fit_ridge(torch.tensor(x), torch.tensor(y), torch.tensor(w), [strength], shared=True)
    full = Ridge(alpha=strength * n).fit(x, y, sample_weight=w)
    assert np.allclose(fit.weight.numpy(), full.coef_.T, atol=1e-8)
    assert np.allclose(fit.bias.numpy(), full.intercept_, atol=1e-8)
    for i in range(n):
        rest = np.arange(n) != i
        one = Ridge(alpha=strength * n).fit(x[rest], y[rest], sample_weight=w[rest])
        assert np.allclose(fit.left_out[i].numpy(), one.predict(x[i : i + 1])[0], atol=1e-7)


def test_the_strength_has_the_least_left_out_error_of_the_path():
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(40, 60)))
    y = x[:, :1] + torch.tensor(rng.normal(size=(40, 2)))  # column 1 has no signal and wants a strong penalty
    path, ones = [1e-4, 1e-2, 1.0, 100.0], torch.ones(40, dtype=torch.float64)
    alone = [fit_ridge(x, y, ones, [s], shared=True) for s in path]
    errors = torch.stack([(y - fit.left_out).square().sum(0) for fit in alone])
    each = fit_ridge(x, y, ones, path, shared=False)
    assert each.strength.tolist() == [path[i] for i in errors.argmin(0)]
    assert torch.allclose(each.weight[:, 1], alone[int(errors[:, 1].argmin())].weight[:, 1])
    together = fit_ridge(x, y, ones, path, shared=True)
    assert set(together.strength.tolist()) == {path[int(errors.sum(1).argmin())]}


def test_both_gram_matrices_give_the_same_factors():
    rows = torch.tensor(np.random.default_rng(1).normal(size=(9, 5)))
    left, squares = left_factors(rows)
    assert torch.allclose(left @ torch.diag(squares) @ left.T, rows @ rows.T)
    wide, wide_squares = left_factors(rows.T)
    assert torch.allclose(wide @ torch.diag(wide_squares) @ wide.T, rows.T @ rows)


def test_left_out_error_of_averaged_kernels_equals_n_refits():
    rng = np.random.default_rng(6)
    blocks = [torch.tensor(rng.normal(size=(15, d))) for d in (4, 30)]
    y = torch.tensor(rng.normal(size=(15, 2)))
    w = torch.tensor(rng.uniform(0.5, 1.5, 15))
    w = w / w.mean()
    log_share, log_strength = torch.tensor([0.3, -0.2]).double(), torch.tensor(-2.0).double()
    kernels = block_kernels(blocks)
    got = float(left_out_error(kernels, log_share, log_strength, y, w))
    kernel = torch.einsum("m,mij->ij", log_share.softmax(0), kernels).numpy()
    total = 0.0
    for i in range(15):
        rest = np.arange(15) != i
        system = kernel[np.ix_(rest, rest)] + np.diag(15 * np.exp(-2.0) / w.numpy()[rest]) + 100.0
        prediction = (kernel[i, rest] + 100.0) @ np.linalg.solve(system, y.numpy()[rest])
        total += float(w[i]) * np.square(y.numpy()[i] - prediction).sum() / 15
    assert got == pytest.approx(total, rel=1e-6)


def test_shares_go_to_the_blocks_that_know():
    rng = np.random.default_rng(7)
    useful = torch.tensor(rng.normal(size=(80, 6)))
    blocks = [torch.tensor(rng.normal(size=(80, 40))), useful, torch.tensor(rng.normal(size=(80, 3)))]
    y, ones = useful[:, :2] + 0.1 * torch.tensor(rng.normal(size=(80, 2))), torch.ones(80).double()
    kernels = block_kernels(blocks)
    shares = learn_kernel_weights(kernels, y, ones)
    assert shares[1] > 0.8
    assert float(shares.sum()) == pytest.approx(1.0)
    path = torch.linspace(-10, 0, 6).double()
    errors = [min(float(left_out_error(kernels, s.log(), p, y, ones)) for p in path) for s in (shares, shares * 0 + 1)]
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize("exclusive", [True, False])
def test_sharpness_is_the_most_likely_factor(exclusive):
    rng = np.random.default_rng(2)
    y = torch.nn.functional.one_hot(torch.tensor(rng.integers(0, 3, 80)), 3).double()
    f = 0.4 * y + 0.3 + torch.tensor(rng.normal(scale=0.2, size=(80, 3)))
    found = inverse_temperature(f, y, exclusive)

    def loss(factor):
        if exclusive:
            return -(torch.log_softmax(f * factor, 1) * y).sum()
        return torch.nn.functional.binary_cross_entropy_with_logits((f - 0.5) * factor, y, reduction="none").sum(0)

    grid = torch.logspace(-1, np.log10(30), 3000, dtype=torch.float64)
    losses = torch.stack([loss(g) for g in grid]).reshape(len(grid), -1)
    expected = grid[losses.argmin(0)].expand(3)
    assert torch.allclose(found, expected, rtol=2e-3)


def test_folded_weights_answer_as_the_average_of_block_kernels(spec, info, answers):
    labels = np.arange(24) % 3
    train, test = answers(labels, 0), answers(labels, 1)
    mapping = built(spec, info(3), weigh="equal")
    mapping.fit([train], torch.tensor(labels))
    got = mapping([test]).double().numpy()

    def blocks(output):
        raw = [output.taps[Tap("low", "2")], output.taps[Tap("high", "1")], signed_root(output.features)]
        return [torch.nn.functional.normalize(b, dim=1).double().numpy() for b in raw]

    kernels = []
    for a, b in zip(blocks(train), blocks(test), strict=True):
        centre = a.mean(0)
        size = np.square(a - centre).sum(1).mean()
        kernels.append(np.concatenate([a - centre, b - centre]) @ (a - centre).T / size)
    kernel, one_hot = np.mean(kernels, 0), np.eye(3)[labels]
    candidates = []
    for strength in [10.0 ** (e / 2) for e in range(-12, 3)]:
        ridge = KernelRidge(alpha=strength * 24, kernel="precomputed").fit(kernel[:24], one_hot - one_hot.mean(0))
        candidates.append(ridge.predict(kernel[24:]) + one_hot.mean(0))
    slopes = [np.polyfit(c.ravel(), got.ravel(), 1, full=True) for c in candidates]
    residual = min(float(s[1][0]) if len(s[1]) else 0.0 for s in slopes)
    assert residual < 1e-8  # logits are one candidate times the calibration factor


def test_a_class_missing_from_the_sample_keeps_its_column(spec, info, answers):
    labels = np.array([0, 2, 3] * 8)  # class 1 has no example
    mapping = built(spec, info(4))
    mapping.fit([answers(labels, 0, noise=0.3)], torch.tensor(labels))
    logits = mapping([answers(labels, 1, noise=0.3)])
    assert logits.shape == (24, 4)
    assert (logits.argmax(1).numpy() == labels).all()


def test_a_missing_label_leaves_its_row_out_of_that_column_only(spec, info, answers):
    rng = np.random.default_rng(3)
    output = answers(rng.integers(0, 5, 30))
    y = rng.integers(0, 2, (30, 2)).astype(np.float32)
    y[:6, 1] = np.nan
    both = built(spec, info(2, "multilabel"), normalise="l2")
    both.fit([output], torch.tensor(y))
    first = built(spec, info(1, "multilabel"), normalise="l2")
    first.fit([output], torch.tensor(y[:, :1]))
    assert torch.allclose(both.weight[:, 0], first.weight[:, 0], atol=1e-5)
    assert torch.isfinite(both([output])).all()
    y[:, 1] = np.nan  # nothing is known of the second task
    both.fit([output], torch.tensor(y))
    assert torch.allclose(both.weight[:, 0], first.weight[:, 0], atol=1e-5)
    assert both([output])[:, 1].abs().max() == 0  # probability one half


def test_balanced_multilabel_weighs_both_answers_the_same(spec, info, answers):
    groups = np.array([1] * 4 + [0] * 36)
    output = answers(groups, noise=2.0)
    plain, balanced = (built(spec, info(1, "multilabel"), balanced=b) for b in (False, True))
    labels = torch.tensor(groups[:, None]).float()
    plain.fit([output], labels)
    balanced.fit([output], labels)
    fresh = answers(np.array([1] * 200), seed=5, noise=2.0)
    assert (balanced([fresh]) > 0).float().mean() > (plain([fresh]) > 0).float().mean() + 0.1


def test_balanced_classes_equal_repeated_examples(spec, info, answers):
    labels = np.array([0] * 8 + [1] * 4)
    output = answers(labels)
    values = torch.cat(built(spec, info(2)).blocks([output]), 1).double()
    repeated = torch.cat([torch.arange(12), torch.arange(8, 12)])
    one_hot = torch.nn.functional.one_hot(torch.tensor(labels), 2).double()
    weight = built(spec, info(2), balanced=True)._example_weights(one_hot)
    a = fit_ridge(values, one_hot, weight, [0.1], shared=True)
    b = fit_ridge(values[repeated], one_hot[repeated], torch.ones(16).double(), [0.1], shared=True)
    assert torch.allclose(a.weight, b.weight, atol=1e-7)


def test_regression_recovers_a_linear_function(spec, info):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(60, 8))
    y = x @ np.arange(8) + 5
    text = SourceSpec("text", 64, (), feature_size=None, taps=("layer",), answers="none")
    mapping = RidgeTaps(layers=("layer@mean",))
    mapping.build(text, info(1, "regression"))
    output = SourceOutput(torch.zeros(60, 0), None, {Tap("layer", "mean"): torch.tensor(x).float()})
    mapping.fit([output], torch.tensor(y).float())
    assert torch.allclose(mapping([output])[:, 0], torch.tensor(y).float(), atol=0.05)


def test_a_constant_feature_does_not_explode(spec, info):
    rng = np.random.default_rng(5)
    x = torch.tensor(rng.normal(size=(20, 3))).float()
    x[:, 2] = 1.0
    mapping = RidgeTaps(layers=("low@2",), head=False, normalise="standard")
    mapping.build(spec, info(2))
    output = SourceOutput(torch.zeros(20, 20), None, {Tap("low", "2"): x})
    mapping.fit([output], torch.tensor(np.arange(20) % 2))
    x[:, 2] = 2.0
    assert mapping([output]).abs().max() < 100


def test_half_precision_weights_answer_the_same(spec, info, answers, monkeypatch):
    labels = np.arange(60) % 3
    full, half = built(spec, info(3)), built(spec, info(3))
    full.fit([answers(labels)], torch.tensor(labels))
    monkeypatch.setattr("reprogram.outputs.ridge_taps.FLOAT32_LIMIT", 0)
    half.fit([answers(labels)], torch.tensor(labels))
    fresh = answers(labels, 7)
    assert half.weight.dtype == torch.float16
    assert (full([fresh]) - half([fresh])).abs().max() < 0.02


def test_autocast_does_not_change_the_answer(spec, info, answers):
    labels = np.arange(30) % 3
    mapping = built(spec, info(3))
    mapping.fit([answers(labels)], torch.tensor(labels))
    plain = mapping([answers(labels, 1)])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mapping([answers(labels, 1)]), plain)


def test_a_saved_mapping_is_restored(spec, info, answers):
    labels = np.arange(30) % 3
    mapping = built(spec, info(3))
    mapping.fit([answers(labels)], torch.tensor(labels))
    again = RidgeTaps(**mapping.config())
    again.build(spec, info(3))
    again.load_state_dict(mapping.state_dict())
    assert torch.equal(again([answers(labels, 1)]), mapping([answers(labels, 1)]))
    with pytest.raises(ConfigError, match="width=-1 must be"):
        built(spec, info(4), width=-1)
    other = built(spec, info(4))
    with pytest.raises(RuntimeError, match="weight"):
        other.load_state_dict(mapping.state_dict())


def test_mirror_views_are_averaged_and_views_at_other_scales_are_not(spec, info, answers):
    labels = np.arange(30) % 3
    views = [answers(labels, seed) for seed in range(4)]
    apart, paired = built(spec, info(3)), built(spec, info(3), average=2)
    apart.fit(views, torch.tensor(labels))
    paired.fit(views, torch.tensor(labels))
    assert len(apart.weight) == 2 * len(paired.weight) == 4 * (16 + 8 + 12)
    swapped = [views[1], views[0], views[3], views[2]]
    assert torch.allclose(paired(views), paired(swapped), atol=1e-5)
    assert not torch.allclose(apart(views), apart(swapped), atol=1e-3)
    with pytest.raises(ConfigError, match="does not divide"):
        paired.fit(views[:3], torch.tensor(labels))


def test_a_source_that_shows_only_labels_is_read_by_its_logits(info, answers):
    api = SourceSpec("image", 32, tuple("abcdefghijklmnopqrst"), feature_size=None, taps=())
    labels = np.arange(40) % 3
    mapping = RidgeTaps()
    mapping.build(api, info(3))
    mapping.fit([SourceOutput(answers(labels, noise=0.5).logits)], torch.tensor(labels))
    fresh = mapping([SourceOutput(answers(labels, 1, noise=0.5).logits)])
    assert (fresh.argmax(1).numpy() == labels).mean() > 0.9


def test_default_layers_are_the_ends_of_the_later_stages(spec):
    blocks = tuple(f"block_{i}" for i in range(1, 17))
    vision = SourceSpec("image", 224, (), taps=(*blocks, "head"))
    assert modality("image").default_layers(vision) == ("block_5@4", "block_8@4", "block_11@4", "block_15@2", "block_16@2")
    text = SourceSpec("text", 256, (), taps=tuple(f"layer_{i}" for i in range(1, 13)))
    assert [t for t in modality("text").default_layers(text) if t.endswith("max")] == [f"layer_{i}@max" for i in range(2, 13, 2)]


def test_mistakes_get_one_sentence(spec, info, answers):
    output = answers([0, 1, 2])
    with pytest.raises(SourceError, match="must be fitted"):
        built(spec, info(3))([output])
    with pytest.raises(ConfigError, match="name@pooling"):
        built(spec, info(3), layers=("low@",))
    with pytest.raises(ConfigError, match="weigh is 'loo'"):
        built(spec, info(3), weigh="loo")
    with pytest.raises(ConfigError, match="normalise is 'l3'"):
        built(spec, info(3), normalise="l3")
    fitted = built(spec, info(3))
    fitted.fit([output], torch.tensor([0, 1, 2]))
    with pytest.raises(SourceError, match="weighs 36 values"):
        fitted([output, output])
    output.features[1, 0] = float("nan")
    with pytest.raises(SourceError, match="training example 1"):
        fitted.fit([output], torch.tensor([0, 1, 2]))
