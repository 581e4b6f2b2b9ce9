"""Odd command lines: none may end in a traceback, hang or eat the machine, and none may reach the last net.

    python benchmarks/fuzz_command_lines.py --lines 10000
    python benchmarks/fuzz_command_lines.py --lines 1 --first 4711 --show      # one line again

Every line is a small run of the toolkit with one to three options replaced: by values of the wrong kind or size, by lists,
by other options of a group, by names that do not exist. It goes through the command line's own entry. The parts that the
changed options belong to are always made; for a share of the lines (``--run``) with small numbers the run itself is done.
A sentence of the last net ("stopped unexpectedly", "debug=true shows where") counts as a traceback: it is no answer to a
user's mistake. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hydra import compose, initialize_config_dir
from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import DefaultsList, Overrides
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, OmegaConf

from reprogram import cli, machine
from reprogram.configuration import config_folder, groups, options

SMALL = 40  # numbers up to it may be run; larger ones would only make an honest run long
LIMIT_GB = 12
VALUES = (
    "", "''", "null", "true", "false", "0", "1", "-1", "2", "3", "7", "0.5", "-0.5", "1.5", "1e-9", "1e9", "1e300", "nan",
    "inf", "-inf", "-0.0", "999999999999999999999", "[]", "[1,2]", "[a]", "[[0.5,-3]]", "[null]", "[nan]", "[[]]", "[0]",
    "['']", "[a,b]", "[-1,1]", "[3,1]", "[0.2,0.1]", "{}", "{a:1}", "{a:{b:1}}", "{a:[null,1]}", "abc", "'a b'", "ü",
    "/dev/null", "/proc/nowhere", ".", "..", "${seed}", "${nope}", "${run_dir}", "???", "[1", "0x10", "1_000", "1e400",
    "'nan'", "'1'", "%s", "~", "auto", "none", "own", "*", "a,b", "1,2", "x" * 3000, "'{}'", "'{'", "'{x}'", "c1ccccc1", "C(",
    "'2020-01-01'", "\\", "'\\n'", "@", "cpu", "cuda", "linf",
)  # fmt: skip
SLOW_TO_MAKE = ("b3db", "amp", "mnist", "zinc", "annalog", "clip", "efficientnet", "minilm", "black_box", "distilled_surrogate")
SMALL_IMAGES = (
    "source=small_cnn", "source.size=16", "target=digits", "target.shots=2", "target.test_size=20", "device=cpu",
)  # fmt: skip
PROGRAM = ("input=none", "input.size=16", "output=linear_features", "training.epochs=1", "task.baselines=[]")
DESIGN = ("task=design", "oracle=qed", "start=example", "search=genetic", "budget=8", "parallel.backend=serial")


@contextlib.contextmanager
def remembered_composition() -> Iterator[None]:
    """Hydra composes the same files for the same choices once; values and mistakes in choices are still its own work.

    Reading thirty files twice is most of what a line takes: once for the mode (run or sweep), once for the run.
    """
    listed, merged = config_loader_impl.create_defaults_list, ConfigLoaderImpl._compose_config_from_defaults_list
    lists: dict[Any, DefaultsList] = {}
    wholes: dict[Any, DictConfig] = {}

    def defaults(repo: Any, config_name: Any, overrides_list: Any, prepend_hydra: bool, skip_missing: bool) -> DefaultsList:
        chosen = tuple(o.input_line for o in overrides_list if repo.group_exists(o.key_or_group))
        key = (config_name, chosen, skip_missing)
        if key not in lists:
            lists[key] = listed(repo, config_name, overrides_list, prepend_hydra, skip_missing)
        found, overrides = lists[key], Overrides(repo, overrides_list)
        overrides.known_choices = found.overrides.known_choices
        return DefaultsList(found.defaults, found.defaults_tree, overrides.config_overrides, overrides)

    def whole(self: ConfigLoaderImpl, defaults: Any, repo: Any) -> DictConfig:
        key = id(defaults)  # the lists are kept above
        if key not in wholes:
            wholes[key] = merged(self, defaults, repo)
        return copy.deepcopy(wholes[key])

    def mode(self: Any, config_name: Any, overrides: list[str]) -> RunMode:
        return RunMode.MULTIRUN if any("hparams_search" in o for o in overrides) else RunMode.RUN

    with (
        mock.patch.object(config_loader_impl, "create_defaults_list", defaults),
        mock.patch.object(ConfigLoaderImpl, "_compose_config_from_defaults_list", whole),
        mock.patch.object(Hydra, "get_mode", mode),
    ):
        yield


class Hang(BaseException):
    """A line took longer than it may."""


@dataclass(frozen=True)
class Base:
    """A run of a second or two, and the groups whose other options would still be one."""

    arguments: tuple[str, ...]
    free: tuple[str, ...] = ()


def bases(folder: Path) -> dict[str, Base]:
    """Small runs of every kind; ``folder`` holds a tiny model and tables."""
    few = ("robustness.examples=2", "robustness.few=2")
    few += tuple(f"robustness.checks.{name}.attack.steps=2" for name in ("pgd", "apgd_ce", "square"))
    look = ("inspection.seeds=1", "inspection.ascent=1", "inspection.search.steps=2", "inspection.suspects=1")
    text = ("source=text", f"source.model={folder / 'bert'}", "device=cpu", "output=ridge_taps", "task.baselines=[]")
    table = ("target.input_column=text", "target.label_column=label", "target.shots=4", "target.test_size=10")
    brief = ("task.examples=20", "task.test=20")
    return {
        "image": Base((*SMALL_IMAGES, *PROGRAM), ("input", "output", "trigger", "logger")),
        "closed": Base((*SMALL_IMAGES, *PROGRAM, "output=ridge_taps"), ("output",)),
        "zeroth": Base((*SMALL_IMAGES, *PROGRAM, "training=spsa_gc", "training.epochs=1", "training.optimiser.pairs=1")),
        "auto": Base((*SMALL_IMAGES, "auto.minutes=0.01", "auto.prompts=false", "task.baselines=[]")),
        "attacks": Base((*SMALL_IMAGES, *PROGRAM, "robustness=quick", *few)),
        "inspect": Base((*SMALL_IMAGES, "task=inspect", "inspection=quick", *look)),
        "wash": Base((*SMALL_IMAGES, "task=wash", "wash=fine_tuning", "wash.epochs=1", "task.compare=false", *brief)),
        "strengthen": Base((*SMALL_IMAGES, "task=strengthen", "task.epochs=1", "task.steps=2", *brief)),
        "evaluate": Base((*SMALL_IMAGES, "task=evaluate", f"program={folder / 'kept' / 'program'}")),
        "text": Base((*text, "target=csv", f"target.path={folder / 'text.csv'}", *table, "input=text"), ("input",)),
        "sequence": Base((*text, "target=sequences_csv", f"target.path={folder / 'sequences.csv'}", *table, "input=text")),
        "molecule": Base((*text, "target=molecules_csv", f"target.path={folder / 'smiles.csv'}", *table, "input=smiles")),
        "design": Base(DESIGN, ("oracle", "constraints", "objective")),
        "stoned": Base((*DESIGN, "search=stoned")),
        "surrogate": Base((*DESIGN, "search=surrogate", "search.batch=[4,4,4,4,4]", "budget=9")),
    }


def prepare(folder: Path) -> None:
    """A BERT of a few thousand weights, tables of 40 rows and a kept program."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    try:
        from conftest import save_bert
    finally:
        sys.path.pop(0)
    save_bert(folder / "bert")
    rng = np.random.default_rng(0)
    for name, letters in (("text", "abcd "), ("sequences", "ACDEFGHIKL"), ("smiles", "CNO")):
        rows = [f"{''.join(rng.choice(list(letters), 9))}{'CNO'[i % 3] * (i // 3)},{'ab'[i % 2]}" for i in range(40)]
        (folder / f"{name}.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    code, said = typed([*bases(folder)["image"].arguments, f"run_dir={folder / 'kept'}"])
    if code:
        raise SystemExit(f"The kept program could not be made: {said}")


def composed(arguments: tuple[str, ...]) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("config", overrides=["run_dir=.", *arguments])


def keys(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a configuration with its value, inner ones too."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        full = f"{path}.{key}" if path else str(key)
        if key not in ("_target_", "debug"):  # debug=true asks for the traceback
            yield full, inner
            yield from keys(inner, full)


def kin(value: Any, rng: np.random.Generator) -> str:
    """Another value of the same kind, as a user would type one who did not read the page."""
    if isinstance(value, bool):
        return str(not value).lower()
    if isinstance(value, int):
        return str(rng.choice([0, 1, 2, 3, 5, 8, 13, 40, 100, 10_000, 10**7, -1, -7]))
    if isinstance(value, float):
        return str(rng.choice([0, 0.001, 0.1, 0.25, 0.5, 0.9, 1, 1.5, 2, 10, 100.5, -0.1]))
    if isinstance(value, list | tuple):
        items = [kin(v, rng) for v in (value or [1]) for _ in range(int(rng.integers(0, 3)))]
        return f"[{','.join(items)}]"
    if isinstance(value, str):
        return str(rng.choice(["auto", "none", "own", "smiles", "l2", "adam", "sgd", "steps", "qed", "logp", value]))
    return str(rng.choice(VALUES))


def odd_line(base: Base, known: dict[str, Any], rng: np.random.Generator) -> list[str]:
    """The arguments of ``base`` with one to three changes."""
    changes = []
    for _ in range(int(rng.integers(1, 4))):
        value = str(rng.choice(VALUES))
        kind = rng.random()
        key = str(rng.choice(list(known)))
        if kind < 0.4:
            changes.append(f"{key}={kin(known[key], rng)}")
        elif kind < 0.7:
            changes.append(f"{key}={value}")
        elif kind < 0.8:
            group = str(rng.choice(groups()))
            changes.append(f"{group}={rng.choice([*options(group), value])}")
        elif kind < 0.9 and base.free:
            group = str(rng.choice(base.free))
            changes.append(f"{group}={rng.choice(sorted(options(group)))}")
        else:
            prefix = str(rng.choice(["+", "~", "++"]))
            changes.append(f"{prefix}{key}" + ("" if prefix == "~" else f"={value}"))
    if rng.random() < 0.02:
        changes.append(str(rng.choice(["--cfg", "--multirun", "-m", "=", "=1", "a", "--nope", "seed", "-cn=x", "+", "~"])))
    return [*base.arguments, *changes]


def small(changes: list[str]) -> bool:
    """May such a run be done to its end? Not with large numbers, nor with options that are slow by nature."""
    text = " ".join(changes)
    numbers = re.findall(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", text)
    slow = (*SLOW_TO_MAKE, "robustness=full", "experiment", "hparams", "space", "surrogate", "training=", "null", "target=")
    slow += ("wash=", "task=", "inspection=", "search=", "start=", "~", "source=", "repeats", "latent", "generator")
    return all(float(n) <= SMALL for n in numbers) and not any(word in text for word in slow)


def parts_of(changes: list[str]) -> Any:
    """In place of the task: make what the changed options belong to."""

    def make(config: DictConfig) -> None:
        touched = {change.lstrip("+~").partition("=")[0].partition(".")[0] for change in changes}
        for group in touched & set(groups()):
            node = config.get(group)
            if not isinstance(node, DictConfig) or "_target_" not in node or group == "task":
                continue
            if not any(word in f"{OmegaConf.to_container(node, resolve=True)}" for word in SLOW_TO_MAKE):
                instantiate(node)

    return make


def typed(arguments: list[str], task: Any = None) -> tuple[int, str]:
    """(exit code, stderr) of a command line, in this process. ``task`` stands in for the real one."""
    said, out = io.StringIO(), io.StringIO()
    replaced = mock.patch("hydra.utils.get_method", lambda path: task or get_method(path))
    argv = mock.patch.object(sys, "argv", ["train.py", *arguments])
    with argv, replaced, contextlib.redirect_stderr(said), contextlib.redirect_stdout(out):
        try:
            cli.main()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
    return code, said.getvalue()


def judged(code: int, said: str, sweep: bool = False) -> str:
    """"fine", or what is wrong with how a line ended."""
    if "Traceback" in said:
        return "traceback"
    if "stopped unexpectedly" in said or "debug=true shows where" in said:
        return "net"
    if "not enough memory" in said:
        return "memory"
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    usage = "usage:" in said  # of Hydra's own flags
    if code not in (0, 2) or (code == 2 and len(lines) != 1 and not usage and not (sweep and lines)):
        return "no sentence"
    return "too long" if code == 2 and lines and len(lines[0]) > 900 else "fine"


def tried(arguments: list[str], changes: list[str], run: bool, seconds: int) -> tuple[str, str]:
    """(what is wrong or "fine", what was said) of one line."""
    signal.alarm(seconds)
    try:
        code, said = typed(arguments, None if run else parts_of(changes))
        return judged(code, said, any("hparams" in c or c in ("--multirun", "-m") for c in changes)), said
    except Hang:
        return "hang", ""
    except BaseException as error:
        return "traceback", f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)


def hang(*_: Any) -> None:
    raise Hang


def fuzz(lines: int, first: int, run: float, seconds: int, show: bool, only: str = "") -> dict[str, Any]:
    """Try the lines ``first`` to ``first + lines``; what went wrong is printed."""
    before, handler = Path.cwd(), signal.signal(signal.SIGALRM, hang)
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    found: Counter[str] = Counter()
    done = 0
    remembered = contextlib.ExitStack()
    try:
        remembered.enter_context(remembered_composition())
        os.chdir(folder)
        prepare(folder)
        kinds = {name: base for name, base in bases(folder).items() if not only or name == only}
        known = {
            name: dict(keys(OmegaConf.to_container(composed(base.arguments), resolve=True))) for name, base in kinds.items()
        }
        for number in range(first, first + lines):
            rng = np.random.default_rng(number)
            name = str(rng.choice(list(kinds)))
            arguments = odd_line(kinds[name], known[name], rng)
            changes = arguments[len(kinds[name].arguments) :]
            to_the_end = bool(rng.random() < run) and small(changes)
            done += to_the_end
            work = folder / "work" / "here"
            work.mkdir(parents=True)
            os.chdir(work)
            began = time.monotonic()
            wrong, said = tried(["run_dir=run", *arguments], changes, to_the_end, seconds)
            found[wrong] += 1
            if wrong != "fine" or show:
                shown = [change[:120] for change in changes]
                print(f"{number} {name} {wrong} {time.monotonic() - began:.1f}s {shown}\n    {said.strip()[-500:]}", flush=True)
            os.chdir(folder)
            shutil.rmtree(folder / "work", ignore_errors=True)
    finally:
        remembered.close()
        os.chdir(before)
        signal.signal(signal.SIGALRM, handler)
        shutil.rmtree(folder, ignore_errors=True)
    peak = machine.peak_memory_mb()
    return {
        "lines": lines,
        "run_to_the_end": done,
        "tracebacks": found["traceback"] + found["net"] + found["no sentence"] + found["memory"] + found["too long"],
        "hangs": found["hang"],
        "peak_memory_mb": round(peak),
        "found": dict(found),
        "first": first,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first line, which is its seed")
    parser.add_argument("--run", type=float, default=0.3, help="share of the lines with small numbers that are run")
    parser.add_argument("--seconds", type=int, default=60, help="that a line may take")
    parser.add_argument("--show", action="store_true", help="print every line, not only those that went wrong")
    parser.add_argument("--only", default="", help="one kind of run")
    chosen = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_GB << 30, LIMIT_GB << 30))
    result = fuzz(chosen.lines, chosen.first, chosen.run, chosen.seconds, chosen.show, chosen.only)
    print(json.dumps(result))
    raise SystemExit(bool(result["tracebacks"] or result["hangs"] or result["peak_memory_mb"] > 2048))


if __name__ == "__main__":
    main()
