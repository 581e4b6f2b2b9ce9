"""The command line: Hydra composes ``conf/``, the chosen task runs, results land in one run folder.

A mistake in configuration or data ends in one sentence and exit code 2; ``debug=true`` brings the traceback.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reprogram.errors import ConfigError, DataError, ReprogramError, nearest
from reprogram.result import write_atomically


def config_folder() -> Path:
    """``conf/``: inside the installed package, or beside it in a checkout."""
    packaged = Path(__file__).parent / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "conf"


def options(group: str) -> dict[str, str]:
    """Choices of a configuration group and what each is: the first comment line of its file."""
    choices = {}
    for file in sorted((config_folder() / group).glob("*.yaml")):
        lines = [line for line in file.read_text().splitlines() if line.startswith("#") and "@package" not in line]
        choices[file.stem] = lines[0].lstrip("# ") if lines else ""
    return choices


def groups() -> list[str]:
    return sorted(
        p.name for p in config_folder().iterdir() if p.is_dir() and any(p.glob("*.yaml")) and p.name != "hydra"
    )


def help_text() -> str:
    lines = [
        "python train.py [group=option …] [key=value …]        e.g. python train.py target=digits target.shots=8",
        "",
    ]
    for group in groups():
        lines.append(f"{group}=")
        lines += [f"  {name:<24} {text}".rstrip() for name, text in options(group).items()]
    root = (config_folder() / "config.yaml").read_text().splitlines()
    lines.append("and:")
    lines += [f"  {line}" for line in root if re.match(r"^[a-z_]+: .*#", line)]
    lines.append("--multirun key=a,b sweeps; --cfg job shows the composed configuration.")
    return "\n".join(lines)


def sentence(error: Exception) -> str:
    """Hydra's and OmegaConf's errors in one sentence that names the key and the nearest that exists."""
    text = str(error)
    missing_key = re.search(r"Could not override '([^']+)'", text)
    if missing_key:
        key = missing_key.group(1)
        inner = re.search(r"Key '([^']+)' is not in struct", text)
        return f"There is no option '{key}'; {_nearest_key(key, inner.group(1) if inner else key)}."
    option = re.search(r"Could not find '([^']+)/([^'/]+)'", text) or re.search(
        r"In '[^']*': Could not find '([^']+)/([^'/]+)'", text
    )
    if option:
        group, name = option.groups()
        return f"There is no {group}={name}; {nearest(name, options(group))}."
    group_only = re.search(r"Could not override '([^'=]+)'.*No match in the defaults list", text, re.S)
    if group_only:
        return f"There is no group '{group_only.group(1)}'; {nearest(group_only.group(1), groups())}."
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return f"'{missing.group(1)}' must be given, as in {missing.group(1)}=VALUE."
    return " ".join(text.split("\n")[0].split())


def _nearest_key(key: str, last: str) -> str:
    parent, _, leaf = key.rpartition(".")
    leaf = leaf or last
    config = _composed_defaults()
    node = OmegaConf.select(config, parent) if parent else config
    allowed = [str(k) for k in node] if isinstance(node, DictConfig) else [str(k) for k in config]
    return nearest(leaf, [k for k in allowed if k != "hydra" and not k.startswith("_")] + ([] if parent else groups()))


def _composed_defaults() -> DictConfig:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    chosen = [a for a in sys.argv[1:] if re.match(r"^(task|source|target|input|output|training|experiment)=", a)]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        try:
            return compose("config", overrides=chosen)
        except HydraException:
            return compose("config")


def run(config: DictConfig) -> float | None:
    """One run: claim the folder, write the resolved configuration, run the task. Returns its objective for sweeps."""
    folder = Path(config.run_dir)
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        folder = Path(HydraConfig.get().sweep.dir) / HydraConfig.get().sweep.subdir
        config.run_dir = str(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"run_dir={folder} cannot be made: {error.strerror}.") from error
    if (folder / "result.json").exists() and not config.resume:
        raise ConfigError(f"run_dir={folder} already holds a finished run; choose another folder or remove it.")
    write_atomically(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    task = hydra.utils.get_method(config.task._target_)
    return task(config)


def quiet_call(function: Any, *args: Any, debug: bool = False) -> int:
    """Run and turn an expected error into one sentence on stderr and its exit code."""
    try:
        function(*args)
    except ReprogramError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except (HydraException, OmegaConfBaseException) as error:
        cause: BaseException | None = error
        while cause is not None:  # an error inside instantiate() is wrapped by Hydra
            if isinstance(cause, ReprogramError):
                print(f"error: {cause}", file=sys.stderr)
                return cause.exit_code
            cause = cause.__cause__
        if debug:
            raise
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: Stopped; start again with the same run_dir and resume=true to go on.", file=sys.stderr)
        return 130
    except OSError as error:
        if debug or (error.filename is None and error.errno is None):
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(f"error: {error.strerror}{where}.", file=sys.stderr)
        return DataError.exit_code
    return 0


def main() -> None:
    """Console script ``reprogram`` and ``python train.py``."""
    if any(a in ("--help", "-h") for a in sys.argv[1:]):
        print(help_text())
        raise SystemExit(0)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises; quiet_call says it in one sentence
    debug = any(a == "debug=true" for a in sys.argv[1:])
    entry = hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")(run)
    raise SystemExit(quiet_call(entry, debug=debug))
