"""``report.html`` and ``predictions.csv`` of whole small runs, for every kind of problem."""

import csv
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from reprogram.evaluation.compare import compare
from reprogram.evaluation.features import shared_answers
from reprogram.evaluation.label_mapping import label_mapping
from reprogram.inputs.base import ImageInput
from reprogram.inputs.none import NoPrompt
from reprogram.interfaces import Explanation, OutputMapping, TargetInfo, TargetTask
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.report import pictures
from reprogram.report.predictions import write_predictions
from reprogram.report.report import build
from reprogram.report.robustness import robustness
from reprogram.targets.base import ArrayExamples
from reprogram.tasks._run import describe
from reprogram.training.loop import Training, fit


@dataclass(eq=False)
class Tint(ImageInput):
    def build(self, spec, target):
        super().build(spec, target)
        self.colour = nn.Parameter(torch.tensor([0.1, 0.0, -0.1]).view(3, 1, 1))

    def forward(self, batch):
        return [self.plain(batch) + self.colour]

    def explain(self):
        return [Explanation("The tint", ("channel", "value"), [("red", 0.1), ("blue", -0.1)], "a note on the tint")]


@dataclass(eq=False)
class Fixed(OutputMapping):
    """Source labels 0 and 1 mean a, label 2 means b."""

    def build(self, spec, target):
        self.register_buffer("table", torch.tensor([[3.0, 0], [1, 0], [0, 2], [0, 0], [0, 0], [0, 0], [0, 0]]))

    def forward(self, outputs):
        return outputs[0].logits @ self.table

    def weights(self):
        return self.table


@pytest.fixture
def finished(easy_images, tiny_source, empty_run):
    """A finished run: (run, model, target, comparison)."""
    examples, _ = easy_images

    def make(problem="classification", input=None, output=None):
        labels = {
            "classification": examples.labels,
            "multilabel": np.where(
                np.arange(80).reshape(40, 2) % 7 == 0, np.nan, np.c_[examples.labels, 1 - examples.labels]
            ),
            "regression": examples.images.mean((1, 2, 3))[:, None],
        }[problem]
        classes = ("red",) if problem == "regression" else ("a", "<b>")
        whole = ArrayExamples(examples.images, labels)
        target = TargetTask(
            TargetInfo("easy", "image", problem, classes, (3, 12, 12)),
            whole.subset(range(20)),
            whole.subset(range(20, 40)),
            test_rows=[f"file {i}" for i in range(20, 40)],
            split={"kind": "given"},
            notes=["1 image was skipped."],
        )
        model = ReprogrammedModel(
            tiny_source(), input or NoPrompt(), output or RidgeTaps(layers=("conv@2",)), target.info
        )
        with shared_answers(model):
            history = fit(model, target.train, Training(epochs=3))
            found = compare(model, target, Training(epochs=1), ["linear_probe", "random_source"])
            mapping = label_mapping(model, target)
        describe(empty_run.result, model, target, history)
        empty_run.result.data |= found.to_json() | {"mapping": mapping}
        return empty_run, model, target, found

    return make


@pytest.mark.parametrize("problem", ["classification", "multilabel", "regression"])
def test_page_of_every_kind_of_problem(problem, finished):
    run, model, target, found = finished(problem)
    html = build(run, model, target, found).render()
    assert found.verdict.split(":")[0] in html and "linear probe" in html
    assert "1 image was skipped." in html and "Reproduce" in html
    assert "<b>" not in html.replace("<b style", "").replace("</b>", "") or problem == "regression"


def test_page_shows_prompt_learning_curve_and_what_methods_explain(finished):
    run, model, target, found = finished(input=Tint())
    run.pictures["recovered_trigger"] = pictures.png(torch.rand(3, 4, 4))
    run.sections["Applicability"] = ["how near the training examples are"]
    run.result.add_check("pgd", "attack", "linf 0.1", 0.4, 0.3, 0.5, 20, [{"code": "zero_gradients", "text": "zero gradients"}])
    html = build(run, model, target, found).render()
    for text in ("plain grey image", "The tint", "a note on the tint", "Recovered trigger", "how near the training"):
        assert text in html
    assert "training loss" in html and "zero gradients" in html


def test_attacks_certificates_and_estimates_are_never_in_one_table():
    rows = [
        {
            "check": f"check {kind}",
            "kind": kind,
            "threat": "l2",
            "value": 0.5,
            "low": None,
            "high": None,
            "n": 5,
            "flags": [],
        }
        for kind in ("estimate", "attack", "certificate", "inspection")
    ]
    html = "".join(robustness(rows, ["one note"]))
    tables = html.split("<table>")[1:]
    assert len(tables) == 4 and all(sum(f"check {row['kind']}" in t for row in rows) == 1 for t in tables)
    assert html.index("check attack") < html.index("check certificate") < html.index("check estimate")
    assert "one note" in html


