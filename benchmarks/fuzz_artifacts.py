"""Mutated program folders, as strangers could send them: each loads, or is refused in one sentence, and nothing else.

    python benchmarks/fuzz_artifacts.py --mutations 100000

A mutation counts as a failure where loading (or describing, or asking the loaded program) ends in anything but an error of
this project in one line, where code runs, where a file outside the folder is touched, or where it takes over a minute. An
audit hook of the interpreter sees processes, sockets, unpickling and every file that is opened for writing, moved or
removed. The last line is JSON.
"""

from __future__ import annotations

import argparse
import builtins
import collections
import faulthandler
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from _mutations import Mutator
from common import versions

from reprogram import machine
from reprogram.artifact import describe_program, from_pretrained, save_pretrained
from reprogram.errors import ReprogramError
from reprogram.inputs.full import Full
from reprogram.inputs.none import NoPrompt
from reprogram.inputs.soft_prompt import SoftPrompt
from reprogram.interfaces import SourceModel, TargetInfo
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ensemble import Ensemble
from reprogram.outputs.gaussian_process import GaussianProcessMapping
from reprogram.outputs.linear_features import LinearFeatures
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.sources.module import ModuleSource
from reprogram.sources.small_cnn import SmallCNN
from reprogram.targets.base import ArrayExamples, StringExamples
from reprogram.training.loop import Training, fit

RUNS_CODE = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "subprocess.Popen",
             "socket.connect", "pickle.find_class", "webbrowser.open", "ctypes.dlopen")  # fmt: skip
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink",
           "os.truncate", "os.utime", "shutil.rmtree", "shutil.move", "shutil.copyfile")  # fmt: skip
LONGEST = 60.0  # seconds of one mutation (and of the up to 19 before it)


@dataclass
class Watch:
    """Sees what the interpreter does while a mutated program is loaded. ``inside``: the only folder that may change."""

    inside: Path
    on: bool = False
    code: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        sys.addaudithook(self.event)

    def event(self, name: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if name in RUNS_CODE:
            self.code.append(f"{name} {arguments!r}"[:300])
        elif name == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
                self.touched(arguments[0])
        elif name in CHANGES:
            self.touched(arguments[0])

    def touched(self, path: Any) -> None:
        place = os.path.realpath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else str(path)
        if not place.startswith((str(self.inside), "/dev/null")):
            self.outside.append(place)


@dataclass
class Base:
    """A good program, with the source that is handed over for it (None: it names its own) and inputs to ask it."""

    folder: Path
    source: SourceModel | None
    ask: Any
    files: dict[str, bytes] = field(default_factory=dict)


def bases(root: Path) -> list[Base]:
    """Programs of four kinds on tiny random sources; the third names its source, the fourth reads text."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    source = ModuleSource(net, size=16, taps=["0"], name="tiny net")
    images = np.random.default_rng(0).random((12, 1, 10, 10), dtype=np.float32)
    labels = np.arange(12) % 3
    info = TargetInfo("toy", "image", "classification", ("a", "b", "ü"), (1, 10, 10))
    members = [{"name": "ridge_taps", "config": {"layers": ["0@2"]}, "views": []}, {"name": "linear", "config": {}}]
    made = [
        (source, NoPrompt(), RidgeTaps(layers=("0@2",)), False),
        (source, Full(), Ensemble(tuple(members)), False),
        (source, NoPrompt(), GaussianProcessMapping(layers=("0@2",), trees=2), False),
        (SmallCNN(size=12, labels=4), NoPrompt(), LinearFeatures(), True),
    ]
    found = []
    for number, (model_source, before, behind, named) in enumerate(made):
        model = ReprogrammedModel(model_source, before, behind, info)
        fit(model, ArrayExamples(images, labels), Training(epochs=1))
        folder = save_pretrained(model, root / f"base_{number}", {"accuracy": {"value": 0.5, "low": 0.2, "high": 0.8}})
        found.append(Base(folder, None if named else model_source, torch.from_numpy(images[:2])))
    return [*found, text_base(root)]


def text_base(root: Path) -> Base:
    """A program that names a model folder, which lies in its own and is mutated with it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from reprogram.sources.text import TextSource

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "the"]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    kept = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=24, pad_token="[PAD]", unk_token="[UNK]")
    kept.save_pretrained(root / "base_text" / "model")
    BertModel(
        BertConfig(
            vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
            max_position_embeddings=24,
        )
    ).save_pretrained(root / "base_text" / "model")
    info = TargetInfo("toy", "text", "classification", ("a", "b"))
    source, prompt = TextSource(str(root / "base_text" / "model")), SoftPrompt(length=2, words="the film")
    model = ReprogrammedModel(source, prompt, LinearFeatures(), info)
    strings = ["good film", "bad film", "the good film", "the bad film"]
    fit(model, StringExamples(strings, np.array([0, 1, 0, 1])), Training(epochs=1))
    return Base(save_pretrained(model, root / "base_text", {"accuracy": 0.5}), None, strings[:2])


def prepare_outside(folder: Path) -> str:
    """What may never be touched; returns its digest."""
    folder.mkdir()
    (folder / "secret.txt").write_text("one name a line\nbut not yours\n")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe")

    class Payload:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(folder / "executed"),)

    torch.save({"output.bias": Payload()}, folder / "payload.pt")
    return digest(folder)


