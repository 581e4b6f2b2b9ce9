"""Image files as pixels: every mode right, EXIF orientation honoured, huge ones without filling the memory.

What usually goes wrong, and what is done here: 16-bit grey is scaled (PIL's own ``convert`` cuts it off at 255);
palettes are looked up; transparent pixels lie on white; CMYK is converted; a photo taken sideways is turned upright.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from reprogram.errors import DataError
from reprogram.interfaces import Examples
from reprogram.progress import progress

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
LARGEST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)  # of one image; more is a decompression bomb
KEPT_AS_IS = 256  # images that all have one size up to this side keep it; others become DEFAULT_SIDE
DEFAULT_SIDE = 224
LARGEST_FACTOR = 32  # PIL's reduce() rounds visibly beyond
IN_MEMORY = 512 << 20  # bytes of decoded images that are kept; more are decoded when they are needed
MOST_BAD = 0.05  # share of unreadable images that ends a run; a single one never does
READERS = min(4, os.cpu_count() or 1)

# Large photos are welcome, and damage is told in our notes; catch_warnings() is not for threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

ImageSource = Path | str | bytes | Image.Image


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


def read_header(source: ImageSource) -> Header:
    """Raises DataError where the file is no image, or claims more pixels than anybody's image has."""
    with _opened(source) as image:
        width, height = image.size
        if width * height > LARGEST_PIXELS:
            raise DataError(f"it claims {width} x {height} pixels, more than {LARGEST_PIXELS:,}")
        if _turned(image):
            width, height = height, width
        return Header(image.mode in GREY_MODES, height, width)


def read_image(source: ImageSource, shape: Shape) -> np.ndarray:
    """uint8 [C, H, W]: upright, in 8 bits, scaled over ``shape`` and cut to it in the middle. DataError if unreadable."""
    read_header(source)
    with _opened(source) as image:
        try:
            if image.format == "JPEG":  # decodes at a half, quarter, eighth where that is enough
                side = max(shape.height, shape.width)
                image.draft(None, (side, side))
            pixels = _eight_bits(ImageOps.exif_transpose(_reduced(image, shape)), shape.channels)
            if pixels.size != (shape.width, shape.height):
                pixels = ImageOps.fit(pixels, (shape.width, shape.height), method=Image.Resampling.BILINEAR)
        except DataError:
            raise
        except Exception as error:  # PIL raises OSError, SyntaxError, ValueError, struct.error, … on damaged files
            raise DataError(_reason(error)) from error
    array = np.asarray(pixels, dtype=np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


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

    def batch(self, rows: Sequence[int] | np.ndarray) -> Tensor:
        return (
            torch.from_numpy(np.stack([read_image(self.files[int(row)], self.shape) for row in rows])).float() / 255.0
        )

    def subset(self, rows: Sequence[int] | np.ndarray) -> ImageFiles:
        rows = np.asarray(rows, dtype=int)
        return ImageFiles([self.files[int(row)] for row in rows], self.labels[rows], self.shape)


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


def _opened(source: ImageSource) -> Image.Image:
    if isinstance(source, Image.Image):
        return source.copy()
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except Image.DecompressionBombError as error:
        raise DataError(f"it claims more pixels than {LARGEST_PIXELS:,}") from error
    except Exception as error:  # as above
        raise DataError(_reason(error)) from error


def _turned(image: Image.Image) -> bool:
    """Does EXIF turn it by 90 degrees? Asked only where a header has EXIF: PNG would be decoded for the answer."""
    if "exif" not in image.info and image.format != "TIFF":
        return False
    try:
        return image.getexif().get(0x0112, 1) >= 5
    except Exception as error:  # as in read_image
        raise DataError(_reason(error)) from error


def _reduced(image: Image.Image, shape: Shape) -> Image.Image:
    """A giant image averaged by a whole factor, still at least twice as large as needed: saves memory, not quality."""
    factor = min(min(image.size) // (2 * max(shape.height, shape.width)), LARGEST_FACTOR)
    if factor < 2 or image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        return image
    reduced = image.reduce(factor)
    reduced.getexif().update(image.getexif())  # the orientation is read from here
    return reduced


def _eight_bits(image: Image.Image, channels: int) -> Image.Image:
    """``L`` or ``RGB``, whatever the mode was."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _scaled_grey(image)
    if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("L" if channels == 1 else "RGB")


def _scaled_grey(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and floating-point grey to 8 bits: 65535, 255.0 or 1.0 becomes white."""
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high) or low < 0 or high > 65535:
        raise DataError(f"its grey values run from {low:.4g} to {high:.4g}; allowed: 0 to 65535, or 0.0 to 1.0")
    if image.mode == "F":
        white = 1.0 if high <= 1.0 else 255.0 if high <= 255.0 else 65535.0
    else:
        white = 65535.0
    return Image.fromarray(np.rint(values * (255.0 / white)).astype(np.uint8))


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is not an image"
    return " ".join(str(error).split())[:120] or type(error).__name__
