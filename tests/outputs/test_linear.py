"""Linear layers learned by gradient."""

import numpy as np
import pytest
import torch

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import OutputMapping, SourceOutput, SourceSpec
from reprogram.registry import find


def built(name, spec, target):
    mapping = find("reprogram.outputs", name, OutputMapping)()
    mapping.build(spec, target)
    return mapping


def learn(mapping, output, labels, steps=60):
    mapping.observe([output], labels)
    mapping.refresh()
    optimiser = torch.optim.Adam(mapping.parameters(), 0.05)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(mapping([output]), labels).backward()
        optimiser.step()


@pytest.mark.parametrize("name", ["linear", "linear_features"])
def test_it_learns_what_can_be_separated(name, spec, info, answers):
    labels = np.arange(60) % 3
    mapping = built(name, spec, info(3))
    learn(mapping, answers(labels, 0, noise=0.6), torch.tensor(labels))
    fresh = mapping([answers(labels, 1, noise=0.6)]).argmax(1).numpy()
    assert (fresh == labels).mean() > 0.85


@pytest.mark.parametrize("name", ["linear", "linear_features"])
def test_units_of_the_source_do_not_matter(name, spec, info, answers):
    labels = np.arange(30) % 3
    output = answers(labels)
    scaled = SourceOutput(output.logits * 1000 + 5, output.features * 1000 + 5)
    a, b = built(name, spec, info(3)), built(name, spec, info(3))
    learn(a, output, torch.tensor(labels), 10)
    learn(b, scaled, torch.tensor(labels), 10)
    assert torch.allclose(a([output]), b([scaled]), atol=1e-2)


def test_the_standard_is_settled_once_and_kept(spec, info, answers):
    labels = torch.arange(30) % 3
    mapping = built("linear", spec, info(3))
    for rows in labels.split(10):
        mapping.observe([answers(rows.numpy())], rows)
    mapping.refresh()
    before = mapping.centre.clone()
    mapping.observe([answers(labels.numpy(), seed=9)], labels)
    mapping.refresh()
    assert torch.equal(mapping.centre, before)
    again = built("linear", spec, info(3))
    again.load_state_dict(mapping.state_dict())
    assert torch.equal(again.centre, before) and bool(again.settled)


def test_a_value_that_never_moves_does_not_explode(spec, info, answers):
    output = answers(np.arange(30) % 3)
    output.logits[:, 0] = 1.0
    mapping = built("linear", spec, info(3))
    learn(mapping, output, torch.arange(30) % 3)
    output.logits[:, 0] = 1.001
    assert torch.isfinite(mapping([output])).all()


def test_mistakes_get_one_sentence(info, answers):
    with pytest.raises(ConfigError, match="source labels"):
        built("linear", SourceSpec("text", 64, (), feature_size=8), info(2))
    with pytest.raises(ConfigError, match="features"):
        built("linear_features", SourceSpec("image", 64, ("a",)), info(2))
    mapping = built("linear_features", SourceSpec("image", 64, ("a",), feature_size=12), info(2))
    with pytest.raises(SourceError, match="answers none"):
        mapping([SourceOutput(torch.zeros(2, 1))])
