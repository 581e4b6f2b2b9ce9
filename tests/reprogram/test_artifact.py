"""Programs on disk: what is kept comes back; what is wrong ends in one ArtifactError sentence and executes nothing."""

import errno
import hashlib
import json
import os
import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn

from reprogram import artifact
from reprogram.artifact import from_pretrained, push_to_hub, save_pretrained
from reprogram.errors import ArtifactError, ConfigError
from reprogram.inputs.none import NoPrompt
from reprogram.interfaces import InputTransformation, OutputMapping, TargetInfo, to_tensor_labels
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ensemble import Ensemble
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.registry import find, names
from reprogram.sources.module import ModuleSource
from reprogram.targets.base import ArrayExamples


def make_source(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    return ModuleSource(net, size=16, taps=["0"], name="tiny net")


@pytest.fixture(scope="session")
def source():
    return make_source()


@pytest.fixture(scope="session")
def examples():
    rng = np.random.default_rng(0)
    return ArrayExamples(rng.random((12, 1, 10, 10), dtype=np.float32), np.arange(12) % 3)


@pytest.fixture(scope="session")
def model(source, examples):
    target = TargetInfo("toy", "image", "classification", ("a", "b", "ü"), (1, 10, 10))
    made = ReprogrammedModel(source, NoPrompt(), RidgeTaps(layers=("0@2",)), target)
    made.output.fit(made.collect(examples), to_tensor_labels(examples.labels))
    return made


@pytest.fixture(scope="session")
def kept(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("program")
    return save_pretrained(model, folder, metrics={"accuracy": {"value": 0.5, "low": 0.25, "high": float("nan")}})


@pytest.fixture
def copy(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / "program")


def rewrite(folder, change):
    """Change program.json by a function, as a stranger could."""
    path = folder / "program.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def rewrite_tensors(folder, change):
    """Change the tensors and give the new file its right digest: a stranger can compute one too."""
    path = folder / "program.safetensors"
    tensors = load(path.read_bytes())
    change(tensors)
    data = save(tensors)
    path.write_bytes(data)
    digest = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    rewrite(folder, lambda d: d.update(tensors=digest))


def test_what_is_saved_comes_back_to_the_last_bit(model, kept, source, examples):
    again = from_pretrained(kept, source=source)
    assert {p.name for p in kept.iterdir()} == {"program.json", "program.safetensors", "README.md"}
    for name, tensor in model.program().items():
        assert torch.equal(tensor, again.program()[name])
    np.testing.assert_array_equal(model.predict_proba(examples), again.predict_proba(examples))
    assert again.target == model.target and again.output.config() == model.output.config()


def test_an_error_in_a_pass_leaves_gradients_on_and_the_mode_as_it_was(model, examples, monkeypatch):
    """The pass was a generator that kept gradients off until the garbage was collected."""
    model.train()
    monkeypatch.setattr(type(model), "outputs", lambda self, batch: 1 / 0)
    for ask in (model.predict_proba, model.collect):
        with pytest.raises(ZeroDivisionError) as kept_alive:
            ask(examples)
        assert kept_alive is not None and torch.is_grad_enabled() and model.training


def test_the_source_is_not_in_the_program(kept):
    description = json.loads((kept / "program.json").read_text())
    assert sum(f.stat().st_size for f in kept.iterdir()) < 8_000
    assert description["metrics"]["accuracy"] == {"value": 0.5, "low": 0.25, "high": None}
    assert "_target_" not in (kept / "program.json").read_text()


def test_the_card_says_what_it_is_and_how_to_load_it(kept):
    card = (kept / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: reprogram\n")
    assert "tiny net" in card and "from_pretrained(" in card and "0.500" in card


def test_a_bundled_source_is_loaded_by_its_name(tmp_path, examples):
    from reprogram.sources.efficientnet import EfficientNetLite

    target = TargetInfo("toy", "image", "classification", ("a", "b", "c"), (1, 10, 10))
    made = ReprogrammedModel(EfficientNetLite(), NoPrompt(size=32), RidgeTaps(layers=("block_2@1",)), target)
    made.output.fit(made.collect(examples), to_tensor_labels(examples.labels))
    again = from_pretrained(save_pretrained(made, tmp_path))
    assert again.source.name == "efficientnet_lite0"
    np.testing.assert_array_equal(made.predict(examples), again.predict(examples))


def test_a_python_module_must_be_handed_over(kept):
    with pytest.raises(ArtifactError, match="'tiny net', a model that was given in Python; pass it as"):
        from_pretrained(kept)


def test_a_program_of_an_earlier_version_names_its_source_by_the_weights_alone(copy, source):
    """Before settings were part of the fingerprint; what is kept now is bound to them too."""
    assert json.loads((copy / "program.json").read_text())["source"]["fingerprint"] == source.fingerprint()
    rewrite(copy, lambda d: d["source"].update(fingerprint=source.weights_fingerprint()))
    assert from_pretrained(copy, source=source).source is source


def test_a_source_that_normalises_otherwise_is_refused(kept, source):
    other = ModuleSource(source.module, size=16, taps=["0"], name="tiny net", mean=(0.1,) * 3)
    assert other.weights_fingerprint() == source.weights_fingerprint()
    with pytest.raises(ArtifactError, match="belongs to source 'tiny net' with fingerprint"):
        from_pretrained(kept, source=other)


def test_another_source_is_refused(kept):
    with pytest.raises(ArtifactError, match="belongs to source 'tiny net' with fingerprint"):
        from_pretrained(kept, source=make_source(seed=1))


CHANGES = {
    "unknown schema": (lambda d: d.update(schema=99), "has schema 99; this version reads schemas 1 to 2"),
    "no schema": (lambda d: d.pop("schema"), "'schema' is missing"),
    "schema as text": (lambda d: d.update(schema="1"), "'schema' is missing"),
    "no output": (lambda d: d.pop("output"), "lacks 'output'"),
    "list as config": (lambda d: d["output"].update(config=[]), "'output.config' is missing or"),
    "unknown method": (lambda d: d["input"].update(name="padd"), "reprogram.inputs has no 'padd'"),
    "a path as method": (lambda d: d["output"].update(name="../../os"), "has no '../../os'"),
    "a dotted method": (lambda d: d["output"].update(name="os.system"), "has no 'os.system'"),
    "a helper module": (lambda d: d["output"].update(name="_ridge"), "has no '_ridge'"),
    "unknown option": (lambda d: d["output"]["config"].update(heads=True), "no option 'heads'.*'head'"),
    "a target": (lambda d: d["output"]["config"].update(_target_="os.system"), "no option '_target_'"),
    "wrong type": (lambda d: d["output"]["config"].update(average="2"), "'average' is '2', allowed: int"),
    "bool for int": (lambda d: d["output"]["config"].update(average=True), "'average' is 'True', allowed: int"),
    "huge number": (lambda d: d["output"]["config"].update(width=10**9), "width=1000000000, but the tensors"),
    "wrong value": (lambda d: d["output"]["config"].update(normalise="L3"), "'L3'; allowed: auto"),
    "a text too many": (lambda d: d["target"].update(descriptions=["a"] * 9), "9 texts for"),
    "one class twice": (lambda d: d["target"].update(classes=["a", "a", "b"]), "a name twice"),
    "classes as numbers": (lambda d: d["target"].update(classes=[1, 2, 3]), "list of names"),
    "a giant image": (lambda d: d["target"].update(input_shape=[3, 10**9, 10**9]), "'input_shape' must be"),
    "unknown kind": (lambda d: d["target"].update(kind="video"), "'kind' is 'video'"),
    "fewer classes": (lambda d: d["target"].update(classes=["a", "b"]), "has the shape"),
    "other width": (lambda d: d["output"]["config"].update(width=3), "has the shape"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_wrong_description_gets_its_sentence(copy, source, name):
    change, sentence = CHANGES[name]
    rewrite(copy, change)
    with pytest.raises(ArtifactError, match=sentence) as error:
        from_pretrained(copy, source=source)
    assert "\n" not in str(error.value)


def test_a_huge_order_is_refused_before_memory_is_asked_for(copy, source, monkeypatch):
    rewrite(copy, lambda d: d["output"]["config"].update(width=20_000))
    rewrite(copy, lambda d: d["target"].update(classes=[str(i) for i in range(1000)]))
    with pytest.raises(ArtifactError, match=r"describes .* bytes of tensors, but its file has"):
        from_pretrained(copy, source=source)


def parts_for_images():
    """Every input transformation and output mapping that can be built for an image source with 5 labels, 3 wanted."""
    source = make_source()
    target = TargetInfo("toy", "image", "classification", ("a", "b", "c"), (1, 10, 10))
    for package, base in (("reprogram.inputs", InputTransformation), ("reprogram.outputs", OutputMapping)):
        for name in names(package):
            method = find(package, name, base)
            try:
                method().build(source.spec, target)
            except (
                ConfigError
            ):  # made for strings, for as many labels as the source has, or with options that must be given
                continue
            yield pytest.param(base, method, id=f"{package}.{name}")


@pytest.mark.parametrize(("base", "method"), parts_for_images())
def test_every_method_comes_back(source, tmp_path, base, method):
    target = TargetInfo("toy", "image", "classification", ("a", "b", "c"), (1, 10, 10))
    parts = [NoPrompt(), method()] if base is OutputMapping else [method(), RidgeTaps(layers=("0@2",), width=20)]
    made = ReprogrammedModel(source, *parts, target)
    with torch.no_grad():
        for number, tensor in enumerate(t for t in (*made.input.parameters(), *made.output.parameters())):
            tensor.add_(0.01 * (number + 1))
    again = from_pretrained(save_pretrained(made, tmp_path), source=source)
    assert all(torch.equal(tensor, again.program()[name]) for name, tensor in made.program().items())
    assert again.input.config() == made.input.config() and again.output.config() == made.output.config()


def test_members_of_an_ensemble_are_checked_like_everything_else(source, tmp_path):
    target = TargetInfo("toy", "image", "classification", ("a", "b", "c"), (1, 10, 10))
    members = [{"name": "bayesian", "config": {}, "views": []}, {"name": "linear_features", "config": {}, "views": [0]}]
    made = ReprogrammedModel(source, NoPrompt(), Ensemble(members), target)
    folder = save_pretrained(made, tmp_path)
    assert from_pretrained(folder, source=source).output.config() == made.output.config()
    rewrite(folder, lambda d: d["output"]["config"]["members"][0]["config"].update(_target_="os.system"))
    with pytest.raises(ArtifactError, match="member bayesian of output=ensemble has no option '_target_'"):
        from_pretrained(folder, source=source)


TENSORS = {
    "missing": (lambda t: t.pop("output.bias"), "lacks the tensor 'output.bias'"),
    "extra": (lambda t: t.update({"output.more": torch.zeros(1)}), "a tensor 'output.more' that its methods do not"),
    "wrong shape": (lambda t: t.update({"output.bias": torch.zeros(4)}), "has the shape"),
    "wrong type": (lambda t: t.update({"output.bias": torch.zeros(3, dtype=torch.float64)}), "is float64"),
    "not a number": (lambda t: t["output.bias"].fill_(float("nan")), "NaN or infinite"),
    "infinite": (lambda t: t["output.weight"].fill_(float("inf")), "NaN or infinite"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_wrong_tensors_get_their_sentence(copy, source, name):
    change, sentence = TENSORS[name]
    rewrite_tensors(copy, change)
    with pytest.raises(ArtifactError, match=sentence):
        from_pretrained(copy, source=source)


@pytest.mark.parametrize("file", ["program.json", "program.safetensors"])
def test_a_missing_file_is_named(copy, source, file):
    (copy / file).unlink()
    with pytest.raises(ArtifactError, match=f"{file} cannot be read: No such file"):
        from_pretrained(copy, source=source)


@pytest.mark.parametrize(
    ("file", "limit"), [("program.json", "LARGEST_JSON"), ("program.safetensors", "LARGEST_TENSORS")]
)
def test_an_oversized_file_is_not_read(copy, source, monkeypatch, file, limit):
    monkeypatch.setattr(artifact, limit, 10)
    with pytest.raises(ArtifactError, match=f"{file} has .* bytes; at most 10 are read"):
        from_pretrained(copy, source=source)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "\x00", "[" * 100_000, '{"schema": NaN}', '{"schema": 1' + "0" * 5000 + "}", '"\\ud800"'],
)
def test_json_that_is_none(copy, source, text):
    (copy / "program.json").write_text(text)
    with pytest.raises(ArtifactError):
        from_pretrained(copy, source=source)


def test_a_pickle_in_the_place_of_tensors_is_not_executed(copy, source, tmp_path):
    witness = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(witness),)

    torch.save({"output.bias": Evil()}, copy / "program.safetensors")
    data = (copy / "program.safetensors").read_bytes()
    digest = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    rewrite(copy, lambda d: d.update(tensors=digest))
    with pytest.raises(ArtifactError, match="is not a safetensors file"):
        from_pretrained(copy, source=source)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"loader": "module", "options": {"module": "os.system"}}, "'module' is never loaded by name"),
        ({"loader": "callable", "options": {"function": "os:abort"}}, "'callable' is never loaded by name"),
        (
            {"loader": "remote", "options": {"url": "http://0.0.0.0", "model": "m", "labels": "imagenet"}},
            "never loaded",
        ),
        ({"loader": "os", "options": {}}, "reprogram.sources has no 'os'"),
        ({"loader": "efficientnet", "options": {"weights": "/etc/passwd"}}, "/etc/passwd does not fit"),
        ({"loader": "huggingface", "options": {"name": "/nowhere"}}, "is not a model folder"),
        ({"loader": "huggingface", "options": {}}, "lacks 'name'"),
        ({"loader": "efficientnet", "options": {"name": "efficientnet_lite9"}}, "did you mean 'efficientnet_lite"),
    ],
)
def test_a_source_that_a_stranger_names(copy, change, sentence):
    rewrite(copy, lambda d: d["source"].update(change))
    with pytest.raises(ArtifactError, match=sentence):
        from_pretrained(copy)


FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def load_or_sentence(folder, source):
    """The loaded tensors, or None when the program was refused in one sentence."""
    try:
        return from_pretrained(folder, source=source).program()
    except ArtifactError as error:
        assert "\n" not in str(error) and 10 < len(str(error)) < 900
        return None


@FUZZ
@given(st.sampled_from(["program.json", "program.safetensors"]), st.data())
def test_fuzz_truncated_or_flipped_bytes(kept, source, tmp_path_factory, file, data):
    folder = shutil.copytree(kept, tmp_path_factory.mktemp("fuzz") / "program")
    content = bytearray((folder / file).read_bytes())
    if data.draw(st.booleans(), "truncate"):
        content = content[: data.draw(st.integers(0, len(content) - 1), "length")]
    else:
        for _ in range(data.draw(st.integers(1, 4), "flips")):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    changed = bytes(content) != (folder / file).read_bytes()
    (folder / file).write_bytes(content)
    loaded = load_or_sentence(folder, source)
    if file == "program.safetensors" and changed:
        assert loaded is None


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["os.system", "../x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@FUZZ
@given(st.data())
def test_fuzz_descriptions(kept, source, tmp_path_factory, data):
    folder = shutil.copytree(kept, tmp_path_factory.mktemp("fuzz") / "program")

    def change(part):
        while True:
            key = data.draw(st.sampled_from(sorted(part)) | st.text(max_size=10), "key")
            if isinstance(part.get(key), dict) and part[key] and data.draw(st.booleans(), "deeper"):
                part = part[key]
                continue
            part[key] = data.draw(VALUES, "value")
            return

    rewrite(folder, change)
    load_or_sentence(folder, source)


@FUZZ
@given(st.dictionaries(st.sampled_from(["output.bias", "output.weight", "input.x", "x"]), st.binary(max_size=40)))
def test_fuzz_headers(kept, source, tmp_path_factory, entries):
    """Safetensors files whose header lies, with a right digest."""
    folder = shutil.copytree(kept, tmp_path_factory.mktemp("fuzz") / "program")
    header = {
        n: {"dtype": "F32", "shape": [len(b)], "data_offsets": [0, 4 * len(b) + len(n)]} for n, b in entries.items()
    }
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text + b"".join(entries.values())
    (folder / "program.safetensors").write_bytes(data)
    rewrite(folder, lambda d: d.update(tensors={"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}))
    assert load_or_sentence(folder, source) is None


def test_a_full_disk_while_saving_leaves_the_old_program(model, copy, source, monkeypatch):
    def no_space(_file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = {f.name: f.read_bytes() for f in copy.iterdir()}
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(ArtifactError, match=r"The program cannot be saved in .*: No space left on device"):
        save_pretrained(model, copy)
    assert {f.name: f.read_bytes() for f in copy.iterdir()} == before
    monkeypatch.undo()
    assert load_or_sentence(copy, source) is not None


def test_a_crash_between_two_files_is_noticed(model, copy, source):
    with torch.no_grad():
        tensors = {k: v + 1 for k, v in model.program().items()}
    (copy / "program.safetensors").write_bytes(save(tensors))
    with pytest.raises(ArtifactError, match=r"is damaged, or belongs to another program.json"):
        from_pretrained(copy, source=source)


def test_a_method_from_outside_the_package_is_refused_when_saving(model, tmp_path):
    class Mine(NoPrompt):
        pass

    other = ReprogrammedModel(model.source, Mine(), model.output, model.target, build=False)
    with pytest.raises(ArtifactError, match="cannot be kept in a program"):
        save_pretrained(other, tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("./nowhere", "There is no folder"), ("a/b/c", "There is no folder"), ("nobody/nothing", "neither a folder nor")],
)
def test_a_program_that_does_not_exist(name, sentence, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ArtifactError, match=sentence):
        from_pretrained(name)


def test_push_to_hub_uploads_the_three_files(model, monkeypatch):
    seen = {}

    class Api:
        def create_repo(self, repo_id, **options):
            seen["repo"] = (repo_id, options)

        def upload_folder(self, repo_id, folder_path, commit_message):
            seen["files"] = sorted(os.listdir(folder_path))
            return f"https://example.org/{repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert push_to_hub(model, "me/toy", private=True) == "https://example.org/me/toy"
    assert seen == {
        "repo": ("me/toy", {"private": True, "exist_ok": True}),
        "files": ["README.md", "program.json", "program.safetensors"],
    }


def test_hub_programs_are_downloaded_file_by_file(kept, source, monkeypatch):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda _repo, file: str(kept / file))
    assert from_pretrained("me/toy", source=source).target.name == "toy"


def test_an_upload_that_fails_gets_one_sentence(model, monkeypatch):
    class Api:
        def create_repo(self, *_arguments, **_options):
            raise ValueError("401 Client Error\nInvalid token")

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    with pytest.raises(ArtifactError, match="cannot be uploaded to 'me/toy': 401 Client Error Invalid token"):
        push_to_hub(model, "me/toy")
