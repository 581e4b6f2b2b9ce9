"""The command line: Hydra composes ``conf/``, the chosen task runs, results land in one run folder.

A mistake in configuration or data ends in one sentence and exit code 2; ``debug=true`` brings the traceback.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reprogram.configuration import (
    OPEN,
    check,
    config_folder,
    declare_choices,
    groups,
    help_text,
    option,
    options,
    own_error,
    search_path,
)
from reprogram.errors import ConfigError, DataError, Interrupted, ReprogramError, nearest
from reprogram.malloc_tuning import keep_freed_memory
from reprogram.redact import conceal, redact
from reprogram.registry import packages
from reprogram.result import write_atomically
from reprogram.run_folder import claimed, is_main

PATHS = ("run_dir", "program", "export", "labels", "task.out")
UNFORESEEN = 1  # exit code of an error that nobody thought of


def main() -> None:
    """Console script ``reprogram`` and ``python train.py``."""
    if any(a in ("--help", "-h") for a in sys.argv[1:]):
        show_help()
        raise SystemExit(0)
    keep_freed_memory()
    typed = with_open_keys(split_sources([*map(at_home, sys.argv[1:])]))
    sys.argv[1:] = [*map(readable, map(hidden, typed)), *search_path()]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises; said() makes one sentence of it
    job = Job(debug="debug=true" in sys.argv[1:])
    entry = hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")(job)

    def checked() -> None:
        check_choices(sys.argv[1:])
        declare_choices(sys.argv[1:])
        try:
            entry()
        except Exception:
            if not job.code or job.debug:  # a sweeper that stops after a run's mistake, which was said, adds nothing
                raise

    code = said(checked, debug=job.debug)
    raise SystemExit(code or job.code)


def show_help() -> None:
    """Print the choices, also into a pipe that ends early."""
    try:
        print(help_text(), flush=True)
    except BrokenPipeError:  # --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Job:
    """What Hydra calls for each run. A mistake in one run of a sweep is said, and the sweep goes on to the next."""

    def __init__(self, debug: bool = False) -> None:
        self.debug, self.code = debug, 0
        self.__name__, self.__module__ = "run", __name__  # Hydra names jobs by their function

    def __call__(self, config: DictConfig) -> float | None:
        values: list[float | None] = [None]
        code = said(lambda: values.append(run(config)), debug=self.debug)
        if code == Interrupted.exit_code:
            raise SystemExit(code)
        self.code = self.code or code
        return values[-1]


def run(config: DictConfig) -> float | None:
    """One run: claim the folder, write the resolved configuration, run the task. Returns its objective for sweeps."""
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        config.run_dir = str(Path(HydraConfig.get().sweep.dir) / HydraConfig.get().sweep.subdir)
    check(config)
    hide_addresses(config)
    find_home(config)
    folder = Path(config.run_dir)
    with claimed(folder, OmegaConf.to_yaml(config, resolve=True), config.resume, is_main()):
        config.sources = [option("source", str(name)) for name in config.sources]
        task = hydra.utils.get_method(config.task._target_)
        return task(config)


def at_home(argument: str) -> str:
    """``key=~/folder`` with the user's home, which not every shell puts there, and which Hydra cannot read."""
    key, sign, value = argument.partition("=")
    return f"{key}={Path(value).expanduser()}" if sign and value.startswith("~/") else argument


def find_home(config: DictConfig) -> None:
    """The same for paths in quotes and in files."""
    for key in PATHS:
        path = OmegaConf.select(config, key)
        if isinstance(path, str) and path.startswith("~"):
            OmegaConf.update(config, key, str(Path(path).expanduser()))


def hidden(argument: str) -> str:
    """An argument as Hydra may see, keep and print it: without the password or token in the address of a service."""
    key, sign, value = argument.partition("=")
    if not sign or key.rpartition(".")[2].lstrip("+") != "url":
        return argument
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return f"{key}={value[0]}{conceal(value[1:-1])}{value[0]}"
    return f"{key}={','.join(map(conceal, value.split(',')))}"


