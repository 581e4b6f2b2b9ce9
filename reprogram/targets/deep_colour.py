"""Colour pictures of more than 8 bits a channel (PNG, TIFF): Pillow keeps the upper byte of each value, and 12 bits in a
16-bit file are black then. Read a second time with the bytes swapped, the same decoder gives the lower byte.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from reprogram.targets.image_formats import ImageSource, open_picture

MODES = ("RGB", "RGBA", "LA")
FULL = 65535.0  # white: the upper bytes alone are right
_SWAPPED = {"B": "L", "L": "B", "N": "B"}  # the last letter of a raw mode; N on a little-endian machine, as all of ours


def is_deep_colour(image: Image.Image) -> bool:
    """Has this picture, not decoded yet, 16 bits a channel?"""
    return image.mode in MODES and bool(_raw_modes(image))


def colour_values(source: ImageSource) -> np.ndarray:
    """uint16 [H, W, C] of a picture of which :func:`is_deep_colour` is true. PIL's errors for a damaged one."""
    with open_picture(source) as image:
        upper = np.asarray(image)
    with open_picture(source) as image:
        image.tile = [tile._replace(args=_swapped(tile.args)) for tile in image.tile]  # type: ignore[attr-defined]
        lower = np.asarray(image)
    return upper.astype(np.uint16) << 8 | lower


def peak(values: np.ndarray, mode: str) -> float:
    """The largest value of any colour; opacity is none."""
    return float(values[..., : -1 if mode in ("RGBA", "LA") else None].max())


def eight_bits(source: ImageSource, image: Image.Image, white: float) -> Image.Image:
    """The picture with ``white`` as 255, opacity as it is; its EXIF stays."""
    values = colour_values(source)
    top = np.full(values.shape[-1], white, np.float32)
    if image.mode in ("RGBA", "LA"):
        top[-1] = FULL
    scaled = np.clip(np.rint(values * (255.0 / top)), 0, 255).astype(np.uint8)
    made = Image.fromarray(scaled, image.mode)
    made.getexif().update(image.getexif())
    return made


def _raw_modes(image: Image.Image) -> list[str]:
    found = [_raw_mode(tile.args) for tile in getattr(image, "tile", [])]
    return found if all(mode[:-1] == f"{image.mode};16" for mode in found) else []


def _raw_mode(args: Any) -> str:
    """The layout of a decoder's pixels, such as ``RGB;16B``."""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _swapped(args: Any) -> Any:
    """A decoder's arguments with the bytes of each value in the other order."""
    mode = _raw_mode(args)
    other = mode[:-1] + _SWAPPED[mode[-1]]
    return (other, *args[1:]) if isinstance(args, tuple) else other
