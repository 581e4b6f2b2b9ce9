"""Programs that strangers changed: loaded, or refused in one sentence; nothing runs, nothing outside is touched."""

import importlib.util
import json
import os
import pickle
import sys
from pathlib import Path

import pytest

from reprogram import machine
from reprogram.artifact import describe_program, from_pretrained, save_pretrained
from reprogram.errors import ArtifactError
from reprogram.inputs.none import NoPrompt
from reprogram.interfaces import TargetInfo
from reprogram.model import ReprogrammedModel
from reprogram.outputs.linear import Linear
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.sources.small_cnn import SmallCNN

FOLDER = Path(__file__).parents[2] / "benchmarks"
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")


@pytest.fixture(scope="module")
def fuzz():
    """benchmarks/fuzz_artifacts.py, of which this is a short run."""
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("fuzz_artifacts", FOLDER / "fuzz_artifacts.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["fuzz_artifacts"] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(FOLDER))


@pytest.mark.timeout(240)
def test_some_hundreds_of_mutations(fuzz, tmp_path):
    before = machine.peak_memory_mb()
    found = fuzz.run(400, seed=0, root=tmp_path, text_share=0.1, ask_share=0.2)
    assert found["failures"] == {} and found["tracebacks"] == 0
    assert found["code_run"] == 0 and found["touched_outside"] == 0, found["examples"]
    assert found["loaded"] > 30 and found["refused"] > 150 and len(found["kinds"]) >= 11
    assert found["slowest_seconds"] < 30 and found["peak_memory_mb"] < max(before, 600) + 1000


def test_the_watch_sees_what_it_must_see(fuzz, tmp_path):
    """A harness that sees nothing would pass too."""
    inside, elsewhere = tmp_path / "inside", tmp_path / "elsewhere"
    inside.mkdir()
    watch = fuzz.Watch(inside)
    watch.on = True
    try:
        (inside / "a").write_text("x")
        (inside / "a").unlink()
        assert not watch.outside and not watch.code
        elsewhere.mkdir()
        (elsewhere / "a").write_text("x")
        os.rename(elsewhere / "a", elsewhere / "b")
        os.remove(elsewhere / "b")
        os.system("true")
        pickle.loads(pickle.dumps(elsewhere))
    finally:
        watch.on = False
    assert len(watch.outside) >= 4 and any(event.startswith("os.system") for event in watch.code)
    assert any(event.startswith("pickle.find_class") for event in watch.code)


@pytest.fixture
def kept(tmp_path):
    """A program that names its own source."""
    info = TargetInfo("toy", "image", "classification", ("a", "b", "c"), (1, 10, 10))
    model = ReprogrammedModel(SmallCNN(size=12, labels=4), NoPrompt(), Linear(), info)
    return save_pretrained(model, tmp_path / "program", {"accuracy": 0.91})


def rewrite(folder, change):
    path = folder / "program.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


@posix
@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["program.json", "program.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_special_files_in_the_place_of_a_program_s(kept, name, kind):
    path = kept / name
    path.unlink()
    {"pipe": os.mkfifo, "device": lambda p: p.symlink_to("/dev/zero"), "folder": Path.mkdir}[kind](path)
    with pytest.raises(ArtifactError, match=rf"{name} is a .*{kind}; a file is needed"):
        from_pretrained(kept)


@posix
@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"labels": 10**7}, "source.labels=10,000,000 is not possible; allowed: 2 to 100,000 labels"),
        ({"labels": 10**9}, "'labels' is '1000000000'"),
        ({"labels": "/etc/passwd"}, "source.labels=/etc/passwd names a file of this machine"),
        ({"labels": "/dev/zero"}, "source.labels=/dev/zero names a file of this machine"),
        ({"size": 10**6, "architecture": "plain"}, "size=1000000 must be"),
        ({"channels": 10**6}, "channels=1000000 must be"),
        ({"weights": "/dev/zero"}, "/dev/zero is a device; a file is needed"),
        ({"weights": "PIPE"}, "is a named pipe; a file is needed"),
    ],
)
def test_what_a_source_orders_is_checked_before_it_is_asked_for(kept, tmp_path, options, sentence):
    os.mkfifo(tmp_path / "pipe")
    options = {key: str(tmp_path / "pipe") if value == "PIPE" else value for key, value in options.items()}
    before = machine.peak_memory_mb()
    rewrite(kept, lambda d: d["source"].update(options=options))
    with pytest.raises(ArtifactError, match=sentence):
        from_pretrained(kept)
    assert machine.peak_memory_mb() < before + 200


