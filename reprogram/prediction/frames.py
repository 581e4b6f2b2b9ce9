"""A user's table or list in, answers in the same places out: what ``predict_table`` and ``errors="nan"`` do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reprogram.errors import ConfigError, DataError, nearest
from reprogram.estimator_inputs import ReadInputs, given, read_images, read_strings
from reprogram.interfaces import Examples
from reprogram.modalities import modality
from reprogram.prediction.answers import AT_ONCE, answers, read
from reprogram.prediction.stream import names_beside

if TYPE_CHECKING:
    from reprogram.model import ReprogrammedModel

CHUNK = 512  # rows answered at a time
OURS = "program:"  # before the name of a column that the user's table has already


def predict_table(model: ReprogrammedModel, frame: Any, column: str | None = None, confidence: float = 0.9) -> Any:
    """See :meth:`reprogram.model.ReprogrammedModel.predict_table`."""
    items = list(frame[column_of(frame, column)])
    found = read_items(model, items)
    return with_columns(frame, in_chunks(model, found, confidence))


def in_chunks(model: ReprogrammedModel, found: ReadInputs, confidence: float) -> dict[str, list[Any]]:
    """Columns of all rows, asked for a chunk at a time."""
    if isinstance(confidence, str | bool) or not 0 < confidence <= 1:
        raise ConfigError(f"confidence={confidence!r} must be a number above 0 and at most 1, such as 0.9.")
    at = {int(row): place for place, row in enumerate(found.rows)}
    cells: dict[str, list[Any]] = {}
    for start in range(0, max(found.size, 1), CHUNK):
        rows = range(start, min(start + CHUNK, found.size))
        contents = [found.inputs[at[row]] if row in at else None for row in rows]
        problems = [found.problems.get(row, "") for row in rows]
        for name, values in answers(model, contents, problems, confidence).items():
            cells.setdefault(name, []).extend(values)
    return cells


def read_items(model: ReprogrammedModel, items: Any) -> ReadInputs:
    """Strings, paths, pictures, arrays or other objects as the program reads them; what cannot be read has its reason."""
    x = given(items)
    if modality(model.source.spec.kind).batch == "strings" or model.target.input_shape is None:
        found = read_strings(x, model.input)
        blank = [place for place, text in enumerate(found.inputs) if isinstance(text, str) and not text.strip()]
        for place in blank:
            found.problems[int(found.rows[place])] = "it is empty"
        kept = [place for place in range(len(found.inputs)) if place not in set(blank)]
        return ReadInputs([found.inputs[place] for place in kept], found.rows[kept], found.size, found.problems)
    return read_images(x, model.target.input_shape, model.target.white)


def forgiving(model: ReprogrammedModel, items: Any, errors: str, batch_size: int = AT_ONCE) -> np.ndarray:
    """[N, T] probabilities or values; rows of NaN where an item cannot be read or has no finite answer."""
    if errors != "nan":
        raise DataError(f"errors='{errors}' is not known; allowed: raise, nan.")
    if isinstance(items, Examples):
        raise DataError("errors='nan' reads lists and arrays; give those instead of examples.")
    found = read_items(model, items)
    scores = np.full((found.size, len(model.target.classes)), np.nan, np.float32)
    if len(found.rows):
        scores[found.rows] = read(model, found.inputs, compare=False, batch_size=batch_size).scores
    return scores


def with_columns(frame: Any, cells: dict[str, list[Any]]) -> Any:
    """A copy of the frame with these columns behind its own, which keep their names."""
    taken = set(map(str, frame.columns))
    shown = names_beside(list(cells), sorted(taken), OURS)
    cells = dict(zip(shown, cells.values(), strict=True))
    if hasattr(frame, "assign"):  # pandas
        import pandas

        return pandas.concat([frame, pandas.DataFrame(cells, index=frame.index)], axis=1)
    import polars

    return frame.with_columns([polars.Series(name, values, strict=False) for name, values in cells.items()])


def column_of(frame: Any, column: str | None) -> str:
    """The column of the inputs. Raises DataError where it is not there, or where several can be meant."""
    if not hasattr(frame, "columns"):
        raise DataError(f"predict_table reads a pandas or polars frame, not {type(frame).__name__}.")
    names: Sequence[str] = list(frame.columns)
    if column is not None:
        if column not in names:
            raise DataError(f"column={column}: the frame has no such column; {nearest(column, names)}.")
        if names.count(column) > 1:
            raise DataError(f"column={column}: the frame has {names.count(column)} columns of this name; rename all but one.")
        return column
    if len(names) == 1:
        return names[0]
    texts = [name for name in names if names.count(name) > 1 or not _is_number(frame[name])]
    if len(texts) != 1:
        raise DataError(f"Which column holds the inputs? Give column=NAME, one of: {', '.join(map(str, texts or names))}.")
    return texts[0]


def _is_number(column: Any) -> bool:
    kind = getattr(column.dtype, "kind", None)
    return kind in tuple("biufcmM") if kind is not None else bool(column.dtype.is_numeric())
