"""Sounds in folders that are named like their classes, or in a table of paths."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprogram.errors import ConfigError, DataError, nearest
from reprogram.progress import progress
from reprogram.ranges import Count
from reprogram.targets._signal_inputs import SoundInputs
from reprogram.targets._signals import SeriesTask, Signals, SplitOptions, make_task
from reprogram.targets._sound_files import SUFFIXES, read_header, read_sound, sounds_below
from reprogram.targets.folders import below, is_part
from reprogram.targets.images import MOST_BAD
from reprogram.targets.options import takes
from reprogram.targets.tables import is_missing, named, rows

LOOKED_AT = 50  # files whose rates are looked at where no rate is given
HIGHEST = 16_000  # samples a second that are kept where nobody asks for more


@dataclass(frozen=True, kw_only=True)
class AudioOptions(SplitOptions):
    """What a user can say about sounds, beside how they are split.

    labels_file: a table of paths below ``root`` instead of folders a class. path_column, label_column: of that table.
    groups: a column of the table; without a table a regular expression whose first group, found in the path below root,
        names the speaker or device, such as ``([a-z]+)-[0-9]+[.]wav``.
    rate: samples a second that all sounds become; null: that of most files, at most 16,000.
    mono: the mean of the channels; else every file needs the same number of channels.
    """

    rate: Count | None = None
    mono: bool = True
    labels_file: str | None = None
    path_column: str = "path"
    label_column: str = "label"


@takes(AudioOptions)
def audio_folder(root: str, **options: Any) -> SeriesTask:
    """``root/CLASS/*.wav``, or ``root/train/CLASS/*`` and ``root/test/CLASS/*``, or a table of paths.

    Files that cannot be read are left out and named in the notes; more than 5 % of them raise DataError.
    """
    given = AudioOptions(**options)
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"target.root={root} is no folder.")
    train, test = _from_table(folder, given) if given.labels_file is not None else _from_folders(folder, given)
    rate = given.rate or _usual_rate([file for file, _, _ in train])
    found = _read(train, folder, rate, given)
    held = None if test is None else _read(test, folder, rate, given)
    return make_task(found, held, given, given.name or folder.resolve().name)


def _inputs(root: str, rate: int | None = None, mono: bool = True, **_: Any) -> SoundInputs:
    """All sounds below a folder, in order, without labels; options on labels and splits are ignored."""
    return SoundInputs(Path(root).expanduser(), rate, mono)


audio_folder.inputs = _inputs  # type: ignore[attr-defined]

Labelled = tuple[Path, str, str | None]  # a file, its class, its group


def _from_folders(folder: Path, given: AudioOptions) -> tuple[list[Labelled], list[Labelled] | None]:
    """(what is learned from, what is tested on or None)."""
    inside = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    parts: dict[str, list[Path]] = {"train": [], "test": []}
    for part in inside:
        if (which := is_part(part.name)) is not None:
            parts[which].append(part)
    if parts["train"] and len(inside) == len(parts["train"]) + len(parts["test"]):
        train = _classes(parts["train"][0], folder, given)
        return train, _classes(parts["test"][0], folder, given) if parts["test"] else None
    return _classes(folder, folder, given), None


def _classes(folder: Path, root: Path, given: AudioOptions) -> list[Labelled]:
    found = []
    for inner in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        found += [(file, inner.name, _group(below(file, root), given)) for file in sounds_below(inner)]
    if not found:
        raise DataError(f"{folder} needs one folder a class with sounds in it, such as {SUFFIXES[0]} files.")
    return found


def _group(path: str, given: AudioOptions) -> str | None:
    """What the regular expression finds in a path."""
    if given.groups is None:
        return None
    try:
        found = re.search(given.groups, path)
    except re.error as error:
        raise ConfigError(f"target.groups={given.groups} is no regular expression: {error}.") from error
    if found is None or not found.re.groups:
        raise ConfigError(f"target.groups={given.groups} finds no group in '{path}'; write what names it in (…).")
    return str(found.group(1))


def _from_table(folder: Path, given: AudioOptions) -> tuple[list[Labelled], None]:
    table = rows(str(given.labels_file), None, [given.path_column, given.label_column], "target.labels_file")
    for key in ("path_column", "label_column", "groups"):
        column = getattr(given, key)
        if column is not None and column not in table.header:
            raise DataError(f"target.{key}={column}: {table.path} has no such column; {nearest(column, table.header)}.")
    found = []
    for row in table:
        file, label = folder / row.cells[given.path_column], row.cells[given.label_column]
        if not file.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"row {row.number} of {table.path} names {file}, which is not below target.root={folder}.")
        if not is_missing(label):
            found.append((file, label, None if given.groups is None else row.cells[given.groups]))
    return found, None


def _usual_rate(files: Sequence[Path]) -> int:
    """That of most files, at most :data:`HIGHEST`."""
    found = Counter[int]()
    for file in files[:: max(1, len(files) // LOOKED_AT)]:
        try:
            found[read_header(file)[0]] += 1
        except DataError:
            continue
    return min(found.most_common(1)[0][0], HIGHEST) if found else HIGHEST


def _read(files: Sequence[Labelled], folder: Path, rate: int, given: AudioOptions) -> Signals:
    found = Signals([], [], [], None if given.groups is None else [], float(rate))
    bad: dict[str, list[str]] = {}
    with progress("reading sounds", len(files)) as bar:
        for file, label, group in files:
            bar.advance()
            try:
                sound = read_sound(file, rate, given.mono)
            except DataError as error:
                bad.setdefault(str(error), []).append(below(file, folder))
                continue
            found.signals.append(sound)
            found.labels.append(label)
            found.rows.append(below(file, folder))
            if found.groups is not None:
                found.groups.append(str(group))
    count = sum(map(len, bad.values()))
    if count > max(1, MOST_BAD * len(files)) or not found.signals:
        why, names = next(iter(bad.items()), ("there are none", ["-"]))
        raise DataError(f"{count} of {len(files)} sounds in {folder} cannot be read, such as {names[0]}: {why}.")
    found.notes += [named(names, f"are left out: {why}") for why, names in bad.items()]
    return found
