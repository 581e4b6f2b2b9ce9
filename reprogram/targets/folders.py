"""Which folders are parts of a data set, which are classes, and which files are pictures."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reprogram.errors import DataError
from reprogram.plain import counted
from reprogram.targets.image_formats import SUFFIXES, needs, readable_suffixes

TRAIN = ("train", "training", "tr", "trainset")
TEST = ("test", "testing", "ts", "testset", "val", "valid", "validation", "holdout", "eval", "dev")  # in this order
HIDDEN = (".", "__MACOSX", "@eaDir")  # folders of previews and of file systems, of no person
IGNORED = ("thumbs.db", "desktop.ini", "readme", "readme.txt", "readme.md", "license", "license.txt")


@dataclass
class Files:
    """Files and their labels [N]."""

    files: list[Path]
    labels: np.ndarray

    def rows(self, rows: np.ndarray) -> Files:
        return Files([self.files[int(row)] for row in rows], self.labels[rows])

    def only(self, wanted: object) -> Files:
        """The files of the classes or rows that are wanted."""
        return self.rows(np.array([i for i, file in enumerate(self.files) if file in wanted], dtype=int))  # type: ignore[operator]

    def names(self, folder: Path) -> list[str]:
        return [below(file, folder) for file in self.files]


def below(file: Path, folder: Path) -> str:
    """A file as its path below a folder; in full where it lies elsewhere."""
    return (file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix()


@dataclass
class FoundFolders:
    """Training files, test files (none where a part is to be held out), class names, and what was noticed."""

    train: Files
    test: Files
    classes: tuple[str, ...]
    notes: list[str] = field(default_factory=list)


@dataclass
class Folder:
    """One folder looked into. own: pictures directly in it. classes: pictures below each folder in it. other: endings of
    files that are not read, counted."""

    path: Path
    own: list[Path]
    classes: dict[str, list[Path]]
    other: Counter[str]


def find(root: Path) -> FoundFolders:
    """Raises DataError where there is nothing to learn from, or where it cannot be told what is a class."""
    if not root.exists():
        raise DataError(f"target.root={root} does not exist.")
    if not root.is_dir():
        raise DataError(f"target.root={root} is a file; it must be a folder with one folder a class.")
    top, notes = look_into(root), list[str]()
    while len(top.classes) == 1 and not top.own:  # an archive unpacked into a folder of its own
        inner = look_into(top.path / next(iter(top.classes)))
        if not inner.classes or inner.own or is_part(inner.path.name):
            break
        top = inner
    if top.path != root:
        notes.append(f"The only folder in target.root is {top.path.relative_to(root)}: its folders were read.")
    parts = _parts(top)
    if parts:
        train, test, unused = _choose(top, parts, notes)
    else:
        train, test, unused = top, None, []
    looked = [part for part in (train, test) if part is not None]
    notes += _unused(root, unused, looked)
    classes = tuple(sorted(set().union(*(part.classes for part in looked))))
    notes += _not_read(sum((part.other for part in looked), Counter()))
    if not classes:
        raise DataError(_nothing(root, looked, notes))
    held_out = Files([], np.empty(0, np.int64)) if test is None else _listed(test, classes)
    return FoundFolders(_listed(train, classes), held_out, classes, notes)


def look_into(path: Path) -> Folder:
    """Pictures of each folder below ``path``, at any depth, sorted; folders without any are no class."""
    endings, other = readable_suffixes(), Counter[str]()
    inside = sorted(p for p in path.iterdir() if not p.name.startswith(HIDDEN))
    own = [p for p in inside if p.is_file() and _is_picture(p.name, endings, other)]
    classes = {}
    for folder in (p for p in inside if p.is_dir()):
        files = [file for file in _shown_files(folder) if _is_picture(file.name, endings, other)]
        if files:
            classes[folder.name] = sorted(files)
    return Folder(path, own, classes, other)


def _shown_files(folder: Path) -> Iterator[Path]:
    """All files below a folder but hidden ones and those in hidden folders, such as previews that a program keeps."""
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(HIDDEN)]
        yield from (Path(where) / name for name in names if not name.startswith("."))


def is_part(name: str) -> str | None:
    """``train`` or ``test`` where a folder's name says that it is a part: in any case, alone or as a word of the name."""
    words = re.findall(r"[a-z]+", name.lower())
    rest = [w for w in words if w not in ("set", "data", "dataset", "images", "imgs", "seg", "folder", "split")]
    if len(rest) != 1:
        return None
    return "train" if rest[0] in TRAIN else "test" if rest[0] in TEST else None


