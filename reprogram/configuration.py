"""``conf/``: where it lies, which choices it has, and whether the values in a composed configuration can be used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from reprogram.errors import ConfigError, ReprogramError, nearest
from reprogram.typecheck import can_be_checked, matches, readable, signature

ROOT = {"seed": int, "resume": bool, "debug": bool, "name": str, "run_dir": str, "device": str, "program": str}


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


def check(config: DictConfig, only: str = "") -> None:
    """Every value against the type that its class or function declares, before anything is loaded or written.

    only: look at this group alone. A number where text is wanted (``target.root=2024``) becomes text. ConfigError names
    the key, what was found and what is allowed.
    """
    missing = sorted(key for key in OmegaConf.missing_keys(config) if key.startswith(only))
    if missing:
        raise ConfigError(f"{' and '.join(missing)} must be given, as in {missing[0]}=VALUE.")
    plain: Any = OmegaConf.to_container(config, resolve=True)
    for key, kind in ROOT.items():
        _check_value(config, key, plain.get(key), kind)
    if plain["seed"] < 0:
        raise ConfigError(f"seed={plain['seed']} must be 0 or more.")
    for path, node in _nodes(plain, ""):
        if path.startswith(only):
            _check_node(config, path, node)


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
        hints, _, takes_any = signature(get_object(node["_target_"]))
    except Exception:  # not importable here, or not a Python function: instantiate() says it in words
        return
    for name, value in node.items():
        if name.startswith("_"):
            continue
        if name in hints:
            _check_value(config, f"{path}.{name}", value, hints[name])
        elif not takes_any:
            raise ConfigError(f"There is no option '{path}.{name}'; {nearest(name, hints)}")


def _check_value(config: DictConfig, key: str, value: Any, hint: Any) -> None:
    if not can_be_checked(hint) or matches(value, hint):
        return
    if isinstance(value, int | float) and not isinstance(value, bool) and matches(str(value), hint):
        OmegaConf.update(config, key, str(value))
        return
    shown = "null" if value is None else value
    raise ConfigError(f"{key}={shown} is not possible; allowed: {readable(hint)}.")


def load(group: str, name: str, /, **values: Any) -> Any:
    """Make what ``group=name`` makes on the command line, from Python; ``values`` go before those of the file."""
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    if name not in options(group):
        raise ConfigError(f"There is no {group}={name}; {nearest(name, options(group))}.")
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("config", overrides=[f"{group}={name}", "run_dir=."])
    for key, value in values.items():
        known = [str(k) for k in config[group] if not str(k).startswith("_")]  # "in" would miss a ???
        if key not in known:
            raise ConfigError(f"There is no option '{group}.{key}'; {nearest(key, known)}")
        OmegaConf.update(config, f"{group}.{key}", value)
    check(config, only=group)
    try:
        return instantiate(config[group])
    except Exception as error:
        raise own_error(error) or error from error


def own_error(error: BaseException | None) -> ReprogramError | None:
    """Our own error, which Hydra wraps when it is raised inside instantiate()."""
    while error is not None and not isinstance(error, ReprogramError):
        error = error.__cause__
    return error
