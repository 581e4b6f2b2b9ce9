"""A model folder of a stranger: none of its code runs, nobody is asked, special files are refused, memory is bounded."""

from __future__ import annotations

import ast
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

import reprogram
from reprogram.errors import ReprogramError, SourceError
from reprogram.sources.clip import CLIPSource
from reprogram.sources.huggingface import HuggingFaceImageModel
from reprogram.sources.text import TextSource

ROOT = Path(reprogram.__file__).parents[1]
ASKS = {"from_pretrained", "from_config", "pipeline", "load_dataset", "get_class_from_dynamic_module"}
FILES = sorted(path for package in ("reprogram", "molecules") for path in (ROOT / package).rglob("*.py"))


def test_every_call_of_transformers_says_that_no_code_is_trusted():
    """``trust_remote_code`` left out asks on stdin. Only calls of methods count: ours is a plain function."""
    found = 0
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ASKS):
                continue
            found += 1
            said = [k.value for k in node.keywords if k.arg == "trust_remote_code"]
            safe = len(said) == 1 and isinstance(said[0], ast.Constant) and said[0].value is False
            chosen = any(isinstance(k.value, ast.Call) and "_no_code" in ast.dump(k.value) for k in node.keywords)
            assert safe or chosen, f"{path}:{node.lineno} calls {node.func.attr} without trust_remote_code=False"
    assert found >= 4
    said = [line for path in FILES for line in path.read_text().splitlines() if "trust_remote_code=True" in line]
    assert not said


@pytest.fixture
def asked(monkeypatch):
    """Whoever asks on stdin is found out."""
    questions = []
    monkeypatch.setattr("builtins.input", lambda prompt="": questions.append(prompt) or "y")
    return questions


def with_code(folder, witness, known):
    """The folder with an ``auto_map`` to a module that would leave a trace, of a type that transformers knows or not."""
    module = f"import pathlib\npathlib.Path({str(witness)!r}).write_text('executed')\nclass A: pass\n"
    (folder / "evil.py").write_text(module)
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        path = folder / name
        settings = json.loads(path.read_text()) if path.exists() else {}
        names = ("AutoConfig", "AutoModel", "AutoModelForMaskedLM", "AutoModelForImageClassification",
                 "AutoImageProcessor")  # fmt: skip
        settings["auto_map"] = {n: "evil.A" for n in names} | {"AutoTokenizer": ["evil.A", "evil.A"]}
        if not known and name == "config.json":
            settings["model_type"] = "evil"
        path.write_text(json.dumps(settings))


@pytest.fixture
def folders(tiny, text_models, tmp_path):
    image = next(a for a in tiny if a.startswith("source.name=")).partition("=")[2]
    return {
        "image": Path(shutil.copytree(image, tmp_path / "image")),
        "text": Path(shutil.copytree(text_models("masked"), tmp_path / "text")),
    }


LOAD = {
    "image": lambda folder, **o: HuggingFaceImageModel(str(folder), **o),
    "clip": lambda folder, **o: CLIPSource(str(folder), labels=["a", "b"], **o),
    "text": lambda folder, **o: TextSource(str(folder), **o),
}


@pytest.mark.parametrize("random_weights", [None, 0])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", LOAD)
def test_a_folder_with_code_runs_nothing_and_asks_nothing(folders, tmp_path, asked, kind, known, random_weights):
    folder, witness = folders["text" if kind == "text" else "image"], tmp_path / "witness"
    with_code(folder, witness, known)
    try:
        LOAD[kind](folder, random_weights=random_weights)
    except ReprogramError as error:
        assert not known or kind == "clip", error
        assert "\n" not in str(error)
    assert not asked and not witness.exists()


def test_a_program_that_names_such_a_folder(folders, tmp_path, asked):
    """The case of the field: source.loader=text in a stranger's program.json."""
    from reprogram.artifact import from_pretrained, save_pretrained
    from reprogram.errors import ArtifactError
    from reprogram.inputs.text import Text
    from reprogram.interfaces import TargetInfo
    from reprogram.model import ReprogrammedModel
    from reprogram.outputs.linear import Linear

    target = TargetInfo("toy", "text", "classification", ("a", "b"))
    made = ReprogrammedModel(TextSource(str(folders["text"])), Text(), Linear(), target)
    program = save_pretrained(made, tmp_path / "program")
    with_code(folders["text"], tmp_path / "witness", known=False)
    with pytest.raises(ArtifactError, match=r"The source of the program in .* cannot be loaded"):
        from_pretrained(program)
    assert not asked and not (tmp_path / "witness").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "adapter_config.json"])
@pytest.mark.parametrize("kind", ["image", "text"])
def test_special_files_in_a_model_folder(folders, kind, name):
    for make, word in ((os.mkfifo, "pipe"), (lambda p: p.symlink_to("/dev/zero"), "device")):
        path = folders[kind] / name
        path.unlink(missing_ok=True)
        make(path)
        with pytest.raises(SourceError, match=f"{name} is a .*{word}; a file is needed"):
            LOAD[kind](folders[kind])


@pytest.mark.parametrize("random_weights", [None, 0])
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("kind", ["image", "text"])
def test_compiled_code_of_the_hub_is_refused_before_it_is_looked_for(folders, monkeypatch, kind, key, random_weights):
    """trust_remote_code says nothing about these: with the package ``kernels`` they are fetched and loaded."""
    monkeypatch.setitem(sys.modules, "kernels", None)
    path = folders[kind] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: "stranger/attention:forward"}))
    with pytest.raises(SourceError, match=r"asks for code of the hub .*, which is never run"):
        LOAD[kind](folders[kind], random_weights=random_weights)


ORDERS = {
    "image": {"hidden_sizes": [4, 10**5], "depths": [1, 10**7], "embedding_size": 10**9, "num_channels": 10**8},
    "text": {"hidden_size": 10**6, "num_hidden_layers": 10**7, "vocab_size": 10**9, "intermediate_size": 10**9,
             "max_position_embeddings": 10**9},
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("random_weights", [None, 0])
@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind, keys in ORDERS.items() for key in keys])
def test_a_configuration_that_orders_all_memory(folders, kind, key, random_weights):
    path = folders[kind] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: ORDERS[kind][key]}))
    with pytest.raises(ReprogramError) as error:
        LOAD[kind](folders[kind], random_weights=random_weights)
    assert "\n" not in str(error.value) and len(str(error.value)) < 900
