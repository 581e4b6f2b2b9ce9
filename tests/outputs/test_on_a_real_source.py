"""The default program on the bundled source: size on disk, and back from its tensors."""

import numpy as np
import pytest
import torch

from reprogram.inputs.none import NoPrompt
from reprogram.inputs.views import Views
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.outputs.top_k import TopK
from reprogram.sources.efficientnet import EfficientNetLite
from reprogram.targets.digits import digits
from reprogram.training.loop import fit


@pytest.fixture(scope="module")
def source():
    return EfficientNetLite()


@pytest.fixture(scope="module")
def task():
    found = digits(shots=3, seed=0)
    found.test = found.test.subset(np.arange(20))
    return found


@pytest.mark.parametrize(
    ("make_input", "make_output"),
    [(lambda: NoPrompt(size=64), RidgeTaps), (lambda: Views(sizes=(48, 64), invert=True), TopK)],
)
def test_a_fitted_program_is_small_and_comes_back(source, task, make_input, make_output):
    model = ReprogrammedModel(source, make_input(), make_output(), task.info)
    fit(model, task.train)
    program = model.program()
    assert sum(t.numel() * t.element_size() for t in program.values()) <= 1_000_000
    again = ReprogrammedModel(
        source, type(model.input)(**model.input.config()), type(model.output)(**model.output.config()), task.info
    )
    again.load_program(program)
    assert np.array_equal(again.predict_proba(task.test), model.predict_proba(task.test))


def test_the_default_recipe_reads_7040_values_and_a_few_digits_are_enough(source, task):
    model = ReprogrammedModel(source, NoPrompt(size=64), RidgeTaps(), task.info)
    fit(model, task.train)
    assert model.output.width == 7040
    assert model.output.weight.dtype == torch.float32  # 282 KB for ten classes
    probabilities = model.predict_proba(task.test)
    assert (probabilities.argmax(1) == task.test.labels).mean() >= 0.7
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
