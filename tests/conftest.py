"""Small things that many tests need: a tiny source with BatchNorm, easy images, an empty run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one test process a core: more threads only wait for each other

import numpy as np
import pytest
import torch
from torch import nn

from reprogram.hooks import Run
from reprogram.interfaces import SourceModel, SourceOutput, SourceSpec, TargetInfo
from reprogram.result import Result
from reprogram.sources.pooling import pool_grid
from reprogram.targets.base import ArrayExamples


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """``pytest -m "not slow"``: what ``tests/slow.txt`` names is left out (``benchmarks/slow_tests.py`` writes it)."""
    slow = set((Path(__file__).parent / "slow.txt").read_text().split())
    for item in items:
        if item.nodeid.partition("[")[0] in slow:
            item.add_marker("slow")
    much: dict[Path, int] = {}  # files with slow tests first, so that no process waits for another's last file
    for item in items:
        much[item.path] = much.get(item.path, 0) + ("slow" in item.keywords)
    items.sort(key=lambda item: -much[item.path])


class TinySource(SourceModel):
    """Random convolutions with BatchNorm: 7 source labels, 8 features, one tap ``conv``."""

    def __init__(self, seed: int = 0, labels: int = 7) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.name = "tiny"
        self.conv = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, labels)
        names = tuple(f"s{i}" for i in range(labels))
        self.spec = SourceSpec("image", 16, names, feature_size=8, taps=("conv",))
        self.freeze()

    def answer(self, source_input, taps=()):
        x = self.conv(source_input * 2 - 1)
        features = x.mean((2, 3))
        return SourceOutput(self.head(features), features, {t: pool_grid(x, t.pooling) for t in taps})


@pytest.fixture(scope="session")
def tiny_source():
    return TinySource


@pytest.fixture
def easy_images():
    """40 images of 12x12 in two classes that a mean colour tells apart, and their TargetInfo."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = rng.random((40, 3, 12, 12)).astype(np.float32) * 0.4
    images[labels == 1, 0] += 0.5
    return ArrayExamples(images, labels), TargetInfo("easy", "image", "classification", ("a", "b"), (3, 12, 12))


@pytest.fixture
def empty_run(tmp_path: Path) -> Run:
    return Run(tmp_path, 0, Result("reprogram", 0))


# Language models of a few thousand random weights, saved to a folder as transformers saves them ---------------------

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "the", *"abcdefghijklmnopqrstuvwxyz"]
WORDS += [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"]


def save_tokenizer(folder: Path, specials: bool = True) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    if specials:
        inner.post_processor = processors.TemplateProcessing(
            "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"} if specials else {"unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=48, **names).save_pretrained(folder)


def save_bert(folder: Path, masked_lm: bool = False) -> Path:
    from transformers import BertConfig, BertForMaskedLM, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=48,
    )  # fmt: skip
    (BertForMaskedLM(config) if masked_lm else BertModel(config)).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_gpt2(folder: Path) -> Path:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=2, n_head=2, n_positions=48)).save_pretrained(
        folder
    )
    save_tokenizer(folder, specials=False)
    return folder


def save_smiles_bert(folder: Path) -> Path:
    """A language model whose vocabulary, a bare ``vocab.txt``, are SMILES tokens."""
    from transformers import BertConfig, BertModel

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"CNOSPFIcnos()=#+-[]@H123456789%./\\", "Cl", "Br", "[NH3+]", "[Cl-]", "[C@@H]"]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokens), max_position_embeddings=64, **sizes)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def save_words():
    """save_words(folder, specials=True): the tokenizer of :data:`WORDS`, as transformers saves it."""
    return save_tokenizer


@pytest.fixture(scope="session")
def text_models(tmp_path_factory):
    """Folders of tiny frozen language models: ``text_models("bert" | "masked" | "gpt2" | "smiles")``."""

    def folder(kind: str) -> str:
        path = tmp_path_factory.mktemp(kind)
        if kind == "smiles":
            return str(save_smiles_bert(path))
        return str(save_gpt2(path) if kind == "gpt2" else save_bert(path, masked_lm=kind == "masked"))

    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Arguments of a whole run that takes a second: a tiny random model, 8x8 images in two colours."""
    import transformers
    from PIL import Image

    root = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=5)
    transformers.ResNetForImageClassification(config).save_pretrained(root / "model")
    settings = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (root / "model" / "preprocessor_config.json").write_text(json.dumps(settings))
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 5)):
        for colour, name in ((60, "dark"), (190, "light")):
            (root / "images" / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(colour - 50, colour + 50, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / "images" / part / name / f"{i}.png")
    source = ["source=huggingface", f"source.name={root / 'model'}"]
    target = ["target=image_folder", f"target.root={root / 'images'}", "target.shots=4"]
    program = ["input=none", "input.size=32", "output=ridge_taps", "task.baselines=[]"]
    return [*source, *target, *program, "device=cpu"]


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """typed("key=value", …) -> (exit code, stderr), in this process, in an empty folder."""
    from reprogram import cli

    monkeypatch.chdir(tmp_path)

    def run(*arguments, folder="run"):
        where = [] if any("run_dir=" in a or a.startswith("-") for a in arguments) else [f"run_dir={folder}"]
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments, *where])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit:
            cli.main()
        return exit.value.code, capsys.readouterr().err

    return run
