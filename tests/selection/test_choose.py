"""program=auto: chosen by cross-validation, honest about what it expects, bounded in time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reprogram.errors import ConfigError, SourceError
from reprogram.evaluation.point_metrics import accuracy, rmse
from reprogram.interfaces import Examples, SourceOutput, SourceSpec, TargetInfo, TargetTask
from reprogram.modalities import Candidate, modality
from reprogram.selection import choose as choose_module
from reprogram.selection.bias import corrected
from reprogram.selection.candidates import join, make_input, make_output
from reprogram.selection.choose import Auto, choose
from reprogram.selection.costs import PassCosts
from reprogram.selection.crossval import make_folds, own_share, probabilities, squared_error
from reprogram.selection.rule import Rule

VIEW = ("views", {"sizes": [16], "flip": False})


class Untouchable(Examples):
    """Test examples that nobody may look at while a program is chosen."""

    @property
    def labels(self):
        raise AssertionError("test labels were read")

    def batch(self, rows):
        raise AssertionError("test inputs were read")

    def subset(self, rows):
        raise AssertionError("test examples were read")


@pytest.fixture
def task(easy_images):
    examples, info = easy_images
    return TargetTask(info, examples, Untouchable())


def fast(**more):
    return Auto(**({"minutes": 1.0, "folds": 3, "repeats": 1, "prompts": False} | more))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=6, max_size=40), st.integers(2, 5), st.integers(0, 99))
def test_every_example_is_held_out_once_a_repeat_and_no_class_vanishes(labels, count, seed):
    labels = np.array([*labels, 0, 0, 1, 1])
    found = make_folds(labels, ("a", "b", "c", "d"), count, 2, seed)
    held = np.sum(found.validation, 0)
    assert (held[~found.never] == 2).all() and (held[found.never] == 0).all()
    for mask in found.validation:
        assert set(labels[~mask]) == set(labels)


def test_a_class_of_one_is_named():
    found = make_folds(np.array([0, 0, 0, 1, 1, 2]), ("a", "b", "rare"), 3, 1, 0)
    assert "rare has one example" in found.note and found.never.tolist() == [False] * 5 + [True]


def test_the_estimate_is_corrected_for_having_chosen_among_noise():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 120)
    predicted = rng.dirichlet((1, 1), size=(60, 120))  # sixty candidates that know nothing
    errors = ((predicted - np.eye(2)[labels]) ** 2).sum(-1)
    found = corrected(errors, predicted, labels, accuracy, Rule((1,) * 60, (False,) * 60))
    assert found.naive > 0.56  # flattery of the best of sixty
    assert found.value == pytest.approx(0.5, abs=0.04)
    assert found.low <= found.value <= found.high


def few_of_many_classes(seed, each=3, classes=12, spread=1.2, size=8):
    """Nearest-mean answers to draws of ``each`` labels a class: held-out ones, and those of new examples."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, size))
    labels, new = np.repeat(np.arange(classes), each), rng.integers(0, classes, 600)
    seen, test = (centres[y] + spread * rng.normal(size=(len(y), size)) for y in (labels, new))

    def scores(x, y, asked):
        means = np.stack([x[y == c].mean(0) for c in range(classes)])
        odds = np.exp(-((asked[:, None] - means) ** 2).sum(2) / 4)
        return odds / odds.sum(1, keepdims=True)

    held, folds = np.zeros((len(labels), classes)), make_folds(labels, tuple("abcdefghijkl"), 10, 1, seed).validation
    for mask in folds:
        held[mask] = scores(seen[~mask], labels[~mask], seen[mask])
    return held, labels, folds, accuracy(new, scores(seen, labels, test))


def test_the_forecast_makes_up_for_what_a_fold_holds_out_of_its_own_class():
    """Trap: with three examples a class, a held-out one meets a class that lost a third of its examples."""
    plain, better, inside = [], [], []
    for seed in range(40):
        held, labels, folds, reached = few_of_many_classes(seed)
        errors = ((held - np.eye(12)[labels]) ** 2).sum(-1)[None]
        fewer = own_share(labels, folds)
        assert fewer == pytest.approx(np.log2(2 / 3))
        found = corrected(errors, held[None], labels, accuracy, Rule((1,), (False,)), seed, 60, fewer)
        plain.append(found.naive - reached)
        better.append(found.value - reached)
        inside.append(found.low <= reached <= found.high)
    assert np.mean(plain) < -0.05 and abs(np.mean(better)) < 0.03
    assert np.mean(inside) >= 0.9


