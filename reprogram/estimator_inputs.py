"""What users hand to ``fit`` and ``predict``, read in one place so that both accept the same things.

A column of a table, a Series, a list, a tuple or an array of objects is a list of *items*, read one by one: an item that
cannot be read keeps its place and has a reason. An array of numbers is images (three or four axes) or a table (two axes).
One item that is not in a list is refused, as scikit-learn refuses one row: nobody can tell "CCO" from three strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from reprogram.errors import DataError
from reprogram.interfaces import InputTransformation
from reprogram.pixels import resize
from reprogram.targets.arrays import as_images
from reprogram.targets.images import Header, Shape, White, common_shape, read_header, read_image


@dataclass
class GivenInputs:
    """X by its form. ``form``: ``items`` (a list), ``images`` (an array [N, …]) or ``table`` (rows of numbers)."""

    form: str
    values: Any

    def __len__(self) -> int:
        shape = getattr(self.values, "shape", None)
        if shape is not None and len(shape):
            return int(shape[0])
        return len(self.values) if hasattr(self.values, "__len__") else len(np.asarray(self.values))


@dataclass
class ReadInputs:
    """inputs: of the rows that could be read: images [n, C, H, W] or strings. rows: int [n], their places among the
    ``size`` that were given. problems: {place: reason} of the others."""

    inputs: Any
    rows: np.ndarray
    size: int
    problems: dict[int, str] = field(default_factory=dict)


def given(X: Any, colour: bool = False) -> GivenInputs:
    """Which form X has. Raises DataError for one item that is not in a list.

    colour: the program was fitted on colour images, so that [3, H, W] may be one of them.
    """
    _refuse_one(X)
    if _is_frame(X):
        return _frame(X)
    if (hasattr(X, "to_list") and not hasattr(X, "shape")) or type(X).__name__ == "Series":
        return _items(X.to_list()) if not _is_numeric(X) else GivenInputs("table", X)
    if isinstance(X, list | tuple):
        return _list(list(X), colour)
    if isinstance(X, torch.Tensor):
        X = _numpy(X)
    if isinstance(X, np.ndarray) and X.dtype.kind in "OUS" and X.ndim > 0:
        return _object_array(X)
    if getattr(X, "ndim", 2) in (3, 4) and isinstance(X, np.ndarray):
        return _images(X, colour)
    return GivenInputs("table", X)


def _refuse_one(X: Any) -> None:
    if isinstance(X, str | bytes | Path) or _is_picture(X) or _is_object(X):
        what = "one string" if isinstance(X, str | bytes) else f"one {type(X).__name__}"
        raise DataError(f"X is {what}; give a list with one item for each example, such as [{_short(X)}]")


def _frame(X: Any) -> GivenInputs:
    """A column of strings, paths, pictures or other objects; or a table of numbers, which scikit-learn checks."""
    columns = list(X.columns)
    numeric = [_is_numeric(X[name]) for name in columns]
    if len(columns) == 1 and not numeric[0]:
        return _items(X[columns[0]].to_list())
    return GivenInputs("table", X)


def _list(items: list[Any], colour: bool) -> GivenInputs:
    if not items:
        return GivenInputs("items", items)
    items = [_numpy(item) if isinstance(item, torch.Tensor) else item for item in items]
    if all(_is_array(item) for item in items):
        shapes = {np.shape(item) for item in items}
        if len(shapes) == 1 and len(next(iter(shapes))) < 2:
            return GivenInputs("table", items)
        if len(shapes) == 1:
            return _images(np.stack([np.asarray(item) for item in items]), colour=False)
        return _items(items)
    if any(map(_is_item, items)) or all(item is None for item in items):
        return _items(items)
    if np.ndim(items[0]) in (2, 3) and isinstance(items[0], list | tuple):
        return _images(np.asarray(items), colour)
    return GivenInputs("table", items)


def _numpy(X: torch.Tensor) -> np.ndarray:
    """The same numbers; bfloat16, which numpy has not, as float32."""
    X = X.detach().cpu()
    return np.asarray((X.float() if X.dtype == torch.bfloat16 else X).numpy())


def _object_array(X: np.ndarray) -> GivenInputs:
    """Strings or objects: [N], or [N, 1] as a ColumnTransformer gives them."""
    if X.ndim == 2 and X.shape[1] == 1:
        X = X[:, 0]
    if X.ndim == 1 and (any(map(_is_item, X)) or all(x is None for x in X)):
        return _items(list(X))
    return GivenInputs("table", X)


def _items(items: list[Any]) -> GivenInputs:
    return GivenInputs("items", items)


def _images(X: np.ndarray, colour: bool) -> GivenInputs:
    if X.ndim == 3 and min(X.shape) > 0:
        if X.shape[-1] in (3, 4) and X.shape[0] not in (3, 4) and min(X.shape[:2]) > 4:
            raise DataError(
                f"X is one image, [H, W, C] = {list(X.shape)}; give [X] for one image, or an array [N, H, W, C]"
            )
        if colour and X.shape[0] == 3:
            raise DataError(
                f"X of shape {list(X.shape)} may be one colour image or three grey ones; give X[None] or X[:, None]"
            )
    return GivenInputs("images", X)


def _is_frame(X: Any) -> bool:
    return hasattr(X, "columns") and hasattr(X, "shape") and hasattr(X, "__getitem__")


def _is_numeric(column: Any) -> bool:
    kind = getattr(getattr(column, "dtype", None), "kind", None)
    if kind is not None:
        return kind in "biufc"
    is_numeric = getattr(getattr(column, "dtype", None), "is_numeric", None)
    return bool(is_numeric()) if is_numeric is not None else False


def _is_item(item: Any) -> bool:
    return isinstance(item, str | bytes | Path) or _is_picture(item) or _is_object(item) or _is_array(item)


def _is_picture(item: Any) -> bool:
    return isinstance(item, Image.Image)


def _is_object(item: Any) -> bool:
    """Neither a number nor a container: something that only an input transformation can read."""
    number = item is None or isinstance(item, Number | np.generic)
    return not number and not any(hasattr(item, name) for name in ("__len__", "__array__", "__iter__"))


def _is_array(item: Any) -> bool:
    return isinstance(item, np.ndarray | torch.Tensor) and item.ndim > 0


def _short(X: Any) -> str:
    text = repr(X) if isinstance(X, str | bytes) else "X"
    return text if len(text) <= 40 else text[:37] + "…"


def read_strings(x: GivenInputs, input: InputTransformation) -> ReadInputs:
    """Strings as ``input`` reads them, which may take other objects for them. Raises DataError where X has another form."""
    if x.form == "images" or (x.form == "table" and len(x)):
        shape = np.shape(x.values) if not _is_frame(x.values) else x.values.shape
        raise DataError(f"The source reads strings, but X has numbers, of shape {list(shape)}; give a list of strings")
    return _each(list(x.values), input.read, None)


def read_images(x: GivenInputs, shape: Sequence[int] | None, white: float | None = None) -> ReadInputs:
    """Images of one shape [n, C, H, W]: ``shape``, or what suits all where it is None (fitting). white: of files of more than
    8 bits.

    Pictures are read upright, scaled and cut in the middle; arrays may be [H, W], [H, W, C] or [C, H, W].
    """
    if x.form == "images":
        images = as_images(x.values)
        wanted = None if shape is None else Shape(*shape)
        if wanted is not None and images.shape[1:] != tuple(wanted):
            images = np.stack([_shaped(image, wanted) for image in images]) if len(images) else images
        return ReadInputs(images, np.arange(len(images)), len(images))
    items = list(x.values)
    if shape is not None:
        wanted = Shape(*shape)
    else:
        headers = [h for h in (_header(item) for item in items) if h is not None]
        wanted = common_shape(headers, None) if headers else Shape(1, 1, 1)
    return _each(items, lambda item: _image(item, wanted, white), wanted)


def _each(items: list[Any], read: Any, shape: Shape | None) -> ReadInputs:
    good, rows, problems = [], [], {}
    for place, item in enumerate(items):
        try:
            good.append(read(item))
            rows.append(place)
        except DataError as error:
            problems[place] = str(error).rstrip(".")
    inputs: Any = good
    if shape is not None:
        floats = any(image.dtype != np.uint8 for image in good)
        inputs = np.zeros((0, *shape), np.uint8) if not good else np.stack([_floats(i) if floats else i for i in good])
    return ReadInputs(inputs, np.array(rows, dtype=int), len(items), problems)


def _header(item: Any) -> Header | None:
    """None for an item that cannot be read; its reason is found when it is read."""
    try:
        if _is_array(item):
            channels, height, width = as_images(np.asarray(item)[None]).shape[1:]
            return Header(channels == 1, height, width)
        return read_header(_file(item))
    except DataError:
        return None


def _image(item: Any, shape: Shape, white: float | None) -> np.ndarray:
    if _is_array(item):
        return _shaped(as_images(np.asarray(item)[None])[0], shape)
    file = _file(item)
    try:
        return read_image(file, shape, None if white is None else White(white, white))
    except DataError as error:
        name = "a PIL image" if _is_picture(file) else "bytes" if isinstance(file, bytes) else str(file)
        raise DataError(f"{name} cannot be read: {error}") from error


def _file(item: Any) -> Any:
    if isinstance(item, str | bytes | Path) or _is_picture(item):
        return item
    raise DataError(f"it is no image, but {_named(item)}")


def _named(item: Any) -> str:
    return repr(item) if item is None or isinstance(item, float | int) else f"of type {type(item).__name__}"


def _floats(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) / 255.0 if image.dtype == np.uint8 else image


def _shaped(image: np.ndarray, shape: Shape) -> np.ndarray:
    """[C, H, W] as :func:`read_image` would give it: cut to the shape's proportions in the middle, scaled over it."""
    if image.shape == tuple(shape):
        return image
    if image.dtype == np.uint8:
        picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
        return read_image(picture, shape)
    channels, height, width = image.shape
    share = min(height / shape.height, width / shape.width)
    tall, wide = max(1, round(shape.height * share)), max(1, round(shape.width * share))
    top, left = (height - tall) // 2, (width - wide) // 2
    part = torch.from_numpy(np.ascontiguousarray(image[None, :, top : top + tall, left : left + wide])).float()
    part = resize(part, (shape.height, shape.width))
    if channels != shape.channels:
        part = part.expand(-1, 3, -1, -1) if channels == 1 else part.mean(1, keepdim=True)
    return part[0].clamp(0.0, 1.0).contiguous().numpy()
