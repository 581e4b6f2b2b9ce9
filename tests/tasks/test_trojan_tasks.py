"""task=inspect, wash and strengthen on the command line, and what they say about bad input."""

import json

import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from reprogram.backdoor.triggers.patch import Patch
from reprogram.robustness.unfrozen import Unfrozen, learn
from reprogram.sources.efficientnet import EfficientNetLite
from reprogram.sources.huggingface import HuggingFaceImageModel
from reprogram.sources.small_cnn import SmallCNN
from reprogram.tasks._source_data import keep_source, loads_with

SMALL = ["source=small_cnn", "source.architecture=plain", "source.size=8", "target=digits", "device=cpu"]
SHORT = ["inspection.seeds=2", "inspection.ascent=3", "inspection.search.steps=4"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Two Trojaned classifiers of digits: safetensors files."""
    torch.set_num_threads(1)
    data = load_digits()
    images, labels = torch.tensor(data.images / 16, dtype=torch.float32)[:, None], torch.tensor(data.target)
    folder = tmp_path_factory.mktemp("weights")
    paths = []
    for seed in (0, 1):
        x, y = Patch(target=seed, side=2, seed=seed).poison(images, labels, 0.1)
        model = learn(Unfrozen(SmallCNN("plain", 8, seed=seed)), x, y, 5, 1e-2, seed)
        paths.append(str(folder / f"{seed}.safetensors"))
        save_file(model.source.state_dict(), paths[-1])
    return paths


def result(tmp_path, folder="run"):
    return json.loads((tmp_path / folder / "result.json").read_text())


def test_inspect_writes_a_verdict_a_page_and_the_files_digest(typed, weights, tmp_path):
    code, stderr = typed("task=inspect", *SMALL, f"source.weights={weights[0]}", "inspection=quick", *SHORT)
    assert code == 0, stderr
    found = result(tmp_path)
    assert "evidence" in found["verdict"] and len(found["files"][0]["sha256"]) == 64
    assert {e["test"] for e in found["inspection"]["evidence"]} >= {"Neural Cleanse", "added pattern", "maximum margin"}
    assert all(e["z"] is not None and e["mad"] is not None for e in found["inspection"]["evidence"])
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("trigger recovered for") == 10 and "No test can show that a model is clean" in page
    assert {row["kind"] for row in found["robustness"]["rows"]} == {"inspection"}


def test_wash_by_a_path_between_two_models_beside_the_baselines(typed, weights, tmp_path):
    code, stderr = typed(
        "task=wash", *SMALL, f"source.weights={weights[0]}", f"task.other={weights[1]}", "task.test=100",
        "wash.epochs=2", "wash.points=3", "trigger=patch", "trigger.side=2",
    )  # fmt: skip
    assert code == 0, stderr
    found = result(tmp_path)["washed"]
    assert list(found["models"]) == ["as it came", "mode_connectivity", "fine_tuning", "fine_pruning", "noise"]
    assert found["models"]["as it came"]["attack_success"] > 0.5 and len(found["path"]) == 3
    kept = tmp_path / "run" / "model" / "model.safetensors"
    assert found["loads_with"].endswith("model.safetensors") and kept.exists()
    SmallCNN("plain", 8, weights=str(kept))
    assert "Along the path" in (tmp_path / "run" / "report.html").read_text()


def test_wash_by_a_path_between_two_programs(typed, tiny, tmp_path):
    program = [a for a in tiny if not a.startswith(("input", "output"))]
    trained = ["input=full", "input.size=32", "output=linear_features", "training.epochs=1"]
    for seed in (0, 1):
        code, stderr = typed(*program, *trained, f"seed={seed}", folder=f"p{seed}")
        assert code == 0, stderr
    data = [a for a in tiny if a.startswith("target")]
    code, stderr = typed(
        "task=wash", "task.programs=[p0/program,p1/program]", *data, "wash.epochs=1", "wash.points=3", "device=cpu"
    )
    assert code == 0, stderr
    found = result(tmp_path)["washed"]
    assert list(found["models"]) == ["as it came", "mode_connectivity", "fine_tuning", "noise"]
    assert (tmp_path / "run" / "program" / "program.safetensors").exists() and len(found["path"]) == 3


def test_strengthen_keeps_a_copy_that_loads(typed, weights, tmp_path):
    code, stderr = typed(
        "task=strengthen", *SMALL, f"source.weights={weights[0]}", "task.epochs=1", "task.test=50", "task.steps=5",
        "task.examples=100", "task.certify=3", "training/adversarial=fast",
    )  # fmt: skip
    assert code == 0, stderr
    found = result(tmp_path)
    checks = [row["check"] for row in found["robustness"]["rows"]]
    assert checks == [
        f"{what}, {when}" for when in ("before", "after") for what in ("clean", "apgd", "certified")
    ]
    loaded = SmallCNN("plain", 8, weights=found["strengthened"]["loads_with"].partition("=")[2])
    assert loaded.fingerprint() != found["source"]["fingerprint"]


def test_changed_copies_of_every_kind_load_again(tiny, tmp_path):
    name = next(a for a in tiny if a.startswith("source.name=")).partition("=")[2]
    pixels = torch.rand(2, 3, 32, 32)
    for source, load in (
        (HuggingFaceImageModel(name), lambda path: HuggingFaceImageModel(str(path))),
        (EfficientNetLite(random_weights=3), lambda path: EfficientNetLite(weights=str(path))),
    ):
        model = Unfrozen(source)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.01)
        changed = model.frozen()
        path = keep_source(changed, tmp_path / type(source).__name__)
        assert not list(tmp_path.rglob("*.bin")) and loads_with(changed, path).startswith("source.")
        assert torch.equal(load(path)(pixels).logits, changed(pixels).logits)


def test_a_known_trigger_gets_its_rows_in_a_reprogramming_run(typed, tiny, tmp_path):
    code, stderr = typed(*tiny, "trigger=patch", "trigger.side=2")
    assert code == 0, stderr
    rows = [r for r in result(tmp_path)["robustness"]["rows"] if r["check"] == "trojan_survival"]
    places = ("before the program", "behind the program")
    assert [r["threat"] for r in rows] == [f"patch trigger {place}, ridge_taps" for place in places]
    assert all(0 <= r["value"] <= 1 and r["label"] in ("dark", "light") for r in rows)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["task=wash", "trigger=patch", "trigger.side=9"], "trigger.side=9 does not fit: images are 8 x 8"),
        (["task=wash", "target=mnist", "source.labels=3"], "small_cnn (plain) has 3 labels, but target=mnist has 10"),
        (["task=wash", "source.architecture=residual", "task.other={0}"], "is no second model like the source: The weight file"),
        (["task=strengthen", "task.eps=25"], "eps=25 is outside the input range"),
        (["task=inspect", "source.weights={pickle}"], "old.pth is a checkpoint in pickle format"),
        (["task=inspect", "source.weights={torn}"], "torn.safetensors is not a whole safetensors file"),
        (
            ["task=inspect", "source.weights=nowhere.safetensors"],
            "nowhere.safetensors cannot be read: it does not exist",
        ),
        (["task=inspect", "task.references=[nowhere]"], "task.references=nowhere is no second model"),
        (["target=digits", "robustness=quick", "robustness.threats.linf=1.5"], "robustness.threats.linf=1.5 is not possible"),
        (["task=wash", "task.programs=[a]"], "must be of 2 items"),
        (["task=wash", "trigger=pach"], "There is no trigger=pach; did you mean 'patch'"),
    ],
)
def test_bad_input_ends_in_one_sentence(typed, weights, tmp_path, arguments, sentence):
    torch.save({"a": torch.zeros(2)}, tmp_path / "old.pth")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10" * 40)
    places = {"pickle": tmp_path / "old.pth", "torn": tmp_path / "torn.safetensors"}
    code, stderr = typed(*SMALL, *(a.format(*weights, **places) for a in arguments))
    assert code == 2 and sentence in stderr and stderr.count("\n") <= 2, stderr
