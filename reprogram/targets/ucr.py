"""Data sets of signals that ship inside the package aeon (UCR and UEA archives), in their standard split."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from reprogram.errors import ConfigError, nearest
from reprogram.targets._signal_files import read_ts
from reprogram.targets._signals import DrawOptions, SeriesTask, make_task
from reprogram.targets.options import takes


@takes(DrawOptions)
def ucr(**options: Any) -> SeriesTask:
    """The set called ``name`` (null: GunPoint); few labels are drawn from its training part, all of its test part is tested on.

    Nothing is downloaded. Raises ConfigError where aeon is not installed or has no such set in its package.
    """
    given = DrawOptions(**options)
    name, files = given.name or "GunPoint", packaged_sets()
    if name not in files:
        raise ConfigError(f"target.name={name} is not in the package aeon; {nearest(name, files)}")
    train, test = (read_ts(file, "target.name") for file in files[name])
    return make_task(train, test, given, name)


def packaged_sets() -> dict[str, tuple[Path, Path]]:
    """(training, test) file of each set inside the installed aeon, by name."""
    spec = find_spec("aeon")
    if spec is None or spec.origin is None:
        raise ConfigError("target=ucr needs the package aeon: pip install 'reprogram[series]'.")
    found = {}
    for folder in sorted((Path(spec.origin).parent / "datasets" / "data").iterdir()):
        parts = tuple(folder / f"{folder.name}_{part}.ts" for part in ("TRAIN", "TEST"))
        if all(part.exists() for part in parts):
            found[folder.name] = (parts[0], parts[1])
    return found
