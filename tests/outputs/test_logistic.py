"""Logistic regression on features of length 1."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import SourceOutput, Tap
from reprogram.outputs.logistic import Logistic


def fitted(spec, info, labels, seen):
    output = Logistic()
    output.build(spec, info)
    output.fit([seen], torch.as_tensor(labels))
    return output


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_those_of_scikit_learn_on_unit_vectors(classes, spec, info, answers):
    labels = np.arange(24) % classes
    seen, fresh = answers(labels, 0, noise=0.6), answers(labels, 1, noise=0.6)
    unit = [torch.nn.functional.normalize(o.features, dim=1).double().numpy() for o in (seen, fresh)]
    expected = LogisticRegression(C=3.0, max_iter=1000, class_weight="balanced").fit(unit[0], labels).predict_proba(unit[1])
    output = fitted(spec, info(classes), labels, seen)
    np.testing.assert_allclose(output([fresh]).softmax(1).numpy(), expected, atol=1e-5)
    longer = SourceOutput(fresh.logits, 7.0 * fresh.features)
    torch.testing.assert_close(output([longer]), output([fresh]))


def test_a_class_without_an_example_keeps_its_column_and_is_never_answered(spec, info, answers):
    labels = np.arange(20) % 2
    output = fitted(spec, info(3), labels, answers(labels, 0, noise=0.6))
    assert output([answers(labels, 1)]).shape == (20, 3) and 2 not in output([answers(labels, 1)]).argmax(1)
    one = fitted(spec, info(3), np.ones(4, dtype=int), answers(np.ones(4, dtype=int), 0))
    assert set(one([answers(labels, 1)]).argmax(1).tolist()) == {1}


def test_values_are_refused(spec, info):
    with pytest.raises(ConfigError, match="output=logistic needs classes"):
        Logistic().build(spec, info(1, "regression"))


def test_a_plain_feature_is_read_in_place_of_the_sources_and_its_width_is_kept(spec, info, answers):
    labels = np.arange(24) % 3
    seen = answers(labels, 0, noise=0.6)
    values = torch.eye(3)[torch.from_numpy(labels)].repeat(1, 2) + 0.1
    beside = SourceOutput(seen.logits, seen.features, {Tap("words", "side"): values})
    output = Logistic(feature="words")
    output.build(spec, info(3))
    output.fit([beside], torch.as_tensor(labels))
    assert output.width == 6 and (output([beside]).argmax(1).numpy() == labels).all()
    kept = Logistic(**output.config())
    kept.build(spec, info(3))
    kept.load_state_dict(output.state_dict())
    torch.testing.assert_close(kept([beside]), output([beside]))
    with pytest.raises(ConfigError, match=r"give 'input.features=\[words\]'"):
        output([seen])
    with pytest.raises(SourceError, match="weighs 6 values an example but reads 3"):
        output([SourceOutput(seen.logits, seen.features, {Tap("words", "side"): values[:, :3]})])
