"""Your own signals: ``.ts`` files, arrays in ``.npz``, tables with a row a signal or a row a value, arrays in Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reprogram.errors import DataError
from reprogram.targets._signal_files import Columns, read_signals, trimmed
from reprogram.targets._signal_inputs import SignalInputs
from reprogram.targets._signals import SeriesTask, Signals, SplitOptions, make_task
from reprogram.targets.options import takes


@dataclass(frozen=True, kw_only=True)
class SeriesOptions(SplitOptions):
    """What a user can say about files of signals, beside how they are split.

    test_path: a file of its own for testing. label_column: of the class or the value, in tables.
    id_column: of a table with a row a value, names the signal; without it a row is a signal. time_column, value_columns,
        channel_column: of such a table; several value columns are channels.
    groups: a column of a table whose values are never on both sides of a split; of an .npz file the name ``groups``.
    problem: auto reads labels that are numbers with decimals as values. rate: samples a second, for mel spectrograms.
    """

    test_path: str | None = None
    label_column: str | None = None
    id_column: str | None = None
    time_column: str | None = None
    value_columns: tuple[str, ...] = ()
    channel_column: str | None = None

    def columns(self) -> Columns:
        """Which columns of a table mean what."""
        return Columns(
            label=self.label_column,
            id=self.id_column,
            time=self.time_column,
            values=tuple(self.value_columns),
            channel=self.channel_column,
            group=self.groups,
        )


@takes(SeriesOptions)
def series(path: str, **options: Any) -> SeriesTask:
    """A target of signals from a file; see :class:`SeriesOptions`."""
    given = SeriesOptions(**options)
    found = read_signals(path, given.columns())
    test = None if given.test_path is None else read_signals(given.test_path, given.columns(), "target.test_path")
    if found.groups is not None and test is not None:
        both = sorted(set(found.groups) & set(test.groups or ()))
        if both:
            raise DataError(f"The group '{both[0]}' of target.groups={given.groups} is in both files; one of them must go.")
    where = Path(path).stem if given.name is None else given.name
    return make_task(found, test, given, where)


def _inputs(path: str, rate: float | None = None, **options: Any) -> SignalInputs:
    """The signals of a file without their labels; options on labels and splits are ignored."""
    names = ("id_column", "time_column", "value_columns", "channel_column", "label_column", "groups")
    columns = SeriesOptions(**{name: options[name] for name in names if name in options}).columns()
    return SignalInputs(Path(path).expanduser(), lambda: read_signals(path, columns, labelled=False), rate)


series.inputs = _inputs  # type: ignore[attr-defined]


def from_signals(
    signals: Sequence[Any] | np.ndarray,
    labels: Sequence[Any] | np.ndarray,
    test: tuple[Any, Any] | None = None,
    groups: Sequence[Any] | None = None,
    **options: Any,
) -> SeriesTask:
    """A target from arrays: signals [N, C, L] or [N, L], or a list of [C, l] or [l]; NaN is a missing value.

    labels [N]: classes of any type, or values. test: (signals, labels). groups [N]: never on both sides of a split. options:
    of :class:`~reprogram.targets._signals.SplitOptions`. Raises ConfigError or DataError.
    """
    given = SplitOptions(**options) if groups is None else SplitOptions(groups="groups", **options)
    found = _from_python(signals, labels, groups)
    return make_task(found, None if test is None else _from_python(*test, None), given, given.name or "arrays")


def _from_python(signals: Any, labels: Any, groups: Sequence[Any] | None) -> Signals:
    if len(signals) != len(labels) or (groups is not None and len(groups) != len(labels)):
        raise DataError(f"There are {len(signals)} signals but {len(labels)} labels or groups.")
    found = []
    for row, signal in enumerate(signals):
        array = np.asarray(signal, dtype=np.float32)
        if array.ndim not in (1, 2) or not np.isfinite(array).any():
            raise DataError(f"Signal {row} must be [C, L] or [L] with at least one value; its shape is {array.shape}.")
        found.append(trimmed(array.reshape(-1, array.shape[-1])))
    missing = next((row for row, label in enumerate(labels) if label is None or label != label), None)
    if missing is not None:
        raise DataError(f"Signal {missing} has no label; leave out signals without one.")
    texts = [str(label) for label in np.asarray(labels).tolist()]
    return Signals(found, list(texts), list(range(len(found))), None if groups is None else [str(g) for g in groups])
