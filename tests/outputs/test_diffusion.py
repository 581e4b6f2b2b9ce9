"""Labels spread over a graph: right against dense formulas, for new points, left out, bounded, kept and read back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import SourceOutput, SourceSpec, Tap, TargetInfo
from reprogram.outputs._graph import affinity, neighbour_graph, spread
from reprogram.outputs._space import principal
from reprogram.outputs.diffusion import Diffusion

SPEC = SourceSpec("text", 32, (), taps=("layer_1",), answers="none")


def info(problem="classification", classes=("a", "b")):
    return TargetInfo("t", "text", problem, classes)


def outputs(points):
    """A source whose one layer answers these points."""
    points = torch.as_tensor(points, dtype=torch.float32)
    taps = {Tap("layer_1", pooling): points for pooling in ("mean", "max", "std")}
    return [SourceOutput(torch.zeros(len(points), 0), None, taps)]


def moons(n=200, noise=0.05, seed=0):
    from sklearn.datasets import make_moons

    return make_moons(n, noise=noise, random_state=seed)


def made(target=None, **options):
    method = Diffusion(head=False, **options)
    method.build(SPEC, target or info())
    return method


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9, 0.99])
def test_spread_labels_are_those_of_the_dense_inverse(alpha):
    points = torch.randn(60, 4, generator=torch.Generator().manual_seed(1))
    graph = neighbour_graph(points, 7)
    weights = graph.weights.toarray()
    assert np.allclose(weights, weights.T) and (np.diag(weights) == 0).all()
    degree = weights.sum(1)
    smooth = weights / np.sqrt(np.outer(degree, degree))
    wanted = np.linalg.inv(np.eye(60) - alpha * smooth)[:, [3, 17]] / np.sqrt(degree)[:, None]
    assert np.allclose(spread(graph, np.array([3, 17]), alpha), wanted, atol=1e-7)


def test_a_node_without_a_label_is_the_weighted_mean_of_its_neighbours():
    """What answers new points (Delalleau et al. 2005) holds exactly on the graph."""
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(2))
    graph = neighbour_graph(points, 6)
    sent = spread(graph, np.array([0, 1]), 0.9)
    mean = graph.weights.toarray() / graph.degree[:, None] @ sent
    assert np.allclose(sent[2:], 0.9 * mean[2:], atol=1e-7)


def test_a_kernel_weight_is_one_at_distance_zero_and_falls_with_distance():
    known = torch.tensor([[0.0, 0], [1.0, 0], [5.0, 0]])
    weight, index = affinity(torch.tensor([[0.0, 0]]), known, torch.ones(3), 3)
    assert index.tolist() == [[0, 1, 2]] and weight[0, 0] == 0 and weight[0, 1] > weight[0, 2]
    assert weight[0, 1].item() == pytest.approx(-1 / 5)  # d² / (σ of the new point · σ of the known one)


def test_two_moons_with_one_label_each():
    points, labels = moons()
    rows = [int(np.flatnonzero(labels == c)[0]) for c in (0, 1)]
    method = made(alpha=0.99)
    method.observe_pool(outputs(points))
    method.fit(outputs(points[rows]), torch.tensor([0, 1]))
    new, truth = moons(seed=5)
    assert (method(outputs(points)).argmax(1).numpy() == labels).mean() > 0.95
    assert (method(outputs(new)).argmax(1).numpy() == truth).mean() > 0.95


def test_pool_points_are_answered_nearly_as_on_the_graph():
    points, _ = moons(300)
    method = made()
    method.observe_pool(outputs(points))
    method.fit(outputs(points[:8]), torch.tensor([0, 1] * 4))
    inside = method.answers.float()[8:]  # labelled rows stand first, then the pool in order
    outside = (method(outputs(points[8:])) / method.sharp).softmax(1)
    assert (outside - inside).abs().mean() < 0.05


def test_left_out_answers_are_those_of_a_fit_without_the_label():
    points, labels = moons()
    rows = np.arange(12)

    def fitted(kept):
        method = made(balanced=False)  # balancing counts the label's class, itself included
        method.observe_pool(outputs(points))
        method.fit(outputs(points[kept]), torch.tensor(labels[kept]))
        return method

    whole = fitted(rows)
    for row in (0, 5, 11):
        rest = np.delete(rows, row)
        again = fitted(rest)
        node = len(rest) + np.flatnonzero(np.setdiff1d(np.arange(len(points)), rest) == row)[0]
        assert torch.allclose((whole.left_out[row] / whole.sharp).softmax(0), again.answers[node].float(), atol=2e-3)


def test_a_program_stays_within_a_megabyte_and_keeps_the_labelled_rows():
    generator = torch.Generator().manual_seed(3)
    wide = torch.randn(3000, 2000, generator=generator) * torch.linspace(1, 0.01, 2000)
    method = made()
    method.observe_pool(outputs(wide))
    method.fit(outputs(wide[5:25]), torch.tensor([0, 1] * 10))
    size = sum(t.numel() * t.element_size() for t in method.state_dict().values())
    assert size <= 1_000_000 and method.rows > 1000
    assert method(outputs(wide[5:25])).argmax(1).tolist() == [0, 1] * 10


def test_it_comes_back_from_its_configuration_and_tensors():
    points, labels = moons()
    method = made()
    method.observe_pool(outputs(points))
    method.fit(outputs(points[:10]), torch.tensor(labels[:10]))
    again = Diffusion(**method.config())
    again.build(SPEC, info())
    again.load_state_dict(method.state_dict())
    assert torch.equal(again(outputs(points)), method(outputs(points)))
    assert all(t.double().isfinite().all() for t in method.state_dict().values())


def test_rows_outside_the_pool_join_it_and_doubles_keep_their_own_node():
    points, labels = moons()
    method = made()
    method.observe_pool(outputs(points[20:]))
    twice = np.concatenate([points[:5], points[:1], points[30:31], points[30:31]])
    given_labels = torch.tensor([*labels[:5], 1 - labels[0], labels[30], 1 - labels[30]])
    method.fit(outputs(twice), given_labels)
    assert method.rows == 180 + 5 + 1 + 1  # the pool, five new rows, a double of one, a double of a pool row
    assert method(outputs(points)).isfinite().all()


def test_values_and_missing_labels():
    points, _ = moons()
    value = torch.tensor(points[:, 0])
    method = made(info("regression", ("v",)))
    method.observe_pool(outputs(points))
    method.fit(outputs(points[::10]), value[::10])
    error = (method(outputs(points))[:, 0] - value).square().mean()
    assert error < 0.1 * value.var()
    tasks = torch.stack([(value > 0.5).float(), torch.full_like(value, float("nan"))], 1)[::10].clone()
    tasks[0, 0] = float("nan")
    method = made(info("multilabel", ("x", "y")))
    method.observe_pool(outputs(points))
    method.fit(outputs(points[::10]), tasks)
    answer = method(outputs(points))
    assert answer.isfinite().all()
    assert ((answer[:, 0] > 0) == (value > 0.5)).float().mean() > 0.9


def test_where_no_label_arrives_the_answer_is_the_mean_of_all():
    rng = np.random.default_rng(0)
    far = np.concatenate([rng.normal(size=(40, 2)), 1000 + rng.normal(size=(40, 2))])
    method = made(neighbours=5)
    method.observe_pool(outputs(far))
    method.fit(outputs(far[:4]), torch.tensor([0, 0, 0, 1]))
    lonely = (method(outputs(far[40:])) / method.sharp).softmax(1)
    assert torch.allclose(lonely, torch.tensor([0.75, 0.25]).expand(40, 2), atol=0.02)


def test_one_sentence_where_something_is_missing():
    with pytest.raises(ConfigError, match="alpha"):
        made(alpha=1.0)
    with pytest.raises(ConfigError, match=r"target\.unlabelled"):
        made().fit(outputs(np.zeros((3, 2))), torch.tensor([0, 1, 1]))
    with pytest.raises(SourceError, match="must be fitted"):
        made()(outputs(np.zeros((3, 2))))
    with pytest.raises(SourceError, match="NaN or infinity for row 1"):
        made().observe_pool(outputs([[0.0, 1], [float("nan"), 2]]))
    with pytest.raises(ConfigError, match="more than is kept"):
        made(width=10**6, size=1000)


@given(st.integers(2, 40), st.integers(1, 6), st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_the_space_keeps_what_varies(rows, width, seed):
    """Property: all components together keep the distances of scaled rows."""
    values = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    space = principal([values], 50)
    scaled, points = space.scaled(values), space(values)
    assert torch.allclose(torch.cdist(scaled, scaled), torch.cdist(points, points), atol=1e-3)
    assert torch.allclose(scaled.square().sum(1).mean(), torch.tensor(1.0), atol=1e-3)
