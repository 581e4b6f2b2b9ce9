"""The training-free many-to-one map on standardised logits."""

import numpy as np
import pytest
import torch

from reprogram.errors import ConfigError
from reprogram.interfaces import SourceOutput, SourceSpec, TargetInfo
from reprogram.outputs.top_k import TopK, evidence, keep_best, left_out_scores


def built(sources=30, classes=3, **options):
    mapping = TopK(**options)
    spec = SourceSpec("image", 32, tuple(f"s{i}" for i in range(sources)))
    mapping.build(spec, TargetInfo("toy", "image", "classification", tuple(f"t{i}" for i in range(classes))))
    return mapping


def sample(n=30, classes=3, seed=0, lift=2.0):
    """Source label s fires more for target label s mod 4 (source labels with s mod 4 = 3 never tell anything)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    logits = rng.normal(size=(n, 30)) * np.linspace(0.5, 5, 30) + np.linspace(-9, 9, 30)
    logits += lift * np.linspace(0.5, 5, 30) * (labels[:, None] == np.arange(30)[None] % 4)
    return torch.tensor(logits).float(), torch.tensor(labels)


def test_evidence_against_loops():
    z, labels = sample()
    mean, deviation = evidence(z, torch.nn.functional.one_hot(labels, 3).float())
    within = torch.zeros(30)
    for t in range(3):
        rows = z[labels == t]
        assert torch.allclose(mean[:, t], rows.mean(0), atol=1e-5)
        within += (rows - rows.mean(0)).square().sum(0)
    assert torch.allclose(deviation, (within / len(z)).sqrt(), atol=1e-4)


def test_source_labels_that_speak_for_a_target_label_are_chosen():
    logits, labels = sample()
    mapping = built(k=4)
    mapping.fit([SourceOutput(logits)], labels)
    weights = mapping.weights()
    assert (weights >= 0).all() and torch.allclose(weights.sum(0), torch.ones(3))
    assert ((weights > 0).sum(0) <= 4).all()
    for t in range(3):
        assert set((torch.nonzero(weights[:, t]).flatten() % 4).tolist()) == {t}
    fresh, truth = sample(seed=1)
    assert (mapping([SourceOutput(fresh)]).argmax(1) == truth).float().mean() > 0.95


def test_a_source_label_that_always_fires_does_not_win():
    logits, labels = sample()
    logits[:, 3] += 100.0
    mapping = built(k=3)
    mapping.fit([SourceOutput(logits)], labels)
    assert mapping.weights()[3].max() == 0


def test_left_out_scores_equal_refits():
    logits, labels = sample(n=9)
    one_hot = torch.nn.functional.one_hot(labels, 3).float()
    z = (logits - logits.mean(0)) / logits.std(0, correction=0)
    scores, truth = left_out_scores(z, one_hot, [2, 5])
    for i in range(9):
        rest = [j for j in range(9) if j != i]
        for kept, k in zip(scores, (2, 5), strict=True):
            expected = z[i] @ keep_best(*evidence(z[rest], one_hot[rest]), k)
            assert torch.allclose(kept[i].float(), expected, atol=1e-5)
    assert torch.equal(truth.argmax(1), labels)


def test_a_class_without_examples_keeps_its_column_and_never_wins():
    logits, labels = sample(classes=2)
    mapping = built(classes=3)
    mapping.fit([SourceOutput(logits)], labels * 2)  # labels 0 and 2
    answers = mapping([SourceOutput(logits)])
    assert torch.isfinite(answers).all()
    assert (answers.argmax(1) == labels * 2).float().mean() > 0.95
    assert torch.allclose(mapping.weights()[:, 1], torch.tensor(1 / 30))


def test_views_are_standardised_apart_and_kept_with_the_program():
    logits, labels = sample()
    other = logits * 7 - 30
    mapping = built()
    mapping.fit([SourceOutput(logits), SourceOutput(other)], labels)
    alone = built()
    alone.fit([SourceOutput(logits)], labels)
    answer = mapping([SourceOutput(logits), SourceOutput(other)])
    assert torch.allclose(answer, alone([SourceOutput(logits)]), atol=1e-3)
    again = built(**mapping.config())
    again.load_state_dict(mapping.state_dict())
    assert torch.equal(again([SourceOutput(logits), SourceOutput(other)]), answer)
    with pytest.raises(ConfigError, match="reads 2 views"):
        mapping([SourceOutput(logits)])


def test_one_example_a_class_works():
    logits, labels = sample(n=3)
    mapping = built()
    mapping.fit([SourceOutput(logits)], labels)
    assert mapping([SourceOutput(logits)]).argmax(1).tolist() == [0, 1, 2]


def test_mistakes_get_one_sentence():
    with pytest.raises(ConfigError, match="k is 31"):
        built(k=31)
    with pytest.raises(ConfigError, match="views=0 must be"):
        built(views=0)
