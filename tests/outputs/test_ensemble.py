"""An ensemble answers with the mean of its members' probabilities."""

import pytest
import torch

from reprogram.errors import ConfigError
from reprogram.outputs.ensemble import Ensemble

TWO = ({"name": "linear", "config": {}, "views": [0]}, {"name": "linear", "config": {}, "views": [1]})


@pytest.fixture
def ensemble(spec, info, answers):
    """Two linear members with weights of their own, each reading one view."""

    def make(problem, classes=3, members=TWO):
        mapping = Ensemble(members)
        mapping.build(spec, info(classes, problem))
        views = [answers([0, 1, 2, 1], seed=s) for s in (0, 1)]
        with torch.no_grad():
            for seed, parameter in enumerate(mapping.parameters()):
                parameter.copy_(2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
        return mapping, views, [part([view]) for part, view in zip(mapping.parts, views, strict=False)]

    return make


def test_several_labels_are_answered_by_the_mean_of_probabilities_not_of_logits(ensemble):
    mapping, views, (one, other) = ensemble("multilabel")
    wanted = (one.sigmoid() + other.sigmoid()) / 2
    torch.testing.assert_close(mapping(views).sigmoid(), wanted, atol=1e-5, rtol=0)
    assert float((((one + other) / 2).sigmoid() - wanted).detach().abs().max()) > 0.05, "the members disagree enough to tell"


def test_classes_are_answered_by_the_mean_of_probabilities(ensemble):
    mapping, views, (one, other) = ensemble("classification")
    torch.testing.assert_close(mapping(views).exp(), (one.softmax(1) + other.softmax(1)) / 2, atol=1e-5, rtol=0)


def test_values_are_averaged(ensemble):
    mapping, views, (one, other) = ensemble("regression", classes=1)
    torch.testing.assert_close(mapping(views), (one + other) / 2)


def test_certain_members_do_not_make_infinite_logits(ensemble):
    mapping, views, _ = ensemble("multilabel")
    with torch.no_grad():
        for parameter in mapping.parameters():
            parameter.mul_(1e4)
    assert torch.isfinite(mapping(views)).all()


def test_a_view_that_is_not_there_is_named(ensemble):
    mapping, views, _ = ensemble("classification")
    with pytest.raises(ConfigError, match="reads view 1, but the input makes 1 views"):
        mapping(views[:1])
