"""Pictures that a list labels, a test folder elsewhere, and the pictures without labels beside them."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reprogram.errors import ConfigError, DataError
from reprogram.targets.folders import Files, FoundFolders, find, look_into
from reprogram.targets.images import Shape, White
from reprogram.targets.label_list import labels_of, read_list
from reprogram.targets.pool import Pool, gather
from reprogram.targets.unlabelled import ImageInputs

if TYPE_CHECKING:
    from reprogram.targets.image_folder import ImageOptions

UNTESTED = "none"  # the kind of a split that tests nothing


def find_parts(root: Path, labels_file: str | None, test_root: str | None) -> FoundFolders:
    """Training and test files: by folders, or by a list, and a test folder of its own. Raises DataError."""
    found = find(root) if labels_file is None else _listed(root, Path(labels_file).expanduser())
    if test_root is not None:
        _test_on(found, Path(test_root).expanduser())
    return found


def _listed(root: Path, labels_file: Path) -> FoundFolders:
    if not root.is_dir():
        raise DataError(f"target.root={root} is no folder; it must be the one that target.labels_file={labels_file} is about.")
    table = read_list(labels_file, "target.labels_file")
    files, places = list[Path](), dict[str, int]()

    def place_of(text: str) -> int | None:
        if text not in places and os.path.isfile(root / text):  # a text too long for a name is no file
            places[text] = len(files)
            files.append(root / text)
        return places.get(text)

    labelled = labels_of(table, place_of)
    if labelled.problem != "classification":
        raise DataError(f"target.labels_file={labels_file} has values and no classes; pictures are told by classes.")
    if len(labelled.classes) < 2:
        has = f"only the class '{labelled.classes[0]}'" if labelled.classes else f"no label of a picture in {root}"
        raise DataError(f"target.labels_file={labels_file} has {has}; at least two classes are needed to learn from.")
    train = Files([files[int(place)] for place in labelled.places], labelled.values)
    return FoundFolders(train, Files([], np.empty(0, np.int64)), labelled.classes, labelled.notes)


def _test_on(found: FoundFolders, root: Path) -> None:
    """The test files of a folder with one folder a class; classes that nobody labelled come after the others."""
    if not root.is_dir():
        raise DataError(f"target.test_root={root} is no folder; it must have one folder a class.")
    folders = look_into(root).classes
    if not folders:
        raise DataError(f"target.test_root={root} has no folder with pictures; one folder a class is needed.")
    if found.test.files:
        found.notes.append("The test part of target.root is not used, for target.test_root is given.")
    found.classes = (*found.classes, *sorted(set(folders) - set(found.classes)))
    pairs = [(file, found.classes.index(name)) for name, files in sorted(folders.items()) for file in files]
    found.test = Files([file for file, _ in pairs], np.array([column for _, column in pairs], dtype=np.int64))


def unlabelled_pictures(
    given: ImageOptions, shape: Shape, white: White | None, test: Files, tested: Collection[str], root: Path
) -> Pool | None:
    """The pool that ``target.unlabelled`` names, as the target's pictures are read. tested: hashes of test pictures."""
    if given.transductive and not test.files:
        raise ConfigError("target.transductive=true reads the test pictures without their labels, and there are none.")
    if given.unlabelled is None and not given.transductive:
        return None
    pool = Pool("image", [], [], [], 0)
    if given.unlabelled is not None:
        folder = Path(given.unlabelled).expanduser()
        if not folder.exists():
            raise DataError(f"target.unlabelled={folder} does not exist.")
        pool = gather(ImageInputs(folder, white.whole if white else None), size=given.size)
    pool.shape, pool.white = shape, white
    if given.transductive:
        names = test.names(root)
        pool.rows, pool.contents, pool.written = [*pool.rows, *names], [*pool.contents, *test.files], [*pool.written, *names]
        pool.total, pool.transductive = pool.total + len(names), True
    else:
        pool.forbidden = set(tested)
    return pool