@pytest.mark.parametrize("tails", ["normal", "heavy"])
def test_the_interval_of_an_error_of_values_holds_also_where_tails_are_heavy(tails):
    inside = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        draw = (lambda n, r=rng: r.normal(size=n)) if tails == "normal" else (lambda n, r=rng: r.standard_t(4, size=n))
        labels = rng.normal(size=40)
        predicted = (labels - draw(40))[None, :, None]
        errors = (predicted[..., 0] - labels) ** 2
        found = corrected(errors, predicted, labels, rmse, Rule((1,), (False,)), seed, 60)
        truth = float(np.sqrt((draw(400) ** 2).mean()))
        inside.append(found.low <= truth <= found.high)
        assert found.low < found.value < found.high
    assert np.mean(inside) >= 0.9


def test_a_perfect_score_on_few_labels_is_no_certainty():
    labels = np.arange(12) % 3
    perfect = np.eye(3)[labels][None]
    found = corrected(np.zeros((1, 12)), perfect, labels, accuracy, Rule((1,), (False,)), 0, 50)
    assert found.value == found.high == 1.0 and 0.5 < found.low < 0.95


def test_how_much_of_its_own_class_a_held_out_example_missed():
    labels = np.array([0, 0, 0, 0, 1, 1])
    assert own_share(labels, [np.array([True, False, False, False, True, False])]) == pytest.approx(
        (np.log2(3 / 4) + np.log2(1 / 2)) / 2
    )
    assert own_share(np.zeros(10), [np.arange(10) < 2]) == pytest.approx(np.log2(0.8))
    assert own_share(np.full((10, 2), np.nan), [np.arange(10) < 5]) == pytest.approx(-1)


def test_a_preferred_program_is_left_on_evidence_only():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (3, 200))
    for lead, winner in ((0.05, 1), (0.5, 0)):
        errors = noise + np.array([[-lead], [0.0], [0.2]])
        assert Rule((1, 3, 1), (False, True, False))(errors) == winner
    lucky = [Rule((1,) * 9, (True,) + (False,) * 8)(rng.normal(0, 1, (9, 32))) for _ in range(100)]
    assert lucky.count(0) > 70


def test_without_a_preferred_program_near_ties_go_to_fewer_passes():
    errors = np.array([[0.100], [0.1005], [0.12]])
    assert Rule((4, 1, 1), (False,) * 3)(errors) == 1
    assert Rule((4, 1, 1), (False,) * 3)(errors * np.array([[1.0], [1.2], [1.2]])) == 0


def test_temperature_rescues_a_scale_and_squared_error_is_briers():
    info = TargetInfo("t", "image", "classification", ("a", "b"), None)
    labels = torch.tensor([0, 1] * 20)
    logits = torch.stack([1.0 - 2.0 * labels, -1.0 + 2.0 * labels], 1).float()
    logits[0] = logits[0].flip(0)  # one mistake
    small, large = probabilities(logits[None] * 0.01, labels, info), probabilities(logits[None] * 100.0, labels, info)
    assert torch.allclose(small, large, atol=0.02)
    assert squared_error(torch.tensor([[0.8, 0.2]]), torch.tensor([0]), info).item() == pytest.approx(0.08)


def test_choosing_never_touches_the_test_examples_and_refits_on_all_labels(tiny_source, task, empty_run):
    found = choose([tiny_source()], task, fast(), empty_run)
    assert [row["status"] for row in found.rows].count("chosen") == 1
    assert (found.model.predict(task.train) == task.train.labels).mean() > 0.9
    assert all({"candidate", "status", "why"} <= row.keys() for row in found.rows)
    again = choose([tiny_source()], task, fast(), empty_run)
    assert found.estimate == again.estimate


def test_a_time_limit_shorter_than_one_pass_still_gives_a_program(tiny_source, task, empty_run):
    found = choose([tiny_source()], task, fast(minutes=1e-9), empty_run)
    assert "did not fit into" in " ".join(row["why"] for row in found.rows)
    assert any("candidates were fully scored" in note for note in found.notes)
    assert found.model.predict(task.train).shape == (40,)


