"""Image files as pixels: every mode right, EXIF orientation honoured, huge ones without filling the memory.

What usually goes wrong, and what is done here: 16-bit grey is scaled (PIL's own ``convert`` cuts it off at 255), by the
white that the whole set shows, for 12 bits in a 16-bit file would turn black, colours too; palettes are looked up;
transparent pixels lie on white; CMYK is converted; a photo taken sideways is turned upright.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from reprogram.errors import DataError
from reprogram.interfaces import Examples
from reprogram.progress import progress
from reprogram.targets import deep_colour
from reprogram.targets.image_formats import (
    LARGEST_PIXELS,
    SUFFIXES,
    ImageSource,
    dicom_header,
    is_dicom,
    open_picture,
    reason,
)

__all__ = [
    "SUFFIXES",
    "Header",
    "ImageFiles",
    "ImageSource",
    "Shape",
    "White",
    "common_shape",
    "read_header",
    "read_image",
]
GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
LARGE = 1 << 24  # pixels; larger images are decoded one at a time, so that readers side by side do not fill the memory
TURNED_BY_DECODER = ("HEIF",)  # its own rotation counts, and its EXIF does not (ISO/IEC 23008-12)
WHITES = (1, 255, 1023, 4095, 16383, 65535)  # what files of 1, 8, 10, 12, 14 and 16 bits have as white
KEPT_AS_IS = 256  # images that all have one size up to this side keep it; others become DEFAULT_SIDE
DEFAULT_SIDE = 224
LARGEST_FACTOR = 32  # PIL's reduce() rounds visibly beyond
IN_MEMORY = 512 << 20  # bytes of decoded images that are kept; more are decoded when they are needed
MOST_BAD = 0.05  # share of unreadable images that ends a run; a single one never does
READERS = min(4, os.cpu_count() or 1)

# Large photos are welcome, and damage is told in our notes; catch_warnings() is not for threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_ALONE = threading.Lock()


class Shape(NamedTuple):
    """What every image of a target becomes."""

    channels: int
    height: int
    width: int


class Header(NamedTuple):
    """What a file says before it is decoded; the sides are those of the upright image."""

    grey: bool
    height: int
    width: int


class White(NamedTuple):
    """The value that is white in images of more than 8 bits: of whole numbers, and of floating-point ones."""

    whole: float = 65535.0
    real: float | None = None  # None: 1.0, 255.0 or 65535.0, as each image asks for


class Facts(NamedTuple):
    """What is known of a file before it is used: its header; the largest value beyond 8 bits, and whether it is a
    floating-point one; whether it has several frames."""

    header: Header
    peak: float | None = None
    real: bool = False
    frames: bool = False


def read_header(source: ImageSource) -> Header:
    """Raises DataError where the file is no image, or claims more pixels than anybody's image has."""
    if is_dicom(source):
        grey, height, width, _ = dicom_header(source)
        return _bounded(Header(grey, height, width))
    with open_picture(source) as image:
        return _header(image)


def read_facts(source: ImageSource) -> Facts:
    """The header and more; only images of more than 8 bits are decoded for it."""
    if is_dicom(source):
        return Facts(read_header(source), frames=dicom_header(source)[3] > 1)
    with open_picture(source) as image:
        header, frames = _header(image), bool(getattr(image, "is_animated", False))
        coloured = deep_colour.is_deep_colour(image)
        if not _is_deep(image) and not coloured:
            return Facts(header, frames=frames)
        try:
            with _alone(header):
                if coloured:
                    return Facts(header, deep_colour.peak(deep_colour.colour_values(source), image.mode), frames=frames)
                return Facts(header, float(np.nanmax(np.asarray(image))), image.mode == "F", frames)
        except Exception as error:  # as in read_image
            raise DataError(reason(error)) from error


def white_of(facts: Sequence[Facts]) -> White:
    """The white of a set of images: the least one of :data:`WHITES` that no image goes beyond."""
    whites: list[float | None] = [None, None]
    for real in (False, True):
        peaks = [f.peak for f in facts if f.peak is not None and f.real == real]
        if peaks:
            whites[real] = float(next((white for white in WHITES if white >= max(peaks)), WHITES[-1]))
    return White(65535.0 if whites[0] is None else whites[0], whites[1])


def one_white(facts: Sequence[Facts], white: White) -> float | None:
    """What a program keeps of ``white``; None where no image has more than 8 bits, or two kinds of them have."""
    deep = [found for found in facts if found.peak is not None]
    if len({found.real for found in deep}) != 1:
        return None
    return white.real if deep[0].real else white.whole


