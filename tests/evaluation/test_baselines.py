"""Baselines beside a program: each one runs on each kind of target it is for, and says why where it is not."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from reprogram.evaluation.baselines import from_scratch, linear_probe, random_source
from reprogram.evaluation.baselines.base import Baseline, Bench, NotApplicable
from reprogram.evaluation.compare import compare, mcnemar
from reprogram.evaluation.features import shared_answers
from reprogram.inputs.base import ImageInput
from reprogram.inputs.none import NoPrompt
from reprogram.interfaces import Featuriser, TargetInfo, TargetTask
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.registry import find, names
from reprogram.targets.base import ArrayExamples
from reprogram.training.loop import Training, fit


@dataclass(eq=False)
class Tint(ImageInput):
    """A trainable colour: the smallest prompt there is."""

    def build(self, spec, target):
        super().build(spec, target)
        self.colour = nn.Parameter(torch.zeros(3, 1, 1))

    def forward(self, batch):
        return [self.plain(batch) + self.colour]


class Mean(Featuriser):
    models = ("logistic", "forest")

    def __call__(self, batch):
        return batch.mean((2, 3)).numpy()


class Task(TargetTask):
    def featurisers(self):
        return {"mean": Mean()}


LIGHT = ["mapping_only", "linear_probe", "random_source"]


def labelled(images, problem):
    """Labels that the mean red tells: classes, two tasks with gaps, or the value itself."""
    red = images[:, 0].mean((1, 2))
    if problem == "classification":
        return (red > np.median(red)).astype(np.int64), ("a", "b")
    if problem == "regression":
        return red[:, None], ("red",)
    labels = np.c_[red > np.median(red), red <= np.median(red)].astype(float)
    labels[::5, 1] = np.nan
    return labels, ("high", "low")


@pytest.fixture
def task(easy_images):
    examples, _ = easy_images

    def make(problem="classification"):
        labels, classes = labelled(examples.images, problem)
        info = TargetInfo("easy", "image", problem, classes, (3, 12, 12))
        whole = ArrayExamples(examples.images, labels)
        order = np.random.default_rng(1).permutation(40)
        return Task(info, whole.subset(order[:20]), whole.subset(order[20:]))

    return make


def trained(source, target, input=None):
    model = ReprogrammedModel(source, input or NoPrompt(), RidgeTaps(layers=("conv@2",)), target.info)
    fit(model, target.train, Training(epochs=2))
    return model


@pytest.mark.parametrize("problem", ["classification", "multilabel", "regression"])
def test_all_baselines_on_every_kind_of_problem(problem, tiny_source, task, monkeypatch):
    monkeypatch.setattr(from_scratch.FromScratch.__init__, "__defaults__", ((30, 60), 32, 16))
    target = task(problem)
    model = trained(tiny_source(), target)
    with shared_answers(model) as source:
        found = compare(model, target, Training(epochs=2), seed=0)
    rows = {"mapping_only", "linear_probe", "nearest_centroid", "mean+logistic", "mean+forest", "random_source"}
    assert set(found.baselines) == rows | {"from_scratch"} and found.skipped == {}
    assert source.asked == 40, "training and test images are read once for the program and all its baselines"
    shape = (20, len(target.info.classes))
    assert all(s.shape == shape and np.isfinite(s).all() for s in found.baseline_scores.values())
    expected = {"classification": "roc_auc", "multilabel": "roc_auc", "regression": "rmse"}[problem]
    assert found.metric == expected and expected in found.baselines["mean+logistic"]
    if problem != "regression":
        assert found.baselines["mean+logistic"]["roc_auc"]["value"] > 0.9
        assert found.baselines["from_scratch"]["roc_auc"]["value"] > 0.8
    else:
        assert found.baselines["mean+logistic"]["r2"]["value"] > 0.9
    assert found.verdict.endswith(".")


def test_mapping_only_drops_the_prompt_and_trains_the_same_mapping(tiny_source, task):
    target = task()
    model = trained(tiny_source(), target, Tint())
    with shared_answers(model):
        found = compare(model, target, Training(epochs=2), ["mapping_only"], seed=0)
    alone = trained(tiny_source(), target)
    assert np.allclose(found.baseline_scores["mapping_only"], alone.predict_proba(target.test), atol=1e-6)
    assert not found.differences["mapping_only"].same


def test_mapping_only_of_a_program_without_prompt_is_the_program(tiny_source, task):
    target = task()
    model = trained(tiny_source(), target)
    with shared_answers(model):
        found = compare(model, target, Training(), ["mapping_only"], seed=0)
    assert found.differences["mapping_only"].same
    assert found.baselines["mapping_only"] == found.metrics


def test_baselines_change_neither_program_nor_source(tiny_source, task):
    target = task()
    model = trained(tiny_source(), target, Tint())
    before, mark = model.program(), model.source.fingerprint()
    with shared_answers(model):
        compare(model, target, Training(epochs=1), LIGHT, seed=0)
    assert model.source.fingerprint() == mark
    assert all(torch.equal(v, model.program()[k]) for k, v in before.items())


def test_test_labels_reach_no_prediction(tiny_source, task):
    target = task()
    model = trained(tiny_source(), target)

    def scores():
        with shared_answers(model):
            return compare(model, target, Training(epochs=1), LIGHT, seed=0).baseline_scores

    honest = scores()
    target.test.labels = 1 - target.test.labels
    assert all(np.array_equal(honest[name], other) for name, other in scores().items())


def test_redrawn_source_keeps_scales_and_forgets_the_rest(tiny_source):
    source = tiny_source()
    first, again, other = (random_source.redrawn(source, seed) for seed in (0, 0, 1))
    assert first.fingerprint() == again.fingerprint()
    assert len({first.fingerprint(), other.fingerprint(), source.fingerprint()}) == 3
    assert not any(p.requires_grad for p in first.parameters())
    ratio = first.conv[0].weight.std() / source.conv[0].weight.std()
    assert 0.8 < float(ratio) < 1.2


def test_source_that_cannot_be_reached_skips_with_a_reason(tiny_source, task):
    target = task()
    source = tiny_source()
    source.differentiable = False
    model = ReprogrammedModel(source, NoPrompt(), RidgeTaps(layers=("conv@2",)), target.info)
    fit(model, target.train, Training())
    with shared_answers(model):
        found = compare(model, target, Training(), ["random_source"], seed=0)
    assert found.baselines == {} and "not accessible" in found.skipped["random_source"]


def test_probe_of_a_source_without_features_is_not_applicable(tiny_source, task, monkeypatch):
    target = task()
    model = trained(tiny_source(), target)
    with shared_answers(model) as source:
        plain = source.source.answer
        monkeypatch.setattr(source.source, "answer", lambda x, taps=(): type(plain(x))(plain(x).logits))
        bench = Bench(model, target, np.zeros((20, 2)), Training(), 0)
        with pytest.raises(NotApplicable, match="gives no features"):
            linear_probe.LinearProbe()(bench)


def test_from_scratch_reads_images_only(tiny_source, task):
    target = task()
    bench = Bench(trained(tiny_source(), target), target, np.zeros((20, 2)), Training(), 0)
    target.info = TargetInfo("t", "text", "classification", ("a", "b"))
    with pytest.raises(NotApplicable, match="images only"):
        from_scratch.FromScratch()(bench)


@pytest.mark.parametrize("name", names("reprogram.evaluation.baselines"))
def test_every_file_holds_one_baseline(name):
    assert issubclass(find("reprogram.evaluation.baselines", name, Baseline), Baseline)


def test_mcnemar_of_a_known_table():
    first = np.array([True] * 9 + [False] * 1 + [True] * 20)
    second = np.array([False] * 9 + [True] * 1 + [True] * 20)
    assert mcnemar(first, second) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(first, first) == 1.0


def test_how_long_the_small_network_learns_is_chosen_among_the_training_labels(tiny_source, task, monkeypatch):
    target = task()
    bench = Bench(trained(tiny_source(), target), target, np.zeros((20, 2)), Training(), 0)
    method = from_scratch.FromScratch(steps=(1, 60))
    images, labels = method._images(target.train), torch.from_numpy(target.train.labels)
    assert method._chosen_steps(images, labels, bench) == 60
    assert from_scratch.FromScratch(steps=(7,))._chosen_steps(images, labels, bench) == 7
    assert from_scratch.FromScratch(steps=(3, 9))._chosen_steps(images[:8], labels[:8], bench) == 3