def test_a_pass_that_would_end_after_the_limit_is_not_begun(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("reprogram.selection.costs.time.monotonic", lambda: now[0])
    costs, large = PassCosts(), ("views", {"sizes": [32], "flip": True})
    assert costs.expected(0, [large]) == 0.0
    with costs.measured(0, VIEW):
        now[0] += 2.0
    assert costs.expected(0, [large]) >= 8 * 2.0  # four times the pixels, twice
    assert costs.expected(1, [large]) == 0.0  # nothing is known of another source


def test_a_choice_that_the_clock_cut_short_is_told(tiny_source, task, empty_run):
    assert "faster machine" in " ".join(choose([tiny_source()], task, fast(minutes=1e-9), empty_run).notes)
    assert choose([tiny_source()], task, fast(), empty_run).notes == []


def test_every_candidate_fits_a_source_without_a_layer_named_head(tiny_source, task, empty_run):
    found = choose([tiny_source()], task, fast(), empty_run)
    assert [row for row in found.rows if row["status"] == "failed"] == []


def test_an_interrupted_search_goes_on(tiny_source, task, empty_run, monkeypatch):
    whole = choose([tiny_source()], task, fast(), empty_run)
    calls = []
    real = choose_module.out_of_fold
    monkeypatch.setattr(choose_module, "out_of_fold", lambda *a: calls.append(1) or real(*a))
    empty_run.resume = True
    resumed = choose([tiny_source()], task, fast(), empty_run)
    assert not calls and resumed.estimate == whole.estimate


def test_all_candidates_failing_is_one_sentence_with_the_reasons(tiny_source, task, empty_run, monkeypatch):
    def fail(*args):
        raise SourceError("the source answers NaN")

    monkeypatch.setattr(choose_module, "out_of_fold", fail)
    with pytest.raises(SourceError, match=r"No candidate program could be fitted .*answers NaN"):
        choose([tiny_source()], task, fast(), empty_run)


def test_several_sources_are_compared_by_name(tiny_source, task, empty_run):
    second = tiny_source(seed=5)
    second.name = "other"
    found = choose([tiny_source(), second], task, fast(), empty_run)
    names = {row["candidate"].split(":")[0] for row in found.rows}
    assert names == {"tiny", "other"}
    assert found.model.source.name == ["tiny", "other"][found.candidate.source]


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match=r"auto.minutes=0"):
        Auto(minutes=0)
    with pytest.raises(ConfigError, match=r"auto.folds=1"):
        Auto(folds=1)


def test_an_ensemble_averages_probabilities_of_the_views_it_names(tiny_source, easy_images):
    examples, info = easy_images
    source = tiny_source()
    labels = torch.from_numpy(examples.labels)
    one = source(examples.batch(range(40)))
    two = SourceOutput(one.logits * 0.5 + 1, one.features.flip(0), {})
    members = [
        {"name": "ridge_taps", "config": {"layers": ["conv@1"], "head": False}, "views": [0]},
        {"name": "ridge_taps", "config": {"layers": ["conv@2"], "head": False}, "views": [0]},
    ]
    both = make_output(("ensemble", {"members": members}))
    both.build(source.spec, info)
    views = [source(examples.batch(range(40)), both.taps()), two]
    both.fit(views, labels)
    singles = [part(views[:1]).softmax(1) for part in both.parts]
    assert torch.allclose(both(views).softmax(1), (singles[0] + singles[1]) / 2, atol=1e-6)
    with pytest.raises(ConfigError, match="reads view 3"):
        wrong = make_output(("ensemble", {"members": [members[0] | {"views": [3]}]}))
        wrong.build(source.spec, info)
        wrong(views)


def test_joining_candidates_merges_their_views():
    one = Candidate("a", ("views", {"sizes": [96], "flip": False}), ("top_k", {}), (VIEW,))
    two = Candidate("b", ("views", {"sizes": [96, 128], "flip": True}), ("ridge_taps", {}), (VIEW,))
    joined = join([one, two])
    assert joined.input == ("views", {"sizes": [96, 128], "flip": True})
    assert [m["views"] for m in joined.output[1]["members"]] == [[0], [0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("kind", "problem"),
    [("image", "classification"), ("molecule", "multilabel"), ("sequence", "classification"), ("text", "regression")],
)
def test_every_candidate_can_be_built_and_names_are_unique(kind, problem):
    text = kind != "image"
    layers = tuple(f"layer_{i}" for i in range(1, 7)) if text else tuple(f"block_{i}" for i in range(1, 17))
    labels = () if text else ("cat", "dog", "bird")
    spec = SourceSpec(
        "text" if text else "image", 224, labels, feature_size=8, taps=layers, answers="none" if text else "logits"
    )
    info = TargetInfo("t", kind, problem, ("a", "b"), None if text else (3, 32, 32))
    listed = modality(kind).candidates(spec, info)
    assert len({c.name for c in listed}) == len(listed) <= 12
    for candidate in listed:
        make_input(candidate.input).build(spec, info)
        make_output(candidate.output).build(spec, info)
        for atom in candidate.atoms:
            make_input(atom).build(spec, info)
