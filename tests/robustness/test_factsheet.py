import json

import pytest
import yaml

from reprogram import robustness
from reprogram.artifact import model_card
from reprogram.result import Result
from reprogram.robustness.checks.corruptions import CorruptionsCheck
from reprogram.robustness.factsheet import card, factsheet, write


@pytest.fixture
def measured(digit_cnn):
    model, images, labels = digit_cnn
    small = {"noise": {"attack": {"draws": 1}}, "pgd": {"attack": {"steps": 6}}, "apgd_ce": None, "square": None}
    settings = robustness.settings("quick", examples=12, few=12, threats={"linf": 0.1}, checks=small)
    settings.checks["corruptions"] = CorruptionsCheck(severities=(3,))
    result = robustness.evaluate(model, (images, labels), settings=settings)
    result.data |= {
        "source": {"name": 'tiny: a "quoted" name\n---', "parameters": 5},
        "target": {"name": "digits", "classes": ["0", "1"], "kind": "image", "train_labels": 20, "test_size": 12},
        "program": {"input": "none", "output": "linear", "parameters": 7, "bytes": 28},
        "metrics": {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}},
        "baselines": {"linear_probe": {"accuracy": {"value": 0.85, "low": 0.7, "high": 0.9}}},
    }
    return result


def test_the_factsheet_has_its_sections_and_percentiles(measured):
    sheet = factsheet(measured)
    for section in ("purpose", "intended_domain", "training_data", "performance_metrics", "robustness", "bias",
                    "domain_shift", "test_data", "optimal_conditions", "poor_conditions", "explanation", "contact"):  # fmt: skip
        assert sheet[section], section
    table = sheet["robustness"]["smallest_successful_perturbation_percentiles"]["linf"]
    assert list(table) == ["5", "10", "15", "25", "50"]
    found = [v for v in table.values() if v is not None]
    assert found == sorted(found)
    assert "linf" in sheet["robustness"]["in_plain_words"]
    kinds = {row["check"] for row in sheet["robustness"]["attack"]}
    assert "pgd" in kinds and not kinds & {row["check"] for row in sheet["robustness"]["estimate"]}


def test_the_card_is_a_hugging_face_card_whatever_the_names_hold(measured):
    text = card(measured)
    _, front, body = text.split("---\n", 2)
    data = yaml.safe_load(front)
    assert data["library_name"] == "reprogram"
    assert data["model-index"][0]["results"][0]["metrics"][0] == {"type": "accuracy", "value": 0.9}
    for title in ("## Performance metrics", "## Robustness", "### Attacks", "## Poor conditions", "## Training data"):
        assert title in body
    from huggingface_hub import ModelCardData

    assert ModelCardData(**{k.replace("-", "_"): v for k, v in data.items() if k != "model-index"})


def test_names_of_classes_break_no_table():
    row = {"check": "trojan_margin", "kind": "inspection", "threat": "towards a|b\nc", "value": 1.0, "n": 2, "flags": []}
    text = card({"robustness": {"rows": [row]}})
    assert "| trojan_margin | towards a\\|b c | 1 |" in text
    source, target = {"name": "tiny", "fingerprint": "0" * 64}, {"name": "letters", "classes": ["a|b", "c"]}
    method, tensors = {"name": "none", "config": {}}, {"bytes": 3}
    parts = {"source": source, "target": target, "input": method, "output": method, "metrics": {}, "tensors": tensors}
    assert "| Target task | letters: a\\|b, c |" in model_card(parts)


def test_both_files_are_written_and_an_empty_result_says_what_is_missing(measured, tmp_path):
    write(tmp_path, measured)
    assert json.loads((tmp_path / "factsheet.json").read_text())["schema"] == 1
    assert "Robustness was not measured" in card(Result("reprogram", 0))
    assert (tmp_path / "README.md").read_text() == card(measured)
