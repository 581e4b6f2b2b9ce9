"""The same picture twice: merged before a split, found between training and test.

Files with the same bytes are found among all; pictures with the same pixels, however they are encoded, among those that are
decoded: what is learned from and what is tested. Pictures that look nearly the same are named, and left to the user.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np

from reprogram.errors import DataError
from reprogram.interfaces import Examples
from reprogram.targets.base import ArrayExamples, StringExamples

MOST_PAIRS = 200_000_000  # pairs of pictures that are compared for likeness
NEAR_BITS = 4  # of 64: difference hashes that are looked at more closely
NEAR_PIXELS = 6.0  # of 255, root mean square: a picture saved once more as a JPEG
LOOKED_AT_MOST = 20_000  # pairs of like hashes that are compared pixel by pixel


def file_hash(path: Path) -> str:
    """Of the bytes. Raises DataError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()
    except OSError as error:
        raise DataError(f"it cannot be read: {error.strerror}") from error


def picture_hash(pixels: np.ndarray) -> str:
    """Of the pixels uint8 [C, H, W] in the shape that a target gives all its images."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16).hexdigest()


def difference_hash(pixels: np.ndarray) -> int:
    """64 bits: is each of 8 x 8 places brighter than its right neighbour? (dHash, Krawetz 2013). pixels: [C, H, W]."""
    from PIL import Image

    grey = Image.fromarray(np.rint(pixels.mean(0)).astype(np.uint8))
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), dtype=int)
    bits = (small[:, :-1] > small[:, 1:]).flatten()
    return int(np.packbits(bits).view(">u8")[0])


def contents(examples: Examples) -> list[Hashable]:
    """What tells examples apart: the string, or a hash of the pixels."""
    if isinstance(examples, StringExamples):
        return list(examples.strings)
    if isinstance(examples, ArrayExamples):
        return [picture_hash(image) for image in examples.images]
    return list(range(len(examples)))


def not_tested(train: Sequence[Hashable], test: Sequence[Hashable]) -> np.ndarray:
    """Bool [N]: training examples that are not in the test."""
    tested = set(test)
    return np.array([key not in tested for key in train], dtype=bool)


def merged(hashes: Sequence[str], labels: np.ndarray) -> tuple[np.ndarray, int, list[list[int]]]:
    """(rows that stay, how many were merged, groups whose labels disagree and which are left out)."""
    places: dict[str, list[int]] = {}
    for row, value in enumerate(hashes):
        places.setdefault(value, []).append(row)
    agree = [rows for rows in places.values() if len(set(labels[rows].tolist())) == 1]
    conflicts = [rows for rows in places.values() if len(set(labels[rows].tolist())) > 1]
    return np.array(sorted(rows[0] for rows in agree), dtype=int), sum(len(rows) - 1 for rows in agree), conflicts


def near_pairs(first: np.ndarray, second: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (row of ``first``, row of ``second``) of uint8 [N, C, H, W] that look the same: one saved anew, say.

    Empty where there are more than :data:`MOST_PAIRS` pairs.
    """
    if not len(first) or not len(second) or len(first) * len(second) > MOST_PAIRS:
        return []
    ours, theirs = (np.array([difference_hash(p) for p in part], dtype=np.uint64) for part in (first, second))
    found: list[tuple[int, int]] = []
    looked = 0
    for row, value in enumerate(ours):
        for other in np.flatnonzero(_bits(theirs ^ value) <= NEAR_BITS):
            looked += 1
            apart = first[row].astype(np.float32) - second[other]
            if np.sqrt(np.mean(apart**2)) <= NEAR_PIXELS and first[row].std() > NEAR_PIXELS:
                found.append((row, int(other)))
        if looked > LOOKED_AT_MOST:
            break
    return found


def _bits(values: np.ndarray) -> np.ndarray:
    """Ones in each of uint64 [N]."""
    return np.unpackbits(values.view(np.uint8).reshape(len(values), 8), axis=1).sum(1)
