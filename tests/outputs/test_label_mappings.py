"""Mappings from source labels to target labels; each test of a trap is named after it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reprogram.errors import ArtifactError, ConfigError
from reprogram.interfaces import OutputMapping, SourceOutput, SourceSpec, TargetInfo
from reprogram.outputs._counts import match_greedily
from reprogram.registry import find

COUNTED = ["frequency", "iterative", "bayesian", "bayesian_plus", "many_to_one"]


def built(name, sources=20, classes=3, **options):
    mapping = find("reprogram.outputs", name, OutputMapping)(**options)
    labels = tuple(f"t{i}" for i in range(classes))
    spec = SourceSpec("image", 32, tuple(f"s{i}" for i in range(sources)))
    mapping.build(spec, TargetInfo("toy", "image", "classification", labels))
    return mapping


def learn(mapping, logits, labels):
    mapping.observe([SourceOutput(logits)], torch.as_tensor(labels))
    mapping.refresh()


def tops(index, sources=20, size=8.0):
    """Logits whose top answers are ``index``."""
    return size * torch.nn.functional.one_hot(torch.tensor(index), sources).float()


@pytest.mark.parametrize("name", [*COUNTED, "random"])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 5), n=st.integers(1, 30))
def test_any_sample_gives_a_valid_mapping(name, seed, classes, n):
    generator = torch.Generator().manual_seed(seed)
    mapping = built(name, sources=40, classes=classes)
    logits = 5 * torch.randn(n, 40, generator=generator)
    learn(mapping, logits, torch.randint(0, classes, (n,), generator=generator))
    weights = mapping.weights()
    assert weights.shape == (40, classes)
    assert torch.isfinite(weights).all() and (weights >= 0).all()
    assert torch.allclose(weights.sum(0), torch.ones(classes), atol=1e-5)
    if not name.startswith("bayesian"):  # no source label serves two target labels
        assert ((weights > 0).sum(1) <= 1).all()
    assert mapping([SourceOutput(logits)]).shape == (n, classes)


def test_greedy_matching_against_brute_force():
    rng = np.random.default_rng(0)
    hits = rng.integers(0, 9, (12, 4)).astype(float)
    mass = rng.uniform(0.1, 1, (12, 4))
    table = {(s, t): (hits[s, t], mass[s, t]) for s in range(12) for t in range(4)}
    expected = {}
    while len(expected) < 4:
        s, t = max(table, key=table.get)
        expected[t] = s
        table = {(a, b): v for (a, b), v in table.items() if a != s and b != t}
    got = match_greedily(torch.tensor(np.stack([hits, mass])))
    assert got[:, 0].tolist() == [expected[t] for t in range(4)]


@pytest.mark.parametrize("name", ["frequency", "iterative", "bayesian", "many_to_one"])
def test_an_absent_class_never_shifts_columns(name):
    mapping = built(name, classes=4, **({"each": 2} if name == "many_to_one" else {}))
    learn(mapping, tops([5, 5, 7, 7, 9, 9]), [0, 0, 2, 2, 3, 3])  # class 1 has no example
    logits = mapping([SourceOutput(tops([5, 7, 9]))])
    assert logits.argmax(1).tolist() == [0, 2, 3]


def test_equal_counts_are_decided_by_probability_not_by_order():
    logits = torch.zeros(2, 20)
    logits[0, 3], logits[0, 11] = 4.0, 3.9  # both examples have top answer 3
    logits[1, 3], logits[1, 15] = 4.0, 3.9
    mapping = built("iterative", classes=2)
    learn(mapping, logits, [0, 1])
    assert set(mapping.index.flatten().tolist()) in ({3, 15}, {3, 11})
    assert {0, 1, 2}.isdisjoint(mapping.index.flatten().tolist())


def test_frequency_is_chosen_once_and_iterative_every_epoch():
    for name, expected in (("frequency", [4, 6]), ("iterative", [8, 9])):
        mapping = built(name, classes=2)
        learn(mapping, tops([4, 6]), [0, 1])
        learn(mapping, tops([8, 9]), [0, 1])
        assert mapping.index.flatten().tolist() == expected


def test_batches_add_up_to_one_pass():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(30, 20, generator=generator), torch.randint(0, 3, (30,), generator=generator)
    for name in COUNTED:
        whole, parts = built(name), built(name)
        learn(whole, logits, labels)
        for rows in torch.arange(30).split(7):
            parts.observe([SourceOutput(logits[rows])], labels[rows])
        parts.refresh()
        assert torch.allclose(whole.weights(), parts.weights(), atol=1e-6)


def test_a_kept_frequency_mapping_stays_when_it_is_trained_on():
    mapping = built("frequency", classes=2)
    learn(mapping, tops([4, 6]), [0, 1])
    again = built("frequency", classes=2)
    again.load_state_dict(mapping.state_dict())
    learn(again, tops([8, 9]), [0, 1])
    assert again.index.flatten().tolist() == [4, 6]


def test_blm_by_hand():
    mapping = built("bayesian", sources=3, classes=2)
    learn(mapping, tops([0, 0, 0, 1, 1], 3), [0, 0, 1, 1, 1])
    votes = np.array([[2 / 4, 1 / 4], [0, 2 / 3], [0, 0]])
    assert np.allclose(mapping.weights().numpy(), votes / votes.sum(0), atol=1e-6)
    logits = torch.tensor([[1.0, 2.0, 3.0]])  # the weight multiplies logits, not probabilities
    assert torch.allclose(mapping([SourceOutput(logits)]), logits @ mapping.weights())


def test_blm_plus_by_hand():
    mapping = built("bayesian_plus", sources=4, classes=2, share=1.0)  # k = 2
    logits = torch.tensor([[3.0, 2.0, 0.0, 0.0], [0.0, 3.0, 1.0, 0.0]])
    learn(mapping, logits, [0, 1])
    p = logits.softmax(1).numpy()
    sums = np.array([[p[0, 0], 0], [p[0, 1], p[1, 1]], [0, p[1, 2]], [0, 0]])
    votes = sums / (sums.sum(1, keepdims=True) + 1)
    assert np.allclose(mapping.weights().numpy(), votes / votes.sum(0), atol=1e-6)


@pytest.mark.parametrize("classes", [2, 5, 6])
def test_blm_plus_with_few_target_labels_is_not_nan(classes):
    mapping = built("bayesian_plus", classes=classes)  # int(0.15 * classes) = 0
    learn(mapping, tops(list(range(classes))), list(range(classes)))
    assert torch.isfinite(mapping.weights()).all()
    assert mapping.top == 1


def test_blm_without_smoothing_is_refused():
    with pytest.raises(ConfigError, match="above 0"):
        built("bayesian", smoothing=0.0)


def test_blm_columns_sum_to_one_and_rows_do_not():
    mapping = built("bayesian")
    learn(mapping, tops([0, 1, 1, 2, 2, 2]), [0, 0, 1, 1, 2, 2])
    assert torch.allclose(mapping.weights().sum(0), torch.ones(3))
    assert not torch.allclose(mapping.weights().sum(1)[:3], torch.ones(3))


def test_many_to_one_labels_are_not_interleaved():
    mapping = built("many_to_one", classes=2, each=3)
    answers = [0, 0, 0, 1, 1, 2, 10, 10, 10, 11, 11, 12]
    learn(mapping, tops(answers), [0] * 6 + [1] * 6)
    assert sorted(mapping.index[0].tolist()) == [0, 1, 2]
    assert sorted(mapping.index[1].tolist()) == [10, 11, 12]
    logits = torch.randn(5, 20, generator=torch.Generator().manual_seed(1))
    means = torch.stack([logits.softmax(1)[:, group].mean(1) for group in ([0, 1, 2], [10, 11, 12])], 1)
    assert torch.allclose(mapping([SourceOutput(logits)]), means.log(), atol=1e-5)  # probabilities, not logits


def test_many_to_one_by_lot_does_not_look_at_examples():
    mapping = built("many_to_one", classes=2, each=3, assignment="random")
    before = mapping.index.clone()
    learn(mapping, tops([5, 6]), [0, 1])
    assert torch.equal(mapping.index, before)


def test_views_are_averaged():
    mapping = built("iterative", classes=2)
    learn(mapping, tops([4, 6]), [0, 1])
    a, b = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(2))
    both = mapping([SourceOutput(a), SourceOutput(b)])
    assert torch.allclose(both, ((a + b) / 2)[:, [4, 6]])


def test_mistakes_get_one_sentence():
    with pytest.raises(ConfigError, match="has only 2"):
        built("iterative", sources=2)
    with pytest.raises(ConfigError, match="many_to_one gives each of 3 target labels 7"):
        built("many_to_one", each=7)
    mapping = built("iterative", sources=5)
    mapping.load_state_dict({"index": torch.tensor([[0], [7], [1]])})
    with pytest.raises(ArtifactError, match="source label 7 of 5"):
        mapping([SourceOutput(torch.zeros(1, 5))])
    text = SourceSpec("text", 64, (), answers="none")
    with pytest.raises(ConfigError, match="has none"):
        find("reprogram.outputs", "bayesian", OutputMapping)().build(
            text, TargetInfo("t", "text", "classification", ("a", "b"))
        )
    with pytest.raises(ConfigError, match="is regression"):
        find("reprogram.outputs", "bayesian", OutputMapping)().build(
            SourceSpec("image", 32, ("a", "b")), TargetInfo("t", "image", "regression", ("y",))
        )
