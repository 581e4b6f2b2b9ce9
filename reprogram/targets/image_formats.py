"""Opening picture files of any kind as PIL images: what Pillow reads, HEIC photos, DICOM pictures of scanners.

DICOM: rescale slope and intercept, then the window that the file asks for (else its own range of values), MONOCHROME1 turned
over, colours to RGB, the middle one of several frames. Nothing else of a DICOM file is read or kept.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reprogram.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
HEIC, DICOM = (".heic", ".heif"), (".dcm", ".dicom")
LARGEST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)  # of one image; more is a decompression bomb
_NOT_HERE = "needs the package {}: pip install 'reprogram[images]'"

ImageSource = Path | str | bytes | Image.Image


def readable_suffixes() -> tuple[str, ...]:
    """Endings that are read here; HEIC and DICOM where their packages are installed."""
    return SUFFIXES + (HEIC if _heif() else ()) + (DICOM if _pydicom() is not None else ())


def needs(suffix: str) -> str:
    """What reading files with this ending takes, or an empty text."""
    if suffix in HEIC and not _heif():
        return _NOT_HERE.format("pillow-heif")
    return _NOT_HERE.format("pydicom") if suffix in DICOM and _pydicom() is None else ""


def open_picture(source: ImageSource) -> Image.Image:
    """Not decoded yet, except for DICOM. Raises DataError where it cannot be opened."""
    if isinstance(source, Image.Image):
        return source.copy()
    try:
        start = _start(source, 132)
        if _says_dicom(source, start):
            return _dicom_picture(source)
        if start[4:8] == b"ftyp" and not _heif():
            raise DataError(f"it {_NOT_HERE.format('pillow-heif')}")
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"it claims more pixels than {LARGEST_PIXELS:,}") from error
    except Exception as error:  # PIL raises OSError, SyntaxError, ValueError, struct.error, … on damaged files
        raise DataError(reason(error)) from error


def is_dicom(source: ImageSource) -> bool:
    """By its mark, or by its ending: old files have no mark."""
    if isinstance(source, Image.Image):
        return False
    return _says_dicom(source, _start(source, 132))


def _says_dicom(source: Path | str | bytes, start: bytes) -> bool:
    return start[128:] == b"DICM" or (not isinstance(source, bytes) and str(source).lower().endswith(DICOM))


def dicom_header(source: ImageSource) -> tuple[bool, int, int, int]:
    """(grey, height, width, frames) of a DICOM file, without its pixels."""
    data = _dicom(source, pixels=False)
    try:
        frames = int(data.get("NumberOfFrames", 1) or 1)
        return int(data.get("SamplesPerPixel", 1)) == 1, int(data.Rows), int(data.Columns), frames
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError("it is a DICOM file without a picture") from error


def reason(error: Exception) -> str:
    """Why a picture cannot be read, as the end of a sentence."""
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is not an image"
    return " ".join(str(error).split())[:120] or type(error).__name__


def _start(source: ImageSource, count: int) -> bytes:
    if isinstance(source, bytes):
        return source[:count]
    path = Path(str(source))
    if not path.is_file():
        raise DataError("it does not exist" if not path.exists() else "it is no regular file")
    with path.open("rb") as file:
        return file.read(count)


def _dicom(source: ImageSource, pixels: bool) -> Any:
    pydicom = _pydicom()
    if pydicom is None:
        raise DataError(f"it {_NOT_HERE.format('pydicom')}")
    try:
        file: Any = io.BytesIO(source) if isinstance(source, bytes) else source
        return pydicom.dcmread(file, force=True, stop_before_pixels=not pixels)
    except Exception as error:  # pydicom's own errors are many
        raise DataError(reason(error)) from error


def _dicom_picture(source: ImageSource) -> Image.Image:
    """``L`` or ``RGB`` in 8 bits: what a viewer shows."""
    grey, height, width, frames = dicom_header(source)
    if height * width > LARGEST_PIXELS:
        raise DataError(f"it claims {width} x {height} pixels, more than {LARGEST_PIXELS:,}")
    data = _dicom(source, pixels=True)
    try:
        from pydicom.pixels import pixel_array

        if "TransferSyntaxUID" not in data.file_meta:
            data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"  # the default of old files
        values = pixel_array(data, index=frames // 2) if frames > 1 else pixel_array(data)
        if not grey:
            return Image.fromarray(_eight_bits(values, data), "RGB")
        return Image.fromarray(_windowed(values, data))
    except Exception as error:
        raise DataError(reason(error)) from error


def _windowed(values: np.ndarray, data: Any) -> np.ndarray:
    """uint8 [H, W]: rescaled, inside the window of the file or its own range, turned over for MONOCHROME1."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    shown = np.asarray(apply_modality_lut(values, data), dtype=np.float64)
    if "WindowWidth" in data or "VOILUTSequence" in data:
        centre, width = _first(data.get("WindowCenter")), _first(data.get("WindowWidth"))
        if "VOILUTSequence" in data or centre is None or width is None:
            shown = np.asarray(apply_voi_lut(apply_modality_lut(values, data), data), dtype=np.float64)
            low, high = float(shown.min()), float(shown.max())
        else:
            low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2  # PS3.3 C.11.2.1.2
    else:
        low, high = float(shown.min()), float(shown.max())
    grey = np.clip((shown - low) / max(high - low, 1e-12), 0, 1)
    if str(data.get("PhotometricInterpretation", "")) == "MONOCHROME1":
        grey = 1 - grey
    return np.rint(grey * 255).astype(np.uint8)


def _eight_bits(values: np.ndarray, data: Any) -> np.ndarray:
    bits = int(data.get("BitsStored", 8))
    return values.astype(np.uint8) if bits <= 8 else (values >> (bits - 8)).astype(np.uint8)


def _first(value: Any) -> float | None:
    """The first of several windows."""
    try:
        return float(value[0] if isinstance(value, list | tuple) or hasattr(value, "__iter__") else value)
    except (TypeError, ValueError, IndexError):
        return None


@cache
def _heif() -> bool:
    """Is pillow-heif here? Pillow opens HEIC files from then on."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


@cache
def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError:
        return None
    return pydicom