def readable(argument: str) -> str:
    """``run_dir=größe`` in the quotes without which Hydra reads letters of plain English alone; the shell took the user's."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    key, sign, value = argument.partition("=")
    if not sign or argument.startswith("-") or not value or re.search(r"['\"\[\]{},$\\\\]", value):
        return argument
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return f"{key}='{value}'"
    return argument


def hide_addresses(config: DictConfig) -> None:
    """The same for addresses that are not typed but come from a file or the environment."""
    for path in _addresses(OmegaConf.to_container(config, resolve=True), ""):
        OmegaConf.update(config, path, conceal(str(OmegaConf.select(config, path))), force_add=True)
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        sweep = Path(HydraConfig.get().sweep.dir) / "multirun.yaml"  # Hydra's own copy of the command line
        text = sweep.read_text() if sweep.is_file() else ""
        if redact(text) != text:
            write_atomically(sweep, text)


def _addresses(value: Any, path: str) -> Iterator[str]:
    """Dotted keys of every text that is called ``url``."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "url" and isinstance(inner, str):
                yield f"{path}.url".lstrip(".")
            yield from _addresses(inner, f"{path}.{key}".lstrip("."))
    if isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _addresses(inner, f"{path}[{place}]")


def split_sources(arguments: list[str]) -> list[str]:
    """``source=[a,b]`` as ``source=a sources=[b]``: Hydra would merge two options of a group into one."""
    found = []
    for argument in arguments:
        several = re.fullmatch(r"source=\[([\w\-]+),([\w\-,]+)\]", argument.replace(" ", ""))
        found += [f"source={several[1]}", f"sources=[{several[2]}]"] if several else [argument]
    return found


def with_open_keys(arguments: list[str]) -> list[str]:
    """``constraints.windows.tpsa=…`` as ``++constraints.windows.tpsa=…``: a new key there is no slip of the finger."""
    return [f"++{a}" if any(re.match(rf"{re.escape(key)}[.=]", a) for key in OPEN) else a for a in arguments]


