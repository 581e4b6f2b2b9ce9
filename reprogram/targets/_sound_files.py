"""Sound files: WAV, FLAC, OGG and what else libsndfile reads, of any rate and any number of channels, as one rate."""

from __future__ import annotations

import io
from collections.abc import Iterator
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from reprogram.errors import ConfigError, DataError

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64")
LONGEST = 600.0  # seconds; a longer file is refused
MOST_CHANNELS = 32


def soundfile() -> Any:
    """The package, or ConfigError that says how to install it."""
    try:
        import soundfile
    except ImportError as error:
        raise ConfigError("target=audio_folder needs the package soundfile: pip install 'reprogram[series]'.") from error
    return soundfile


def read_header(file: Path | bytes) -> tuple[int, int]:
    """(samples a second, channels) of a file or its content. DataError where the file is no sound, or too long to be kept."""
    try:
        found = soundfile().info(_opened(file))
    except RuntimeError as error:  # soundfile.LibsndfileError, and what a damaged file makes the library say
        raise DataError(f"it is no sound that can be read: {_short(error)}") from error
    if not 1 <= found.channels <= MOST_CHANNELS or found.samplerate < 1 or found.frames < 1:
        raise DataError("it holds no samples" if found.frames < 1 else f"it has {found.channels} channels")
    if found.frames > LONGEST * found.samplerate:
        raise DataError(f"it lasts {found.frames / found.samplerate:.0f} s, more than {LONGEST:.0f} s: cut it")
    return int(found.samplerate), int(found.channels)


def read_sound(file: Path | bytes, rate: int, mono: bool) -> np.ndarray:
    """float32 [C, L] at ``rate`` samples a second; mono: the mean of the channels. DataError where it cannot be read."""
    own, _ = read_header(file)
    try:
        samples, _ = soundfile().read(_opened(file), dtype="float32", always_2d=True)
    except RuntimeError as error:
        raise DataError(f"it cannot be decoded: {_short(error)}") from error
    sound = samples.mean(1, keepdims=True).T if mono else samples.T
    if not sound.shape[1] or not np.isfinite(sound).all():
        raise DataError("it holds no samples, or some that are NaN or infinite")
    return np.ascontiguousarray(at_rate(sound, own, rate), dtype=np.float32)


def at_rate(sound: np.ndarray, own: int, rate: int) -> np.ndarray:
    """[C, L] resampled by a polyphase filter, so that nothing above half the new rate is folded down."""
    if own == rate:
        return sound
    from scipy.signal import resample_poly

    common = gcd(own, rate)
    return resample_poly(sound, rate // common, own // common, axis=1)


def sounds_below(folder: Path) -> Iterator[Path]:
    """Sound files at any depth, in the order of their paths; links to folders are not followed."""
    folders = [folder]
    while folders:
        inside = sorted(p for p in folders.pop().iterdir() if not p.name.startswith("."))
        yield from (p for p in inside if p.is_file() and p.suffix.lower() in SUFFIXES)
        folders += reversed([p for p in inside if p.is_dir() and not p.is_symlink()])


def _opened(file: Path | bytes) -> Any:
    return io.BytesIO(file) if isinstance(file, bytes) else str(file)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[-120:].rstrip(".")
