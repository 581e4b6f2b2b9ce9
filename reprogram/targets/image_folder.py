"""Images in folders that are named like their classes: ``root/train/CLASS/*`` and ``root/test/CLASS/*``, or
``root/CLASS/*``, of which a part is held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reprogram.errors import ConfigError, DataError
from reprogram.interfaces import Examples, TargetInfo, TargetTask
from reprogram.plain import counted
from reprogram.ranges import Seed, Shots, Side, TestSize
from reprogram.targets.base import ArrayExamples, ImageTask, check_classes
from reprogram.targets.folders import Files, FoundFolders, below
from reprogram.targets.images import (
    IN_MEMORY,
    MOST_BAD,
    Facts,
    ImageFiles,
    Shape,
    White,
    common_shape,
    one_white,
    read_each,
    read_facts,
    read_image,
    too_many,
    white_of,
)
from reprogram.targets.labelled_pictures import UNTESTED, find_parts, unlabelled_pictures
from reprogram.targets.leaks import file_hash, merged, near_pairs, picture_hash
from reprogram.targets.options import takes
from reprogram.targets.splits import draw, fewer_than_asked, hold_out, what_the_split_did
from reprogram.targets.unlabelled import ImageInputs


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """What a user can say about a target of images.

    shots, labels: labelled examples a class, or in all; both null takes every training image.
    size: side in pixels that images become (scaled, cut in the middle); null keeps small images that all have one size.
    white: the value that is white in grey files of more than 8 bits; ``auto``: of 1, 255, 1023, 4095, 16383 and 65535 the
        least that no image of the set goes beyond.
    test_size, split_seed: what is held out where there is no test folder.
    allow_overlap: the same picture may be in the training and in the test folder.
    labels_file: a list with the columns ``input`` (path below root) and ``label`` instead of folders; all of it is learned
        from, and without ``test_root`` nothing is tested. test_root: a folder with one folder a class to test on.
    unlabelled: a folder of pictures without labels that programs may learn from. transductive: the test pictures, without
        their labels, too.
    """

    shots: Shots = 16
    labels: Shots = None
    seed: Seed = 0
    size: Side | None = None
    white: str | int | float = "auto"
    test_size: TestSize = 0.2
    split_seed: Seed = 0
    allow_overlap: bool = False
    labels_file: str | None = None
    test_root: str | None = None
    unlabelled: str | None = None
    transductive: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise ConfigError(f"target.size={self.size} must be at least 1 pixel.")
        given_white(self.white)


def given_white(value: str | int | float) -> float | None:
    """None for ``auto``."""
    if value == "auto":
        return None
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number <= 65535:
        raise ConfigError(f"target.white={value} is not known; allowed: auto, or a number from 1 to 65535.")
    return number


@takes(ImageOptions)
def image_folder(root: str, **options: Any) -> TargetTask:
    """A target from image files. Class names are folder names, in alphabetical order; see :class:`ImageOptions`.

    Files that cannot be read are skipped, counted and named in the notes; more than 5 % of them raise DataError.
    """
    given = ImageOptions(**options)
    folder = Path(root).expanduser()
    found = find_parts(folder, given.labels_file, given.test_root)
    reader = _Reader(folder, len(found.train.files) + len(found.test.files))
    shape, notes = _prepare(reader, found, given)
    classes = found.classes
    train, test, split = _parts(reader, found, given, notes)
    check_classes(train.labels, classes, f"target.root={root}")
    test_kept, test_examples = reader.decode(test, shape, "reading test images")
    if not len(test_examples) and split["kind"] != UNTESTED:
        raise DataError(f"target.root={root} has no readable test image.")
    chosen, train_examples = _draw_readable(reader, train, shape, given, classes)
    notes += [*reader.notes(), *reader.leaks(given, bool(found.test.files))]
    notes += [*_fewer(train, given, classes), *_absent(classes, chosen, test_kept)]
    notes += reader.near(chosen, train_examples, test_kept, test_examples)
    pool = unlabelled_pictures(given, shape, reader.white, test_kept, reader.tested, folder)
    return ImageTask(
        TargetInfo(folder.resolve().name, "image", "classification", classes, tuple(shape), white=reader.one_white),
        train_examples,
        test_examples,
        train_rows=chosen.names(folder),
        test_rows=test_kept.names(folder),
        split=split | {"test_size": len(test_examples)},
        notes=notes,
        pool=pool,
    )


def _inputs(root: str, size: int | None = None, white: str | int | float = "auto", **_: Any) -> ImageInputs:
    """All pictures below a folder, in order, without labels; options on labels and splits are ignored."""
    return ImageInputs(Path(root).expanduser(), given_white(white))


image_folder.inputs = _inputs  # type: ignore[attr-defined]


def _prepare(reader: _Reader, found: FoundFolders, given: ImageOptions) -> tuple[Shape, list[str]]:
    """The shape that images become, and notes on what was found; files that are no images are left out of ``found``."""
    facts = reader.facts([*found.train.files, *found.test.files])
    found.train, found.test = found.train.only(facts), found.test.only(facts)
    if not found.train.files:
        raise DataError(f"target.root={reader.folder} has no readable image.")
    notes = [*found.notes, *reader.set_white(list(facts.values()), given.white)]
    several = sum(f.frames for f in facts.values())
    if several:
        files = counted(several, "file holds", "files hold")
        notes.append(f"{files} several pictures: one of each is read (the first; of DICOM the middle one).")
    return common_shape([f.header for f in facts.values()], given.size), notes


def _parts(reader: _Reader, found: FoundFolders, given: ImageOptions, notes: list[str]) -> tuple[Files, Files, dict[str, Any]]:
    """(files to draw from, files to test on, how they were split). The same file is never on both sides."""
    if found.test.files:
        hashes = reader.refuse_the_same(found, given.allow_overlap, notes)
        return reader.of_one_class(found.train, hashes, notes), found.test, {"kind": "folders"}
    check_classes(found.train.labels, found.classes, f"target.root={reader.folder}")
    files = reader.merge(found.train, found.classes, notes)
    if given.labels_file is not None:
        notes.append("No test set: what is expected of new pictures was found by cross-validation on the labels.")
        return files, files.rows(np.empty(0, int)), {"kind": UNTESTED}
    train_rows, test_rows = hold_out(files.labels, given.test_size, given.split_seed)
    notes += what_the_split_did(files.labels, test_rows, found.classes)
    return files.rows(train_rows), files.rows(test_rows), {"kind": "stratified", "seed": given.split_seed}


@dataclass
class _Reader:
    """Reads files, and remembers those that cannot be read and what the readable ones show.

    one_white: of files of more than 8 bits, where there are such of one kind. pictures: hash of the pixels of each decoded
    file. left_out: training files whose picture is in the test, by test file.
    """

    folder: Path
    total: int
    bad: dict[Path, str] = field(default_factory=dict)
    white: White | None = None
    one_white: float | None = None
    pictures: dict[Path, str] = field(default_factory=dict)
    tested: dict[str, Path] = field(default_factory=dict)
    left_out: dict[Path, Path] = field(default_factory=dict)

    def facts(self, files: Sequence[Path]) -> dict[Path, Facts]:
        found, bad = read_each(read_facts, files, "looking at images")
        self._remember({files[i]: reason for i, reason in bad.items()}, len(files))
        return {file: facts for file, facts in zip(files, found, strict=True) if facts is not None}

    def set_white(self, facts: list[Facts], given: str | int | float) -> list[str]:
        """Decide what is white in files of more than 8 bits, with a note."""
        deep = [f for f in facts if f.peak is not None]
        number = given_white(given)
        self.white = white_of(facts) if number is None else White(number, number)
        self.one_white = one_white(facts, self.white)
        if not deep or number is not None:
            return []
        named = []
        for real, white in ((False, self.white.whole), (True, self.white.real)):
            peaks = [f.peak or 0.0 for f in deep if f.real == real]
            if peaks:
                kind = "floating-point grey" if real else "16-bit"
                named.append(f"{len(peaks)} {kind} images reach {max(peaks):.6g}, so white is {white:g}")
        further = "a program made of them reads further images so (target.white=)"
        if len(named) > 1:
            further = "target.white= would be one value for both kinds"
        return [f"{'; '.join(named)}; {further}."]

    def hashes(self, files: Files) -> list[str]:
        found, bad = read_each(file_hash, files.files, "comparing images")
        return [f"unreadable {i}" if i in bad else value for i, value in enumerate(found)]

    def merge(self, files: Files, classes: Sequence[str], notes: list[str]) -> Files:
        """Each file once; the same file in two classes is left out of both."""
        rows, repeated, conflicts = merged(self.hashes(files), files.labels)
        if repeated:
            one, many = "image file repeats an earlier one and was", "image files repeat an earlier one and were"
            notes.append(f"{counted(repeated, one, many)} merged with it.")
        notes += self._in_several(files, conflicts)
        return files.rows(rows)

    def of_one_class(self, files: Files, hashes: Sequence[str], notes: list[str]) -> Files:
        """The files but those that are in several classes."""
        _, _, conflicts = merged(hashes, files.labels)
        notes += self._in_several(files, conflicts)
        return files.rows(np.setdiff1d(np.arange(len(files.files)), [row for group in conflicts for row in group]))

    def _in_several(self, files: Files, conflicts: list[list[int]]) -> list[str]:
        if not conflicts:
            return []
        named = "; ".join(" and ".join(files.rows(np.array(group)).names(self.folder)[:3]) for group in conflicts[:3])
        return [f"{counted(len(conflicts), 'picture is', 'pictures are')} in several classes: all left out ({named})."]

    def refuse_the_same(self, found: FoundFolders, allowed: bool, notes: list[str]) -> list[str]:
        """Hashes of the training files. DataError where one of them is in the test folder."""
        hashes = self.hashes(found.train)
        ours = dict(zip(hashes, found.train.names(self.folder)))
        theirs = zip(self.hashes(found.test), found.test.names(self.folder))
        both = [(ours[value], name) for value, name in theirs if value in ours and not value.startswith("unreadable")]
        if both and not allowed:
            raise DataError(_in_both(len(both), *both[0]))
        if both:
            images = counted(len(both), "test image is also a training image", "test images are also training images")
            notes.append(f"{images}, as target.allow_overlap=true allows.")
        return hashes

    def decode(self, files: Files, shape: Shape, description: str, train: bool = False) -> tuple[Files, Examples]:
        """Readable files and their pixels, in memory where they fit there."""
        keep = len(files.files) * int(np.prod(shape)) <= IN_MEMORY

        def read(file: Path) -> Any:
            pixels = read_image(file, shape, self.white)
            self.pictures[file] = picture_hash(pixels)
            return pixels if keep else True

        pixels, bad = read_each(read, files.files, description)
        self._remember({files.files[i]: reason for i, reason in bad.items()}, len(files.files))
        good = np.array([i for i in range(len(files.files)) if i not in bad], dtype=int)
        files = files.rows(good)
        if not train:
            self.tested |= {self.pictures[file]: file for file in files.files}
        if not keep:
            return files, ImageFiles(files.files, files.labels, shape, self.white)
        stacked = np.stack([pixels[i] for i in good]) if len(good) else np.empty((0, *shape), np.uint8)
        return files, ArrayExamples(stacked, files.labels)

    def the_same(self, files: Files) -> dict[Path, Path]:
        """Decoded training files whose pixels are those of a test file, in other bytes."""
        hashes = {file: self.pictures[file] for file in files.files}
        return {file: self.tested[value] for file, value in hashes.items() if value in self.tested}

    def leaks(self, given: ImageOptions, folders: bool) -> list[str]:
        """A note on training pictures that are in the test too; DataError where the user made the two folders."""
        if not self.left_out:
            return []
        file, other = next(iter(sorted(self.left_out.items())))
        names = [below(path, self.folder) for path in (file, other)]
        count = len(self.left_out)
        if folders and not given.allow_overlap:
            raise DataError(_in_both(count, *names))
        done = "as target.allow_overlap=true allows" if folders else "not used for training"
        return [
            f"{count} training images have the same pixels as test images, such as {names[0]} and {names[1]}: {done}."
        ]

    def near(self, train: Files, learned: Examples, test: Files, tested: Examples) -> list[str]:
        """A note on pictures that look nearly the same on both sides."""
        if not isinstance(learned, ArrayExamples) or not isinstance(tested, ArrayExamples):
            return []
        pairs = [(a, b) for a, b in near_pairs(learned.images, tested.images) if train.files[a] not in self.left_out]
        if not pairs:
            return []
        named = "; ".join(f"{train.names(self.folder)[a]} and {test.names(self.folder)[b]}" for a, b in pairs[:3])
        count = len({b for _, b in pairs})
        images = counted(count, "test image looks", "test images look")
        return [f"{images} nearly the same as a training image: {named}. Measured figures may be too good."]

    def _remember(self, bad: dict[Path, str], looked_at: int) -> None:
        self.bad |= bad
        if too_many(len(bad), looked_at):
            raise DataError(
                f"{len(bad)} of {looked_at} images in {self.folder} cannot be read, more than {MOST_BAD:.0%}: "
                f"{self._named(bad)}."
            )

    def notes(self) -> list[str]:
        if not self.bad:
            return []
        were = "was" if len(self.bad) == 1 else "were"
        return [f"{len(self.bad)} of {counted(self.total, 'image')} cannot be read and {were} skipped: {self._named(self.bad)}."]

    def _named(self, bad: dict[Path, str], shown: int = 5) -> str:
        names = [f"{below(file, self.folder)} ({reason})" for file, reason in sorted(bad.items())]
        return "; ".join(names[:shown]) + (f"; and {len(names) - shown} more" if len(names) > shown else "")


def _in_both(count: int, train: str, test: str) -> str:
    pictures = counted(count, "picture is", "pictures are")
    return (
        f"{pictures} in both the training and the test folder, such as {train} and {test}; "
        "remove them, or give target.allow_overlap=true."
    )


def _draw_readable(
    reader: _Reader, files: Files, shape: Shape, given: ImageOptions, classes: tuple[str, ...]
) -> tuple[Files, Examples]:
    """Draw the few labels among files that can be decoded and are not tested on: others are left out, and drawn again."""
    shots = None if given.labels_file is not None else given.shots
    while True:
        chosen = files.rows(draw(files.labels, given.seed, shots, given.labels))
        readable, examples = reader.decode(chosen, shape, "reading training images", train=True)
        same = reader.the_same(readable)
        reader.left_out |= same
        if len(readable.files) == len(chosen.files) and (not same or given.allow_overlap):
            return readable, examples
        unusable = set(reader.bad) | (set() if given.allow_overlap else set(reader.left_out))
        files = files.rows(np.array([i for i, file in enumerate(files.files) if file not in unusable], dtype=int))
        if shots is None and given.labels is None:
            kept = np.array([i for i, file in enumerate(readable.files) if file not in unusable], dtype=int)
            return readable.rows(kept), examples.subset(kept)
        check_classes(files.labels, classes, f"target.root={reader.folder} without unreadable and tested images")


def _fewer(train: Files, given: ImageOptions, classes: tuple[str, ...]) -> list[str]:
    shots = given.shots if given.labels_file is None else None
    return fewer_than_asked(train.labels, shots, given.labels, classes)


def _absent(classes: Sequence[str], train: Files, test: Files) -> list[str]:
    """A class without examples keeps its column, and is told."""
    notes = []
    for files, which in ((train, "training"), (test, "test")):
        if not len(files.files):
            continue
        missing = [name for column, name in enumerate(classes) if column not in files.labels]
        if missing:
            notes.append(f"No {which} image of: {', '.join(missing[:10])}{' …' if len(missing) > 10 else ''}.")
    return notes
