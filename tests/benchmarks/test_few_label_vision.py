"""The benchmark's shortcut gives what the product gives."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from reprogram.inputs.views import Views
from reprogram.model import ReprogrammedModel
from reprogram.outputs.top_k import TopK
from reprogram.sources.efficientnet import EfficientNetLite
from reprogram.targets.digits import digits
from reprogram.training.loop import fit

FOLDER = Path(__file__).parents[2] / "benchmarks"


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cached_answers():
    return loaded("cached_answers")


def test_cached_answers_give_the_same_program(cached_answers, tmp_path):
    source = EfficientNetLite()
    task = digits(shots=2, seed=0)
    task.test, task.test_rows = task.test.subset(np.arange(15)), task.test_rows[:15]
    views = [(48, "plain"), (48, "inverted"), (64, "plain"), (64, "inverted")]

    plain = ReprogrammedModel(source, Views(sizes=(48, 64), invert=True), TopK(k=10), task.info)
    fit(plain, task.train)
    for _ in range(2):  # the second time from disk
        answers = cached_answers.Answers(source, tmp_path)
        train = answers.outputs(task.train, task.train_rows, views)
        test = answers.outputs(task.test, task.test_rows, views)
        quick = cached_answers.Recollecting(source, Views(sizes=(48, 64), invert=True), TopK(k=10), task.info)
        quick.recall((task.train, train), (task.test, test))
        fit(quick, task.train)
        assert np.allclose(quick.predict_proba(task.test), plain.predict_proba(task.test), atol=5e-3)


def test_a_half_written_line_does_not_count(tmp_path):
    common, file = loaded("common"), tmp_path / "cells.jsonl"
    common.append_line(file, '{"a": 1}')
    with file.open("a") as handle:
        handle.write('{"b":')
    assert common.read_lines(file) == [{"a": 1}]
