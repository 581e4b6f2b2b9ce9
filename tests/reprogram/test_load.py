"""Sources and targets by name from Python."""

import pytest
from torch import nn

import reprogram
from reprogram.errors import ConfigError, SourceError


def test_a_target_by_name_takes_the_options_of_its_file():
    task = reprogram.load_target("digits", shots=2, seed=3)
    assert len(task.train) == 20 and task.info.name == "digits"
    assert task.train_rows == reprogram.load_target("digits", shots=2, seed=3).train_rows
    assert task.train_rows != reprogram.load_target("digits", shots=2, seed=4).train_rows


def test_sources_by_name_module_or_as_they_are():
    source = reprogram.load_source("efficientnet_lite0")
    assert source.name == "efficientnet_lite0" and reprogram.load_source(source) is source
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    assert reprogram.load_source(module, size=8, labels=["a", "b", "c", "d"]).labels == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: reprogram.load_target("digts"), ConfigError, "There is no target=digts; did you mean 'digits'?"),
        (
            lambda: reprogram.load_target("digits", shot=2),
            ConfigError,
            "no option 'target.shot'; did you mean 'shots'?",
        ),
        (lambda: reprogram.load_target("digits", shots="x"), ConfigError, "target.shots=x is not possible"),
        (lambda: reprogram.load_target("image_folder"), ConfigError, "target.root must be given"),
        (lambda: reprogram.load_source("/nowhere"), SourceError, "source.name=/nowhere is not a model folder"),
    ],
)
def test_a_mistake_gets_one_sentence(call, error, sentence):
    with pytest.raises(error) as raised:
        call()
    assert sentence in str(raised.value)
