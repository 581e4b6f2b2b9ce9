"""The training loop: what is trained, what is frozen, and a killed run that ends with the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reprogram.errors import ConfigError, SourceError
from reprogram.hooks import Hook
from reprogram.interfaces import InputTransformation, OutputMapping
from reprogram.model import ReprogrammedModel
from reprogram.training import precision
from reprogram.training.augment import Affine
from reprogram.training.backpropagation import Backpropagation
from reprogram.training.base import loss_for
from reprogram.training.loop import Training


@dataclass(eq=False)
class Shift(InputTransformation):
    """A trainable colour shift."""

    def build(self, spec, target):
        self.colour = nn.Parameter(torch.zeros(3, 1, 1))

    def forward(self, batch):
        return [batch + self.colour]


@dataclass(eq=False)
class Head(OutputMapping):
    """A linear layer on source logits."""

    def build(self, spec, target):
        torch.manual_seed(0)
        self.linear = nn.Linear(len(spec.labels), len(target.classes))

    def forward(self, outputs):
        return self.linear(outputs[0].logits)


@dataclass(eq=False)
class Means(OutputMapping):
    """A statistics-based mapping that counts how often it was fed: in all, because training ends with a new object."""

    statistics = True
    refreshed: ClassVar[int] = 0

    def build(self, spec, target):
        self.register_buffer("table", torch.zeros(len(spec.labels), len(target.classes)))

    def observe(self, outputs, labels):
        self.next = outputs[0].logits.softmax(1).T @ F.one_hot(labels, self.table.shape[1]).float()

    def refresh(self):
        self.table.copy_(self.next)
        Means.refreshed += 1

    def forward(self, outputs):
        return outputs[0].logits @ self.table


class Killed(BaseException):
    """Stands for SIGKILL inside the process."""


class KillAfter(Hook):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, run, model, epoch, metrics):
        if epoch == self.epoch:
            raise Killed


def make(tiny_source, info, output=None):
    return ReprogrammedModel(tiny_source(), Shift(), output or Head(), info)


def settings(**more):
    return Training(**({"epochs": 6, "batch_size": 16, "checkpoint_seconds": 0.0} | more))


def test_training_lowers_the_loss_and_leaves_the_source_alone(tiny_source, easy_images, empty_run):
    examples, info = easy_images
    model = make(tiny_source, info)
    before = model.source.fingerprint()
    history = settings(epochs=30, optimiser=Backpropagation(learning_rate=0.1)).fit(model.train(), examples, empty_run)
    assert history.epochs[-1]["loss"] < 0.7 * history.epochs[0]["loss"]
    assert (model.predict(examples) == examples.labels).mean() > 0.9
    assert model.source.fingerprint() == before


def test_trap_batchnorm_moves_in_a_frozen_model(tiny_source, easy_images):
    examples, info = easy_images
    model = make(tiny_source, info)
    model.train()
    model.source.train()
    before = model.source.fingerprint()
    model(examples.batch(range(40)))
    assert model.source.fingerprint() == before
    assert not any(module.training for module in model.source.modules())


@pytest.mark.parametrize("killed_after", [0, 2, 4])
@pytest.mark.parametrize("output", [Head, Means])
def test_a_killed_run_ends_with_the_same_numbers(tiny_source, easy_images, empty_run, tmp_path, killed_after, output):
    examples, info = easy_images
    augment = Affine()
    whole = make(tiny_source, info, output())
    history = settings(augment=augment).fit(whole, examples, empty_run)

    empty_run.dir = tmp_path / "killed"
    with pytest.raises(Killed):
        settings(augment=augment).fit(make(tiny_source, info, output()), examples, empty_run, [KillAfter(killed_after)])
    empty_run.resume = True
    resumed = make(tiny_source, info, output())
    again = settings(augment=augment).fit(resumed, examples, empty_run)
    assert again.epochs == history.epochs
    for name, tensor in whole.program().items():
        assert torch.equal(tensor, resumed.program()[name]), name


def test_data_that_changed_between_a_kill_and_its_resumption_are_trained_on_anew(tiny_source, easy_images, empty_run):
    examples, info = easy_images
    with pytest.raises(Killed):
        settings().fit(make(tiny_source, info), examples, empty_run, [KillAfter(4)])
    empty_run.resume = True
    examples.labels = 1 - examples.labels
    resumed, fresh = make(tiny_source, info), make(tiny_source, info)
    history = settings().fit(resumed, examples, empty_run)
    empty_run.resume = False
    assert history.epochs == settings().fit(fresh, examples, empty_run).epochs
    for name, tensor in fresh.program().items():
        assert torch.equal(tensor, resumed.program()[name]), name


def test_statistics_come_from_the_training_pass_not_from_a_second_one(tiny_source, easy_images, empty_run):
    examples, info = easy_images
    model = make(tiny_source, info, Means())
    calls, before = [], Means.refreshed
    model.source.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    settings(epochs=5).fit(model, examples, empty_run)
    assert sum(calls) == 40 * (1 + 5)  # one pass for the first mapping, then one a trained epoch
    assert Means.refreshed - before == 1 + 4  # the last epoch keeps the mapping that it trained with


def test_a_frozen_front_is_read_once(tiny_source, easy_images, empty_run):
    examples, info = easy_images

    @dataclass(eq=False)
    class Plain(InputTransformation):
        def forward(self, batch):
            return [batch]

    model = ReprogrammedModel(tiny_source(), Plain(), Head(), info)
    calls = []
    model.source.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    settings(epochs=50).fit(model, examples, empty_run)
    assert sum(calls) == 40


def test_patience_ends_a_run_by_the_training_loss(tiny_source, easy_images, empty_run):
    examples, info = easy_images
    training = settings(epochs=200, patience=3, optimiser=Backpropagation(learning_rate=1e-9, schedule="constant"))
    history = training.fit(make(tiny_source, info), examples, empty_run)
    assert len(history.epochs) < 20
    assert "did not fall" in history.ended


def test_a_loss_that_explodes_is_one_sentence(tiny_source, easy_images, empty_run):
    examples, info = easy_images
    model = make(tiny_source, info)
    model.output.linear.weight.data.fill_(float("nan"))
    with pytest.raises(SourceError, match="loss became nan in epoch 1"):
        settings().fit(model, examples, empty_run)


def test_unknown_choices_are_named():
    with pytest.raises(ConfigError, match="did you mean 'adam'"):
        Backpropagation(method="adm")
    with pytest.raises(ConfigError, match="did you mean 'cosine'"):
        Backpropagation(schedule="cosin")
    with pytest.raises(ConfigError, match="did you mean 'bfloat16'"):
        precision.choose("bfloat", torch.device("cpu"))
    with pytest.raises(ConfigError, match="batch_size=0"):
        Training(batch_size=0)


def test_schedules():
    steps = Backpropagation(learning_rate=1.0, schedule="steps", milestones=(0.5, 0.72))
    steps.total_steps = 100
    assert [steps.rate(i) for i in (0, 49, 50, 72)] == pytest.approx([1.0, 1.0, 0.1, 0.01])
    cosine = Backpropagation(learning_rate=2.0)
    cosine.total_steps = 10
    assert cosine.rate(0) == 2.0
    assert cosine.rate(5) == pytest.approx(1.0)
    assert cosine.rate(10) == pytest.approx(0.0, abs=1e-9)


def test_working_size_follows_the_resolutions():
    training = Training(epochs=10, resolutions=[[0.5, 96], [0.8, 160]])
    assert [training.side(e) for e in (0, 4, 5, 7, 8, 9)] == [96, 96, 160, 160, None, None]


def test_missing_multilabel_labels_do_not_count():
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    labels = torch.tensor([[1.0, float("nan")], [float("nan"), 0.0]])
    expected = (F.softplus(torch.tensor(-2.0)) + F.softplus(torch.tensor(3.0))) / 2
    assert loss_for("multilabel")(logits, labels) == pytest.approx(float(expected))


def test_augmentation_is_seeded_and_stays_in_range():
    images = torch.rand(5, 1, 9, 9)
    one = Affine()(images, torch.Generator().manual_seed(3))
    two = Affine()(images, torch.Generator().manual_seed(3))
    assert torch.equal(one, two)
    assert one.shape == images.shape and one.min() >= 0 and one.max() <= 1
    still = Affine(rotate=0, scale=0, shift=0, shear=0)(images, torch.Generator().manual_seed(3))
    assert torch.allclose(still, images, atol=1e-5)
    flipped = Affine(rotate=0, scale=0, shift=0, shear=0, flip=1.0)(images, torch.Generator().manual_seed(3))
    assert torch.allclose(flipped, images.flip(-1), atol=1e-5)