def check_choices(arguments: list[str]) -> None:
    """A group is chosen by the name of one option: Hydra takes numbers for a bug, and merges lists."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for argument in arguments:
        group = argument.partition("=")[0].lstrip("+")
        if "=" not in argument or not options(group):
            continue
        choice = OverridesParser.create().parse_override(argument)
        value = choice.value()
        if not choice.is_sweep_override() and not (isinstance(value, str) and value):
            written = argument.partition("=")[2]
            raise ConfigError(f"{group}={written[:80]} is not a choice; write the name of one: {nearest('', options(group))}")


HYDRAS_OWN = "TypeError: Instantiation: "  # what Hydra raises as such for _partial_ and _convert_ of a wrong type


def said(function: Callable[[], Any], debug: bool = False) -> int:
    """Run; an expected error becomes one sentence on stderr, and its exit code comes back."""
    try:
        function()
    except KeyboardInterrupt:
        print("error: Stopped; start again with the same run_dir and resume=true to continue.", file=sys.stderr)
        return Interrupted.exit_code
    except (ReprogramError, HydraException, OmegaConfBaseException, OSError) as error:
        known = own_error(error)
        if debug:
            raise
        if isinstance(error, OSError) and error.errno is None and not known and not isinstance(error, HydraException):
            return unforeseen(error)
        text = " ".join(str(known).split()) if known else sentence(error)
        text = re.sub(r"\S{161,}", lambda found: f"{found[0][:100]}…{found[0][-20:]}", text)  # nobody reads 3,000 letters
        text = redact(text)
        print(f"error: {text}{'' if text.endswith(('.', '?')) else '.'}", file=sys.stderr)
        return known.exit_code if known else DataError.exit_code
    except Exception as error:
        if debug:
            raise
        return unforeseen(error)
    return 0


def unforeseen(error: BaseException) -> int:
    """The last net, for an error that nobody thought of: one sentence, exit code 1; what was written stays."""
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(".: ")
    if "float-castable" in text or "No trials are completed" in text or text.startswith(HYDRAS_OWN):
        print(f"error: {sentence(error)}", file=sys.stderr)  # type: ignore[arg-type]
        return ConfigError.exit_code
    if own := own_error(error):
        print(f"error: {own}", file=sys.stderr)
        return own.exit_code
    if isinstance(error, MemoryError) or re.search(r"out of memory|not enough memory|can't allocate memory", text):
        print("error: There is not enough memory; smaller sizes and batches need less.", file=sys.stderr)
        return UNFORESEEN
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if any(Path(frame.filename).is_relative_to(folder) for folder in packages())]
    where = (ours or list(frames))[-1]
    print(
        f"error: The run stopped unexpectedly in {Path(where.filename).stem}.{where.name} ({text}); files in its "
        f"folder are kept, debug=true shows where.",
        file=sys.stderr,
    )
    return UNFORESEEN


def sentence(error: Exception) -> str:
    """Hydra's, OmegaConf's and the operating system's errors in one sentence: the key, and the nearest that exists."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f' ({error.filename})' if error.filename else ''}."
    unknown = re.search(r"Could not override '([^'=]+)'", text)
    if unknown and "No match in the defaults list" in text:
        return f"There is no group '{unknown.group(1)}'; {nearest(unknown.group(1), groups())}"
    if unknown:
        inner = re.search(r"Key '([^']+)' is not in struct", text)
        return f"There is no option '{unknown.group(1)}'; {_nearest_key(unknown.group(1), inner and inner.group(1))}"
    option = re.search(r"Could not find '([^']+)/([^'/]+)'", text)
    if option:
        return f"There is no {option.group(1)}={option.group(2)}; {nearest(option.group(2), options(option.group(1)))}"
    several = re.match(r"Ambiguous value for argument '(.*?)'", text)
    if several:
        key, _, value = several.group(1).partition("=")
        text = f"\"{key}='{value}'\" for one text, {key}=[{value}] for a list"
        return f"{key}={value} has a comma: write {text}, or add --multirun."
    syntax = re.search(r"(?:Error parsing override|no viable alternative at input) '(.*?)'", text, re.S)
    syntax = syntax or re.match(r"Lexer\w+: (.*)", text)
    if syntax:
        return f"'{syntax.group(1)}' cannot be read; write key=value, with quotes around special characters."
    if "float-castable" in text or "No trials are completed" in text:
        return "The sweep has no value to optimise: this task returns none; use task=reprogram or task=design."
    made = re.search(r"full_key: (\S+)", text)
    if made and text.startswith("Instantiation: "):
        wrong = " ".join(text.partition("full_key:")[0].split()).removeprefix("Instantiation: ")
        return f"{made.group(1)}: {wrong}."
    cause: object = error.__cause__
    if made and isinstance(cause, OSError) and cause.strerror and cause.filename:
        path = str(cause.filename)
        shown = path if len(path) <= 80 else f"{path[:60]}…"
        return f"{made.group(1)}: '{shown}' cannot be opened ({cause.strerror}); name another file or folder."
    if made and error.__cause__ is not None:
        cause = " ".join(str(error.__cause__).split()).rstrip(".") or type(error.__cause__).__name__
        return f"{made.group(1)} cannot be made: {cause}; debug=true shows where."
    return " ".join(text.split("\n")[0].split())


def _nearest_key(key: str, last: str | None) -> str:
    parent, _, leaf = key.rpartition(".")
    config = _composed_defaults()
    node = OmegaConf.select(config, parent) if parent else config
    while node is None and parent:  # the first part of the key that does not exist
        parent, _, leaf = parent.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
    group = parent.replace(".", "/")
    if node is not None and not node and options(group):  # a group within a group, of which nothing is chosen
        return f"choose one first, as in {group}={next(n for n in options(group) if n != 'none')}."
    allowed = [str(k) for k in node] if isinstance(node, DictConfig) else [str(k) for k in config]
    allowed = [k for k in allowed if k != "hydra" and not k.startswith("_")]
    return nearest(leaf or last or key, allowed + ([] if parent else groups()))


def _composed_defaults() -> DictConfig:
    """The configuration with the groups that were chosen, as far as they exist."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    chosen = [a for a in sys.argv[1:] if a.partition("=")[0] in (*groups(), "hydra.searchpath")]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        try:
            return compose("config", overrides=chosen)
        except HydraException:
            return compose("config", overrides=search_path())
