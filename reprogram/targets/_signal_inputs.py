"""Signals without labels, as a stream: every one keeps its place, also one that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from reprogram.errors import DataError
from reprogram.interfaces import TargetInfo
from reprogram.targets._signals import Signals
from reprogram.targets._sound_files import read_header, read_sound, sounds_below
from reprogram.targets.unlabelled import Input


@dataclass
class SignalInputs:
    """The signals of one file. read: what is in it. shape: (channels, samples a second, samples of the longest so far)."""

    path: Path
    read: Callable[[], Signals]
    rate: float | None = None
    shape: Any = None
    kind: str = "series"
    columns: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    a_file_each: ClassVar[bool] = False

    @property
    def root(self) -> Path:
        """The file."""
        return self.path

    def files(self) -> Iterator[Path]:
        """The file alone."""
        yield self.path

    def suit(self, target: TargetInfo) -> None:
        """Signals of other channels than the program's are told row by row."""
        self.shape = target.input_shape

    def __iter__(self) -> Iterator[Input]:
        found = self.read()
        self.notes[:] = found.notes
        wanted = found.signals[0].shape[0] if self.shape is None and found.signals else None
        wanted = self.shape[0] if wanted is None and self.shape is not None else wanted
        longest = max((signal.shape[1] for signal in found.signals), default=1)
        if self.shape is None:
            self.shape = (wanted, max(1, round(self.rate or found.rate or 1)), longest)
        for row, signal in zip(found.rows, found.signals, strict=True):
            yield _input(row, signal, wanted)


@dataclass
class SoundInputs:
    """Sounds below a folder, flat or nested; the rows are their paths below it, in order.

    rate: samples a second that they become; None: the program's own, else that of the first file.
    """

    root: Path
    rate: int | None = None
    mono: bool = True
    shape: Any = None
    kind: str = "series"
    columns: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    a_file_each: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise DataError(f"target.root={self.root} is no folder.")
        if next(self.files(), None) is None:
            raise DataError(f"target.root={self.root} holds no sounds, such as .wav files.")

    def files(self) -> Iterator[Path]:
        """In the order of their paths."""
        return sounds_below(self.root)

    def suit(self, target: TargetInfo) -> None:
        """Sounds get the rate of those that the program was made from, and their channels."""
        if target.input_shape is not None:
            self.shape, self.rate = target.input_shape, int(target.input_shape[1])
            self.mono = self.shape[0] == 1

    def __iter__(self) -> Iterator[Input]:
        rate, wanted, longest = self.rate, None if self.shape is None else self.shape[0], 1
        for file in self.files():
            row = file.relative_to(self.root).as_posix()
            try:
                rate = rate or min(read_header(file)[0], 16_000)
                sound = read_sound(file, rate, self.mono)
            except DataError as error:
                yield Input(row, None, str(error), {})
                continue
            wanted, longest = wanted or sound.shape[0], max(longest, sound.shape[1])
            yield _input(row, sound, wanted)
        if self.shape is None:
            self.shape = (wanted or 1, rate or 1, longest)


def _input(row: Any, signal: np.ndarray, channels: int | None) -> Input:
    if not np.isfinite(signal).any():
        return Input(row, None, "has no value that is a number", {})
    if channels is not None and signal.shape[0] != channels:
        return Input(row, None, f"has {signal.shape[0]} channels, not {channels}", {})
    return Input(row, signal, "", {})