def test_labels_from_a_file_are_kept_as_names(tmp_path):
    (tmp_path / "labels.txt").write_text("crane\ncat\ndog\n")
    info = TargetInfo("toy", "image", "classification", ("a", "b"), (1, 10, 10))
    model = ReprogrammedModel(SmallCNN(size=12, labels=str(tmp_path / "labels.txt")), NoPrompt(), Linear(), info)
    folder = save_pretrained(model, tmp_path / "program")
    (tmp_path / "labels.txt").unlink()
    assert from_pretrained(folder).source.labels == ("crane", "cat", "dog")
    assert str(tmp_path) not in (folder / "program.json").read_text()


CONFIGS = {
    "a number that no tensor stands for": ({"width": 10**7}, "has width=10000000, but the tensors of the program have"),
    "of many digits": ({"width": 10**4000}, "width=a number of many digits"),
    "below": ({"average": [[10**8]]}, "has average=100000000, but the tensors"),
    "a long list": ({"layers": ["a"] * 1001}, "has 1,001 entries in 'layers'; at most 1,000 are read"),
    "a long text": ({"normalise": "x" * 5000}, "has a text of 5,000 characters in 'normalise'"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_orders_of_a_method(kept, name):
    config, sentence = CONFIGS[name]
    rewrite(kept, lambda d: d["output"].update(name="ridge_taps", config=config))
    with pytest.raises(ArtifactError, match=sentence):
        from_pretrained(kept)


def test_what_is_said_is_one_line_that_a_terminal_can_show(kept):
    rewrite(kept, lambda d: d["source"].update(loader="x\x1b[2J\n\x07y"))
    with pytest.raises(ArtifactError) as error:
        from_pretrained(kept)
    assert str(error.value).isprintable()


def test_a_layer_that_the_source_does_not_have_is_said_when_the_program_is_loaded(tmp_path):
    info = TargetInfo("toy", "image", "classification", ("a", "b"), (1, 10, 10))
    model = ReprogrammedModel(SmallCNN(size=12, labels=4), NoPrompt(), RidgeTaps(layers=("conv@2",)), info)
    folder = save_pretrained(model, tmp_path)
    with pytest.raises(ArtifactError, match="reads the layer 'conv', which source"):
        from_pretrained(folder)


METRICS = {
    "a number": (0.91, {"value": 0.91, "low": None, "high": None}),
    "the documentation's example": ({"value": 0.91}, {"value": 0.91, "low": None, "high": None}),
    "whole": ({"value": 1, "low": 0, "high": 1, "n": 7}, {"value": 1.0, "low": 0.0, "high": 1.0}),
    "half an interval": ({"value": 0.5, "low": 0.1}, {"value": 0.5, "low": None, "high": None}),
    "text in it": ({"value": 0.5, "low": "a", "high": "b"}, {"value": 0.5, "low": None, "high": None}),
    "no value": ({"low": 0.1, "high": 0.2}, None),
    "nothing": (None, None),
    "text": ("good", None),
    "a list": ([0.91, 0.8], None),
    "true": (True, None),
    "a number of many digits": (10**400, None),
    "deep": ({"value": {"value": 0.5}}, None),
}


@pytest.mark.parametrize("name", METRICS)
def test_metrics_of_any_shape(kept, name):
    found, read = METRICS[name]
    rewrite(kept, lambda d: d.update(metrics={"accuracy": found}))
    assert describe_program(kept)["metrics"] == ({} if read is None else {"accuracy": read})
    for whole in (found, [found]):
        rewrite(kept, lambda d, whole=whole: d.update(metrics=whole))
        assert isinstance(describe_program(kept)["metrics"], dict)
    rewrite(kept, lambda d: d.pop("metrics"))
    assert describe_program(kept)["metrics"] == {}
    from_pretrained(kept)