def read_image(source: ImageSource, shape: Shape, white: White | None = None) -> np.ndarray:
    """uint8 [C, H, W]: upright, in 8 bits, scaled over ``shape`` and cut to it in the middle. DataError if unreadable."""
    header = read_header(source)
    with _alone(header), open_picture(source) as image:
        try:
            if image.format == "JPEG":  # decodes at a half, quarter, eighth where that is enough
                side = max(shape.height, shape.width)
                image.draft(None, (side, side))
            if white is not None and white.whole < deep_colour.FULL and deep_colour.is_deep_colour(image):
                image = deep_colour.eight_bits(source, image, white.whole)
            decoded = _reduced(image, shape, white or White())
            upright = decoded if image.format in TURNED_BY_DECODER else ImageOps.exif_transpose(decoded)
            pixels = _eight_bits(upright, shape.channels, white or White())
            if pixels.size != (shape.width, shape.height):
                pixels = ImageOps.fit(pixels, (shape.width, shape.height), method=Image.Resampling.BILINEAR)
        except DataError:
            raise
        except Exception as error:  # PIL raises OSError, SyntaxError, ValueError, struct.error, … on damaged files
            raise DataError(reason(error)) from error
    array = np.asarray(pixels, dtype=np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _alone(header: Header) -> AbstractContextManager[Any]:
    return _ALONE if header.height * header.width > LARGE else nullcontext()


def _header(image: Image.Image) -> Header:
    width, height = image.size
    _bounded(Header(True, height, width))
    if _turned(image):
        width, height = height, width
    return Header(image.mode in GREY_MODES, height, width)


def _bounded(header: Header) -> Header:
    if header.width * header.height > LARGEST_PIXELS:
        raise DataError(f"it claims {header.width} x {header.height} pixels, more than {LARGEST_PIXELS:,}")
    return header


def common_shape(headers: Sequence[Header], size: int | None) -> Shape:
    """The shape that images become: grey if all are; their own size if it is one and small, else a square."""
    channels = 1 if all(header.grey for header in headers) else 3
    sizes = {(header.height, header.width) for header in headers}
    if size is None and len(sizes) == 1 and max(min(sizes)) <= KEPT_AS_IS:
        return Shape(channels, *sizes.pop())
    return Shape(channels, size or DEFAULT_SIDE, size or DEFAULT_SIDE)


@dataclass
class ImageFiles(Examples):
    """Images that are decoded when they are needed. ``files``: paths or encoded bytes; ``labels`` [N]."""

    files: Sequence[ImageSource]
    labels: np.ndarray
    shape: Shape
    white: White | None = None

    def batch(self, rows: Sequence[int] | np.ndarray) -> Tensor:
        pixels = [read_image(self.files[int(row)], self.shape, self.white) for row in rows]
        return torch.from_numpy(np.stack(pixels)).float() / 255.0

    def subset(self, rows: Sequence[int] | np.ndarray) -> ImageFiles:
        rows = np.asarray(rows, dtype=int)
        return ImageFiles([self.files[int(row)] for row in rows], self.labels[rows], self.shape, self.white)


def read_each(
    function: Callable[[Any], Any], items: Sequence[Any], description: str
) -> tuple[list[Any], dict[int, str]]:
    """``function`` of every item, in threads, with progress: (results, {position: reason} of what DataError refused)."""
    bad: dict[int, str] = {}

    def attempt(position: int) -> Any:
        try:
            return function(items[position])
        except DataError as error:
            bad[position] = str(error)
            return None

    results = []
    with ThreadPoolExecutor(READERS) as pool, progress(description, len(items)) as bar:
        for result in pool.map(attempt, range(len(items))):
            results.append(result)
            bar.advance()
    return results, bad


def too_many(bad: int, of: int) -> bool:
    return bad > max(1, MOST_BAD * of)


def _turned(image: Image.Image) -> bool:
    """Does EXIF turn it by 90 degrees? Asked only where a header has EXIF: PNG would be decoded for the answer."""
    if image.format in TURNED_BY_DECODER:
        return False
    if "exif" not in image.info and image.format != "TIFF":
        return False
    try:
        return image.getexif().get(0x0112, 1) >= 5
    except Exception as error:  # as in read_image
        raise DataError(reason(error)) from error


def _reduced(image: Image.Image, shape: Shape, white: White) -> Image.Image:
    """A giant image averaged by a whole factor, still at least twice as large as needed: saves memory, not quality."""
    factor = min(min(image.size) // (2 * max(shape.height, shape.width)), LARGEST_FACTOR)
    if factor < 2:
        return image
    exif = image.getexif()
    if _is_deep(image):
        image = _scaled_grey(image, white)
    elif image.mode in ("1", "P", "PA"):
        image = image.convert("L" if image.mode == "1" else "RGBA" if _see_through(image) else "RGB")
    if image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK") or "transparency" in image.info:
        return image
    reduced = image.reduce(factor)
    reduced.getexif().update(exif)  # the orientation is read from here
    return reduced


def _is_deep(image: Image.Image) -> bool:
    """Grey of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _see_through(image: Image.Image) -> bool:
    return image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info


def _eight_bits(image: Image.Image, channels: int, white: White) -> Image.Image:
    """``L`` or ``RGB``, whatever the mode was."""
    if _is_deep(image):
        image = _scaled_grey(image, white)
    if _see_through(image):
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("L" if channels == 1 else "RGB")


def _scaled_grey(image: Image.Image, white: White) -> Image.Image:
    """16-bit, 32-bit and floating-point grey to 8 bits: ``white`` and what is beyond it becomes 255."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high) or low < 0 or high > 65535:
        raise DataError(f"its grey values run from {low:.4g} to {high:.4g}; allowed: 0 to 65535, or 0.0 to 1.0")
    if image.mode == "F":
        top = white.real or (1.0 if high <= 1.0 else 255.0 if high <= 255.0 else 65535.0)
    else:
        top = white.whole
    scaled = values.astype(np.float32)
    scaled *= 255.0 / top
    return Image.fromarray(np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled).astype(np.uint8))
