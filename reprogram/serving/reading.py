"""One tensor of a request as inputs of a program: bounded, validated, every input in its place with its reason if it is bad.

Nothing that a stranger sends is trusted: not the shape beside the data, not the size a picture claims, not that numbers are
numbers. A mistake of the tensor as a whole is a :class:`RefusedRequest`; a bad input in it is a problem of that input.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from reprogram.errors import DataError, ReprogramError
from reprogram.estimator_inputs import GivenInputs, read_images
from reprogram.modalities import modality
from reprogram.serving.wishes import Limits, RefusedRequest
from reprogram.targets._sound_files import read_sound
from reprogram.targets.images import Shape, White, read_header, read_image

if TYPE_CHECKING:
    from reprogram.model import ReprogrammedModel

NUMBERS = {"FP16": 1.0, "FP32": 1.0, "FP64": 1.0, "UINT8": 255.0}  # datatype -> what white is
WAV = b"RIFF"
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
SLACK = 1e-6  # rounding beyond [0, 1] that is put back


@dataclass
class ReadTensor:
    """contents: float32 pixels [C, H, W], signals [C, L] or strings; None where ``problems`` has a reason."""

    contents: list[Any] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, content: Any, problem: str = "") -> None:
        """One more input."""
        self.contents.append(None if problem else content)
        self.problems.append(problem.rstrip("."))

    def __len__(self) -> int:
        return len(self.problems)

    @property
    def good(self) -> list[int]:
        """Places of the inputs that could be read."""
        return [place for place, problem in enumerate(self.problems) if not problem]


@dataclass
class TensorReader:
    """Reads tensors for one program. name: of the input, as the metadata gives it."""

    model: ReprogrammedModel
    limits: Limits

    @property
    def name(self) -> str:
        """The kind of input, which is what the metadata calls it."""
        return self.model.target.kind

    @property
    def images(self) -> bool:
        """Does the program read pixels?"""
        return modality(self.model.target.kind).pixels

    @property
    def strings(self) -> bool:
        """Does the program read strings?"""
        return modality(self.model.target.kind).batch == "strings"

    def read(self, tensor: Any, strict: bool = False) -> ReadTensor:
        """tensor: ``name``, ``datatype``, ``shape``, ``data`` and ``content_type`` of the protocol. Raises RefusedRequest."""
        shape = _shape(tensor.shape, self.limits)
        if tensor.datatype == "BYTES":
            items = _flat(tensor.data, shape)
            reads = self._picture if self.images else self._string if self.strings else self._sound
            found = ReadTensor()
            for item in items:
                try:
                    found.add(reads(item, tensor.content_type, strict))
                except ReprogramError as error:
                    found.add(None, str(error))
            return found
        if self.strings or tensor.datatype not in NUMBERS:
            allowed = ["BYTES", *(() if self.strings else NUMBERS)]
            raise RefusedRequest(f"The input '{self.name}' is {', '.join(allowed)}, not {str(tensor.datatype)[:20]}.")
        values = _numbers(tensor.data, shape)
        return self._pixels(values, NUMBERS[tensor.datatype], strict) if self.images else self._signals(values, strict)

    def _signals(self, values: np.ndarray, strict: bool) -> ReadTensor:
        """[N, C, L] of any numbers; NaN (null) where a value is missing."""
        channels, _, samples = self._shape()
        if values.ndim != 3 or values.shape[1] != channels or values.shape[2] * channels > self.limits.pixels:
            raise RefusedRequest(f"Signals as numbers have the shape ['N', {channels}, samples], not {list(values.shape)}.")
        found = ReadTensor()
        for signal in values:
            if np.isinf(signal).any() or not np.isfinite(signal).any():
                found.add(None, "it has an infinite value, or none at all")
            elif strict and signal.shape[1] > samples:
                found.add(None, f"it has {signal.shape[1]:,} samples, more than {samples:,}")
            else:
                found.add(signal)
        return found

    def _sound(self, item: Any, content_type: str | None, strict: bool) -> np.ndarray:
        """A WAV file, as bytes or in base64."""
        channels, rate, _ = self._shape()
        data = self._file(item, content_type, (WAV,))
        if rate <= 1:
            raise DataError("this program reads signals as numbers, not sounds")
        if not data.startswith(WAV) or data[8:12] != b"WAVE":
            raise DataError("it is no WAV file")
        sound = read_sound(data, rate, mono=channels == 1)
        if sound.shape[0] != channels:
            raise DataError(f"it has {sound.shape[0]} channels, not {channels}")
        return sound

    def _pixels(self, values: np.ndarray, white: float, strict: bool) -> ReadTensor:
        """[N, C, H, W] of any numbers."""
        wanted, found = self._wanted(), ReadTensor()
        if values.ndim != 4:
            raise RefusedRequest(f"Images as numbers have the shape {['N', *wanted]}, not {list(values.shape)}.")
        if values.shape[2] * values.shape[3] > self.limits.pixels:
            raise RefusedRequest(f"An image has {values.shape[2]} x {values.shape[3]} pixels; at most {self.limits.pixels:,}.")
        for image in values:
            if not image.size:
                found.add(None, "it has no pixels")
            elif not np.isfinite(image).all():
                found.add(None, "it has a value that is no finite number")
            elif image.min() < -SLACK or image.max() > white + SLACK:
                found.add(None, f"its values run from {image.min():.4g} to {image.max():.4g}; allowed: 0 to {white:g}")
            elif strict and image.shape != wanted:
                found.add(None, f"it has the shape {list(image.shape)}, not {list(wanted)}")
            else:
                found.add(*self._fitted(np.clip(image / np.float32(white), 0, 1), wanted))
        return found

    def _fitted(self, image: np.ndarray, wanted: Shape) -> tuple[Any, str]:
        if image.shape == wanted:
            return image, ""
        if image.shape[0] not in (1, 3):
            return None, f"it has {image.shape[0]} channels; allowed: 1 or 3, then height and width"
        try:
            read = read_images(GivenInputs("images", image[None]), wanted).inputs[0]
        except DataError as error:
            return None, str(error)
        return np.ascontiguousarray(read, np.float32), ""

    def _picture(self, item: Any, content_type: str | None, strict: bool) -> np.ndarray:
        """An encoded PNG or JPEG file, as bytes or in base64."""
        data, wanted = self._file(item, content_type, (PNG, JPEG)), self._wanted()
        if not data.startswith((PNG, JPEG)):
            raise DataError("it is neither a PNG nor a JPEG file")
        header = read_header(data)
        if header.width * header.height > self.limits.pixels:
            raise DataError(f"it claims {header.width} x {header.height} pixels; at most {self.limits.pixels:,} are read")
        if strict and (header.height, header.width) != wanted[1:]:
            raise DataError(f"it has {header.height} x {header.width} pixels, not {wanted.height} x {wanted.width}")
        white = self.model.target.white
        return read_image(data, wanted, None if white is None else White(white, white)).astype(np.float32) / np.float32(255)

    def _file(self, item: Any, content_type: str | None, marks: tuple[bytes, ...]) -> bytes:
        """The bytes of an item that is a file with one of these beginnings, or such a file in base64."""
        if isinstance(item, bytes) and item.startswith(marks):
            data = item
        elif isinstance(item, str | bytes):
            if len(item) > 4 * (self.limits.bytes // 3 + 2):
                raise DataError(f"it has more than {self.limits.bytes:,} bytes")
            try:
                data = base64.b64decode(item, validate=True)
            except (binascii.Error, ValueError) as error:
                wanted = "no WAV file" if WAV in marks else "neither a PNG nor a JPEG file"
                raise DataError(f"it is {'not base64' if isinstance(item, str) else wanted}") from error
        else:
            raise DataError(f"it is no file, but {_named(item)}")
        if len(data) > self.limits.bytes:
            raise DataError(f"it has {len(data):,} bytes; at most {self.limits.bytes:,} are read")
        return data

    def _string(self, item: Any, content_type: str | None, strict: bool) -> str:
        if isinstance(item, bytes):
            if content_type == "base64":
                try:
                    item = base64.b64decode(item, validate=True)
                except (binascii.Error, ValueError) as error:
                    raise DataError("it is not base64") from error
            try:
                item = item.decode()
            except UnicodeDecodeError as error:
                raise DataError("it is not UTF-8 text") from error
        if not isinstance(item, str):
            raise DataError(f"it is no string, but {_named(item)}")
        kind = modality(self.model.target.kind)
        most = min(self.limits.characters, kind.longest) if strict else self.limits.characters
        if len(item) > most:
            raise DataError(f"it has {len(item):,} characters; at most {most:,} are read")
        if not item.strip():
            raise DataError("it is empty")
        if strict and any(ord(letter) < 32 and letter not in "\t\n\r" for letter in item):
            raise DataError("it has control characters")
        return str(self.model.input.read(item))

    def _wanted(self) -> Shape:
        return Shape(*self._shape())

    def _shape(self) -> tuple[int, ...]:
        """Of what the program reads: pixels, or (channels, samples a second, samples) of a signal."""
        assert self.model.target.input_shape is not None
        return self.model.target.input_shape


def _shape(shape: Any, limits: Limits) -> list[int]:
    """What the tensor claims, in bounds."""
    if not isinstance(shape, list | tuple) or not 1 <= len(shape) <= 8:
        raise RefusedRequest("The shape of the input must be a list of 1 to 8 numbers.")
    if not all(type(side) is int and 0 <= side < 2**40 for side in shape):
        raise RefusedRequest("The shape of the input must have whole numbers from 0 on.")
    if shape[0] > limits.items:
        raise RefusedRequest(f"A request may have {limits.items:,} inputs, not {shape[0]:,}.", 413)
    return list(shape)


def _flat(data: Any, shape: Sequence[int]) -> list[Any]:
    """The items of a BYTES tensor: one an input."""
    items = data if isinstance(data, list) else [data]
    while len(items) == shape[0] and items and all(isinstance(i, list) and len(i) == 1 for i in items):
        items = [item[0] for item in items]
    count = int(np.prod([float(side) for side in shape]))
    if len(items) != count or count != shape[0]:
        raise RefusedRequest(f"The input has the shape {list(shape)} but {len(items):,} items of data; send one for each input.")
    return items


def _numbers(data: Any, shape: Sequence[int]) -> np.ndarray:
    """float32 of the shape that is claimed."""
    try:
        values = np.asarray(data)
        if values.dtype.kind == "O":  # null among numbers
            values = values.astype(np.float32)
        if values.dtype.kind not in "biuf":
            raise ValueError
        with np.errstate(over="ignore"):
            values = values.astype(np.float32, copy=False)
    except (ValueError, TypeError, OverflowError) as error:
        raise RefusedRequest("The data of the input is not a list of numbers.") from error
    if values.size != np.prod([float(side) for side in shape]):
        raise RefusedRequest(f"The input has the shape {list(shape)}, but {values.size:,} values of data.")
    return values.reshape(shape)


def _named(item: Any) -> str:
    return "null" if item is None else f"of type {type(item).__name__}"
