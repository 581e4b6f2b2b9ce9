"""``conf/``: where it lies, which choices it has, and whether the values in a composed configuration can be used."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reprogram import declared
from reprogram.errors import ConfigError, ReprogramError, nearest
from reprogram.ranges import NotEmpty, Seed
from reprogram.registry import folders
from reprogram.typecheck import matches, refusal, signature

ROOT: dict[str, Any] = {
    "seed": Seed,
    "resume": bool,
    "debug": bool,
    "name": NotEmpty,
    "run_dir": NotEmpty,
    "device": str,
    "program": Literal["auto"],  # a task that reads one declares it in its OPTIONS
    "sources": list[str],
}
MAY_BE_LEFT_OUT = {"input", "output", "oracle", "objective", "experiment", "hparams_search"}
MAY_BE_EMPTY = {"robustness", "inspection", "trigger", "logger"}  # their option ``none``

# Options whose keys are the user's own choice
OPEN = ("constraints.windows", "constraints.others", "robustness.threats", "goals")


def config_folder() -> Path:
    """``conf/``: inside the installed package, or beside it in a checkout."""
    packaged = Path(__file__).parent / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "conf"


def config_folders() -> tuple[Path, ...]:
    """``conf/``, and the folders of options that other packages declare (entry points ``reprogram.conf``)."""
    return (config_folder(), *folders("reprogram.conf"))


def search_path() -> list[str]:
    """The override that lets Hydra find the options of other packages; nothing where there are none."""
    others = [f"file://{folder}" for folder in config_folders()[1:]]
    return [f"hydra.searchpath=[{','.join(others)}]"] if others else []


def options(group: str) -> dict[str, str]:
    """Choices of a configuration group and what each is: the first comment line of its file, or who declares it."""
    choices: dict[str, str] = {}
    for file in sorted(_option_files(group).values(), key=lambda file: file.name):
        lines = [line for line in file.read_text().splitlines() if line.startswith("#") and "@package" not in line]
        choices[file.stem] = lines[0].lstrip("# ") if lines else ""
    return declared.descriptions(group) | choices


def _option_files(group: str) -> dict[str, Path]:
    """Option -> its file; the toolkit's own go before those of other packages."""
    found: dict[str, Path] = {}
    for folder in config_folders():
        for file in (folder / group).glob("*.yaml"):
            found.setdefault(file.stem, file)
    return found


def declare_choices(arguments: list[str]) -> None:
    """Let Hydra find classes of other packages that are chosen and have no option file."""
    declared.declare(arguments, _option_files)


def groups() -> list[str]:
    """The choices: folders of ``conf/``, of this package and of others."""
    inside = [place for folder in config_folders() for place in folder.iterdir()]
    return sorted({p.name for p in inside if p.is_dir() and any(p.glob("*.yaml")) and p.name != "hydra"})


def help_text() -> str:
    """Every choice with a line each, from the first comment of its file."""
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


def check(config: DictConfig, only: str = "") -> None:
    """Every value against the type and range that its class or function declares, before anything is loaded or written.

    only: look at this group alone. A number where text is wanted (``target.root=2024``) becomes text. ConfigError names
    the key, what was found and what is allowed.
    """
    needless = getattr(_task_module(config), "NOT_NEEDED", ())
    missing = sorted(k for k in OmegaConf.missing_keys(config) if k.startswith(only) and k not in needless)
    if missing:
        raise ConfigError(f"{' and '.join(missing)} must be given, as in {missing[0]}=VALUE.")
    _check_groups(config, only)
    for key, kind in (ROOT | task_options(config)).items():
        _check_value(config, key, _plain(config, key), kind)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    for path, node in _nodes(plain, ""):
        if path.startswith(only):
            _check_node(config, path, node)


def task_options(config: DictConfig) -> dict[str, Any]:
    """Options of the chosen task that no class takes, with their types: ``OPTIONS`` in the task's module.

    A task that does without an option of a group names it in ``NOT_NEEDED``.
    """
    module = _task_module(config)
    if module is None:
        return {}
    known = dict(getattr(module, "OPTIONS", {}))
    for key in config.task:
        if not str(key).startswith("_") and key != "name" and f"task.{key}" not in known:
            raise ConfigError(
                f"There is no option 'task.{key}'; {nearest(str(key), [k[5:] for k in known if k[:5] == 'task.'])}"
            )
    return known