def digest(folder: Path) -> str:
    content = [(p.name, p.read_bytes() if p.is_file() else b"") for p in sorted(folder.iterdir())]
    return hashlib.sha256(repr(content).encode()).hexdigest()


def copied(base: Base, folder: Path) -> None:
    """The program to be mutated; the model that it names is the one beside it."""
    if not base.files:
        base.files |= {str(p.relative_to(base.folder)): p.read_bytes() for p in base.folder.rglob("*") if p.is_file()}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in base.files.items():
        path = folder / name
        if path.parent != folder:
            path.parent.mkdir(exist_ok=True)
        if name == "program.json":
            content = content.replace(str(base.folder / "model").encode(), str(folder / "model").encode())
        path.write_bytes(content)


def attempt(base: Base, folder: Path, ask: bool) -> str:
    """``loaded``, ``refused``, or ``failed: …`` with where it came from."""
    outcome = "loaded"
    steps: list[Callable[[], Any]] = [lambda: describe_program(folder)]
    models: list[ReprogrammedModel] = []
    steps.append(lambda: models.append(from_pretrained(folder, source=base.source)))
    if ask:
        steps.append(lambda: models and models[0].predict(base.ask))
    for step in steps:
        try:
            step()
        except ReprogramError as error:
            text = str(error)
            if "\n" in text or len(text) > 1200 or not text.isprintable():
                return f"failed: no plain sentence: {text[:200]!r}"
            outcome = "refused"
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return f"failed: {type(error).__name__}: {str(error)[:160]} at {traceback.format_tb(error.__traceback__)[-1].strip()}"
    return outcome


def run(mutations: int, seed: int, root: Path, text_share: float = 0.02, ask_share: float = 0.1) -> dict[str, Any]:
    """Mutate and load; the figures of the last line."""
    root = Path(os.path.realpath(root))
    programs, before = bases(root), prepare_outside(root / "outside")
    outcomes: collections.Counter[str] = collections.Counter()
    kinds: collections.Counter[str] = collections.Counter()
    failures: dict[str, int] = {}
    slowest, began = 0.0, time.perf_counter()
    watch = Watch(root / "mutated")
    asked: list[str] = []
    typed, builtins.input = builtins.input, lambda prompt="": asked.append(str(prompt)) or "y"  # type: ignore[func-returns-value]
    try:
        for number in range(mutations):
            rng = random.Random(f"{seed}/{number}")
            base = programs[-1] if rng.random() < text_share else rng.choice(programs[:-1] + programs[-2:-1])
            folder = root / "mutated"
            copied(base, folder)
            kinds[Mutator(folder, root / "outside", rng)()] += 1
            if number % 20 == 0:  # a hang ends the whole run, with a traceback
                faulthandler.dump_traceback_later(LONGEST, exit=True)
            watch.on, started = True, time.perf_counter()
            outcome = attempt(base, folder, rng.random() < ask_share)
            watch.on, slowest = False, max(slowest, time.perf_counter() - started)
            outcomes[outcome.partition(":")[0]] += 1
            if outcome.startswith("failed"):
                failures.setdefault(outcome, number)
            if (number + 1) % 10_000 == 0:
                print(f"{number + 1:,} mutations, {dict(outcomes)}, {time.perf_counter() - began:.0f} s", flush=True)
    finally:
        faulthandler.cancel_dump_traceback_later()
        builtins.input = typed
        watch.on = False
    changed = digest(root / "outside") != before
    return {
        "mutations": mutations,
        "loaded": outcomes["loaded"],
        "refused": outcomes["refused"],
        "tracebacks": outcomes["failed"],
        "code_run": len(watch.code) + len(asked) + (root / "outside" / "executed").exists(),
        "touched_outside": len(watch.outside) + changed,
        "hangs": 0,  # a hang would have ended the run
        "slowest_seconds": round(slowest, 2),
        "peak_memory_mb": round(machine.peak_memory_mb()),
        "seconds": round(time.perf_counter() - began, 1),
        "kinds": dict(sorted(kinds.items())),
        "failures": dict(list(failures.items())[:40]),
        "examples": {"code": watch.code[:5], "outside": watch.outside[:5]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--text-share", type=float, default=0.02, help="share of programs that load a text model")
    parser.add_argument("--ask-share", type=float, default=0.1, help="share that is also asked to predict")
    arguments = parser.parse_args()
    sys.dont_write_bytecode = True
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory(dir=Path("/dev/shm") if Path("/dev/shm").is_dir() else None) as folder:
        figures = run(arguments.mutations, arguments.seed, Path(folder), arguments.text_share, arguments.ask_share)
    for key, value in figures.items():
        print(f"{key:>18}  {value}")
    print(json.dumps({"benchmark": "fuzz_artifacts", "figures": figures, "seeds": [arguments.seed],
                      "versions": versions("torch", "safetensors", "transformers")}))  # fmt: skip
    bad = ("tracebacks", "code_run", "touched_outside", "hangs")
    sys.exit(1 if any(figures[key] for key in bad) else 0)


if __name__ == "__main__":
    main()