def _parts(top: Folder) -> dict[str, Folder]:
    """Folders that are parts and not classes: they hold class folders themselves, and their names or their equal
    contents mark them as parts. Empty where ``top`` holds the classes."""
    inner = {name: _as_part(look_into(top.path / name)) for name in top.classes}
    nested = {
        name: folder for name, folder in inner.items() if len(folder.classes) > 1 or (is_part(name) and folder.classes)
    }
    named = {name: folder for name, folder in nested.items() if is_part(name)}
    kinds = {is_part(name) for name in named}
    if "train" in kinds and "test" in kinds:
        return inner
    if len(inner) > 1 and len(nested) == len(inner):
        sets = [frozenset(folder.classes) for folder in nested.values()]
        if len(set(sets)) == 1 and len(sets[0]) > 1:
            if len(nested) > 1 and "train" not in kinds:
                raise DataError(
                    f"Every folder in target.root={top.path} holds the same class folders ({', '.join(sorted(nested))}), so they "
                    "are parts of the data and no classes; name them train and test, or give one of them as target.root=. (Where "
                    "they are classes, put their pictures into them without folders in between.)"
                )
            return inner
    others = [name for name in top.classes if is_part(name) is None]
    if named and not others:
        return inner
    if "train" in kinds:
        raise DataError(
            f"target.root={top.path} holds a folder '{next(n for n in named if is_part(n) == 'train')}' with class folders, and "
            f"beside it '{others[0]}'; give the training folder itself as target.root=, or put a test folder beside it."
        )
    return {}


def _as_part(folder: Folder) -> Folder:
    """``seg_train/seg_train/CLASS``: a part that holds itself once more."""
    while len(folder.classes) == 1 and not folder.own and is_part(folder.path.name):
        name = next(iter(folder.classes))
        if name != folder.path.name and is_part(name) is None:
            break
        folder = look_into(folder.path / name)
    return folder


def _choose(top: Folder, parts: dict[str, Folder], notes: list[str]) -> tuple[Folder, Folder | None, list[Folder]]:
    """(training part, test part, parts that are not used): test goes before validation."""
    rank = {word: i for i, word in enumerate(TEST)}
    of = {name: is_part(name) for name in parts}
    train = next((parts[n] for n in sorted(parts) if of[n] == "train" and parts[n].classes), None)

    def order(name: str) -> int:
        return min(rank.get(word, len(TEST)) for word in re.findall(r"[a-z]+", name.lower()))

    tests = sorted((n for n in parts if of[n] == "test"), key=order)
    with_classes = [n for n in tests if parts[n].classes]
    for name in tests:
        if name not in with_classes:
            notes.append(f"Folder {name} has pictures but no class folders: it is not tested on.")
    test = parts[with_classes[0]] if with_classes else None
    if train is None:
        train, test = test, None
    assert train is not None
    told = [parts[n] for n in tests if n not in with_classes]
    return train, test, [f for f in parts.values() if not any(f is other for other in (train, test, *told))]


def _unused(root: Path, unused: Sequence[Folder], looked: Sequence[Folder]) -> list[str]:
    notes = []
    if unused:
        listed = ", ".join(
            f"{f.path.name} ({counted(len(f.own) + sum(map(len, f.classes.values())), 'picture')})" for f in unused
        )
        notes.append(f"Not used, because other parts are trained and tested on: {listed}.")
    for part in looked:
        if part.own:
            where = "target.root" if part.path == root else part.path.name
            pictures = counted(len(part.own), "picture is", "pictures are")
            notes.append(f"{pictures} in {where} itself, in no class folder: not used.")
    return notes


def _not_read(other: Counter[str]) -> list[str]:
    """A note on files whose endings are not read, with the package where one would read them."""
    if not other:
        return []
    reasons = {ending: f"; {needs(ending)}" if needs(ending) else "" for ending in other}
    listed = ", ".join(f"{ending} ({count}{reasons[ending]})" for ending, count in other.most_common(6))
    count = sum(other.values())
    return [f"{counted(count, 'file has an ending that is', 'files have endings that are')} not read: {listed}."]


def _nothing(root: Path, looked: Sequence[Folder], notes: list[str]) -> str:
    flat = sum(len(part.own) for part in looked)
    begin = f"target.root={root} holds no images; one folder a class is needed, with files such as {SUFFIXES[0]}"
    if flat:
        begin = (
            f"target.root={root} has {counted(flat, 'picture')} in no class folder; one folder a class is needed to learn from. "
            "Pictures without labels are predicted: task=predict"
        )
    return f"{begin}. {notes[-1]}" if notes and not flat else f"{begin}."


def _is_picture(name: str, endings: tuple[str, ...], other: Counter[str]) -> bool:
    lower = name.lower()
    if lower.endswith(endings):
        return True
    if not lower.startswith(".") and lower not in IGNORED:
        other[Path(lower).suffix or "no ending"] += 1
    return False


def _listed(part: Folder, classes: Sequence[str]) -> Files:
    pairs = [(file, column) for column, name in enumerate(classes) for file in part.classes.get(name, [])]
    return Files([file for file, _ in pairs], np.array([column for _, column in pairs], dtype=np.int64))