def _task_module(config: DictConfig) -> Any:
    """None where it cannot be imported here: running it says why."""
    from hydra.utils import get_object

    try:
        return sys.modules[get_object(config.task._target_).__module__]
    except Exception:
        return None


def _check_groups(config: DictConfig, only: str) -> None:
    """A group is what one of its files says: never a number, a list or nothing."""
    for group in groups():
        if group not in config:  # its options stand in those of another group, as checks do in robustness
            continue
        value = _plain(config, group)
        if (value is None and group in MAY_BE_LEFT_OUT) or not group.startswith(only):
            continue
        if not isinstance(value, dict):
            shown = "null" if value is None else value
            raise ConfigError(f"{group}={shown} is not a choice; {nearest(str(shown), options(group))}")
        if not value.get("_target_") and (value or group not in MAY_BE_EMPTY):
            raise ConfigError(f"{group} has settings but nothing is chosen; add {group}=NAME, {nearest('', options(group))}")


def _plain(config: DictConfig, key: str) -> Any:
    value = OmegaConf.select(config, key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _nodes(value: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node that names what it makes, with its path."""
    if isinstance(value, dict):
        if isinstance(value.get("_target_"), str) and path != "task":
            yield path, value
        for key, inner in value.items():
            yield from _nodes(inner, f"{path}.{key}" if path else str(key))


def _check_node(config: DictConfig, path: str, node: dict[str, Any]) -> None:
    from hydra.utils import get_object

    try:
        hints, required, takes_any = signature(get_object(node["_target_"]))
    except Exception:  # not importable here, or not a Python function: instantiate() says it in words
        return
    for name in sorted(required - node.keys()):  # taken away with ~
        raise ConfigError(f"{path}.{name} must be given, as in {path}.{name}=VALUE.")
    for name, value in node.items():
        if name.startswith("_"):
            continue
        if name not in hints and not takes_any:
            raise ConfigError(f"There is no option '{path}.{name}'; {nearest(name, hints)}")
        hint = hints.get(name, Any)
        settings = isinstance(hint, type) and is_dataclass(hint)  # within settings
        if settings and isinstance(value, dict) and "_target_" not in value:
            _check_node(config, f"{path}.{name}", value | {"_target_": f"{hint.__module__}.{hint.__qualname__}"})
        else:
            _check_value(config, f"{path}.{name}", value, hint)


def _check_value(config: DictConfig, key: str, value: Any, hint: Any) -> None:
    why = refusal(key, value, hint)
    if why and isinstance(value, int | float) and not isinstance(value, bool) and matches(str(value), hint):
        OmegaConf.update(config, key, str(value))
    elif why:
        raise ConfigError(why)


def load(group: str, name: str, /, **values: Any) -> Any:
    """Make what ``group=name`` makes on the command line, from Python; ``values`` go before those of the file."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.utils import instantiate

    if name not in options(group):
        raise ConfigError(f"There is no {group}={name}; {nearest(name, options(group))}.")
    inside = GlobalHydra.instance().is_initialized()  # a run of the command line: Hydra has found the folders already
    declare_choices([f"{group}={name}"])
    with nullcontext() if inside else initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("config", overrides=[f"{group}={name}", "run_dir=.", *([] if inside else search_path())])
    for key, value in values.items():
        known = [str(k) for k in config[group] if not str(k).startswith("_")]  # "in" would miss a ???
        if key not in known:
            raise ConfigError(f"There is no option '{group}.{key}'; {nearest(key, known)}")
        try:
            OmegaConf.update(config, f"{group}.{key}", value, merge=True, force_add=f"{group}.{key}" in OPEN)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{group}.{key}={value} is not possible: {str(error).splitlines()[0]}.") from error
    check(config, only=group)
    try:
        return instantiate(config[group])
    except Exception as error:
        raise own_error(error) or error from error


def option(group: str, name: str) -> DictConfig:
    """The file of an option, as it is. Raises ConfigError with the nearest that exists."""
    if name not in options(group):
        raise ConfigError(f"There is no {group}={name}; {nearest(name, options(group))}.")
    file = _option_files(group).get(name)
    config = OmegaConf.create(declared.node(group, name)) if file is None else OmegaConf.load(file)
    assert isinstance(config, DictConfig)
    return config


def own_error(error: BaseException | None) -> ReprogramError | None:
    """Our own error, which Hydra wraps when it is raised inside instantiate()."""
    while error is not None and not isinstance(error, ReprogramError):
        error = error.__cause__
    return error