def test_robustness_shows_flags_below_the_table_once_and_the_smallest_changes():
    """In a column of their own they were out of sight on a phone."""
    doubt = {"code": "doubt", "text": "doubt <it>"}
    row = {"kind": "attack", "threat": "linf", "value": 0.5, "low": None, "high": None, "n": 5, "flags": [doubt]}
    smallest = row | {
        "check": "smallest_perturbation",
        "percentiles": {"5": 0.0123, "50": None},
        "curve": {"0.1": 0.25},
    }
    html = "".join(robustness([row | {"check": "pgd"}, row | {"check": "worst_case"}, smallest]))
    assert html.count("doubt &lt;it&gt;") == 1 and "(pgd, worst case, smallest perturbation)" in html
    assert html.index("doubt") > html.index("</table>")
    assert "0.0123" in html and "5 %<" in html and "0.250" in html


def test_mapping_weights_are_shares_of_each_target_label(finished):
    _, model, target, _ = finished(output=Fixed())
    found = label_mapping(model, target)
    assert found == {"kind": "weights", "classes": {"a": [["s0", 0.75], ["s1", 0.25]], "<b>": [["s2", 1.0]]}}


def test_what_the_source_sees_stands_in_where_features_are_read(finished):
    _, model, target, _ = finished()
    with shared_answers(model):
        found = label_mapping(model, target, top=7)
    assert found["kind"] == "seen"
    seen = {name: dict(map(tuple, labels)) for name, labels in found["classes"].items()}
    assert not seen["a"].keys() & seen["<b>"].keys(), "two classes deviate in opposite directions"


def test_predictions_have_the_promised_columns(finished, tmp_path):
    _, _, target, found = finished()
    rows = list(csv.DictReader(write_predictions(tmp_path, target, found.scores).open()))
    assert list(rows[0]) == ["row", "label", "prediction", "p:a", "p:<b>"]
    assert [row["row"] for row in rows] == [f"file {i}" for i in range(20, 40)]
    for row, label, score in zip(rows, target.test.labels, found.scores, strict=True):
        assert row["label"] == ("a", "<b>")[label] and row["prediction"] == ("a", "<b>")[score.argmax()]
        assert float(row["p:a"]) == pytest.approx(score[0], rel=1e-4)


def test_predictions_of_values_and_of_many_labels(finished, tmp_path):
    _, _, target, found = finished("regression")
    rows = list(csv.DictReader(write_predictions(tmp_path, target, found.scores).open()))
    assert list(rows[0]) == ["row", "label", "prediction"]
    assert float(rows[3]["label"]) == pytest.approx(float(target.test.labels[3, 0]), rel=1e-4)
    _, _, target, found = finished("multilabel")
    target.test.labels[0], found.scores[0] = [1.0, np.nan], [0.9, 0.8]
    rows = list(csv.DictReader(write_predictions(tmp_path, target, found.scores).open()))
    assert (rows[0]["label"], rows[0]["prediction"]) == ("a", "a|<b>")


def test_grey_image_becomes_the_prompt_with_contrast(finished):
    _, model, _, _ = finished(input=Tint())
    [(image, contrast)] = pictures.prompt(model)
    assert 1 < contrast <= 8 and float((image - 0.5).abs().max()) == pytest.approx(0.5, abs=0.2)


def test_shown_examples_are_one_right_a_class_and_the_surest_mistakes():
    labels, answers = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 0, 0, 2])
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.95, 0.5])
    assert pictures.chosen_examples(labels, answers, confidence, 5).tolist() == [0, 2, 5, 4, 3]


def test_many_classes_show_the_most_frequent_confusions(finished):
    run, model, target, found = finished()
    names = tuple(f"class {i}" for i in range(30))
    target.info = TargetInfo("easy", "image", "classification", names, (3, 12, 12))
    found.scores = np.eye(30)[np.full(20, 7)]
    html = build(run, model, target, found).render()
    assert "times" in html and "class 7" in html and 'class="matrix"' not in html


def test_a_search_shows_what_its_held_out_labels_said_and_a_service_hides_its_size():
    from reprogram.report.report import _frozen, judged

    points = [{"epoch": e, "queries": 100 * e, "held_out_accuracy": 0.5, "held_out_error": 0.6} for e in range(3)]
    shown = judged({"held_out": 12, "points": points})
    assert len(shown) == 1 and "12 labels kept out of the search" in shown[0]
    assert judged({}) == [] and judged({"held_out": 12, "points": points[:1]}) == []
    assert _frozen({"name": "a service", "parameters": 0}) == "a service, its parameters hidden"
    assert _frozen({"name": "net", "parameters": 4_600_000}) == "net, 4.6 M parameters"
