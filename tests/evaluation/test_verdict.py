"""The verdict: one sentence, never kinder to the program than the numbers are."""

import numpy as np
import pytest

from reprogram.evaluation.verdict import Difference, called, chance, verdict
from reprogram.interfaces import Examples, TargetInfo, TargetTask


class Labels(Examples):
    def __init__(self, labels):
        self.labels = np.asarray(labels)

    def batch(self, rows):
        return [""] * len(rows)

    def subset(self, rows):
        return Labels(self.labels[rows])


TEN = TargetTask(
    TargetInfo("t", "image", "classification", tuple("abcdefghij")),
    Labels(np.arange(160) % 10),
    Labels(np.arange(1000) % 10),
)
VALUES = TargetTask(
    TargetInfo("t", "text", "regression", ("y",)), Labels(np.zeros((8, 1))), Labels(np.array([[-2.0], [2.0]]))
)


def metric(value, spread=0.02):
    return {"value": value, "low": value - spread, "high": value + spread}


def say(program, baselines, differences, name="accuracy", target=TEN):
    return verdict(
        {name: metric(program)},
        {k: {name: metric(v)} for k, v in baselines.items()},
        {
            k: Difference(program - v, program - v - w, program - v + w)
            for (k, v), w in zip(baselines.items(), differences)
        },
        name,
        target,
        "net",
    )


def test_clearly_better_program_is_recommended_with_its_margin():
    text = say(0.96, {"linear_probe": 0.84, "raw_input": 0.79}, [0.02, 0.02])
    assert text.startswith("Use the program: it reaches 96.0 % accuracy on 1,000 test examples, from 160 labels")
    assert "12.0 points (10.0 to 14.0) better than the linear probe" in text


def test_better_linear_probe_is_recommended():
    text = say(0.84, {"linear_probe": 0.96}, [0.02])
    assert text.startswith("Use the linear probe: it reaches 96.0 % accuracy")
    assert "12.0 points (10.0 to 14.0) better than the program (84.0 %)" in text


def test_a_tie_goes_to_the_simpler_baseline():
    text = say(0.96, {"linear_probe": 0.955, "raw_input": 0.5}, [0.02, 0.02])
    assert text.startswith("Use the linear probe") and "does not differ measurably" in text and "-1.5 to 2.5" in text


def test_random_weights_as_good_as_the_source_are_named():
    text = say(0.9, {"random_source": 0.9, "linear_probe": 0.5}, [0.02, 0.02])
    assert "what the source net has learned does not help here" in text


def test_a_prompt_that_does_not_pay_is_said():
    text = say(0.96, {"linear_probe": 0.84, "mapping_only": 0.955}, [0.01, 0.01])
    assert text.startswith("Use the same program without its prompt")


def test_nothing_learned_recommends_nothing():
    text = say(0.11, {"linear_probe": 0.09}, [0.02])
    assert text.startswith("Use neither")


def test_lower_error_is_better():
    text = say(0.5, {"linear_probe": 0.9}, [0.1], "rmse", VALUES)
    assert text.startswith("Use the program: it reaches RMSE 0.500") and "0.400 (0.300 to 0.500) better" in text
    assert say(0.9, {"linear_probe": 0.5}, [0.1], "rmse", VALUES).startswith("Use the linear probe")


def test_no_baseline_and_one_class():
    assert "no baseline" in say(0.9, {}, [])
    assert "one class only" in verdict({"roc_auc": {"value": None}}, {}, {}, "roc_auc", TEN, "net")


def test_the_program_itself_is_no_baseline():
    same = {"mapping_only": Difference(0.0, 0.0, 0.0, same=True)}
    text = verdict({"accuracy": metric(0.9)}, {"mapping_only": {"accuracy": metric(0.9)}}, same, "accuracy", TEN, "net")
    assert "no baseline" in text


def test_chance_is_the_most_frequent_class():
    assert chance("accuracy", TEN) == pytest.approx(0.1)
    assert chance("roc_auc", TEN) == 0.5
    assert chance("rmse", VALUES) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("linear_probe", "the linear probe"),
        ("ecfp4+forest", "a random forest on ecfp4"),
        ("kmers", "a simple model on kmers"),
    ],
)
def test_rows_in_words(row, words):
    assert called(row) == words
