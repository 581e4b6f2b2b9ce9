"""What a program answers, in words."""

import csv
from types import SimpleNamespace

import numpy as np

from reprogram.evaluation.metrics import predictions
from reprogram.interfaces import TargetInfo
from reprogram.model import ReprogrammedModel
from reprogram.prediction.answers import _answer
from reprogram.prediction.formats import write_as


def test_an_even_chance_is_answered_alike_everywhere():
    scores = np.array([[0.5, 0.4], [0.6, 0.5]], np.float32)
    info = TargetInfo("toxicity", "text", "multilabel", ("liver", "heart"))
    model = SimpleNamespace(target=info, conformal=None, predict_proba=lambda *_: scores)
    measured = predictions(scores, "multilabel")
    assert ReprogrammedModel.predict(model, None).tolist() == measured.tolist() == [[1, 0], [1, 1]]
    assert _answer(model, scores, 0.9)["prediction"] == ["liver", "liver|heart"]


def test_a_long_cell_ends_no_other_format(tmp_path):
    csv.field_size_limit(131_072)  # as a process begins; reading a table of text raises it
    (tmp_path / "a.csv").write_text(f"row,text\n1,{'x' * 200_000}\n")
    assert len(write_as(tmp_path / "a.csv", tmp_path / "b.jsonl", [], {}).read_text()) > 200_000
