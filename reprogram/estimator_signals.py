"""Signals that users hand to ``fit`` and ``predict``: arrays [N, L] or [N, C, L], or lists of [l] or [C, l] of any lengths."""

from __future__ import annotations

from typing import Any

import numpy as np

from reprogram.errors import DataError
from reprogram.estimator_inputs import GivenInputs, ReadInputs
from reprogram.interfaces import Examples
from reprogram.modalities._signals import pad
from reprogram.targets._signals import SignalExamples


def given_signals(X: Any) -> GivenInputs:
    """One item a signal. Raises DataError for one signal that is not in a list."""
    if hasattr(X, "columns"):
        X = X.to_numpy()
    items = list(X)
    if items and np.ndim(items[0]) == 0:
        raise DataError("X is one signal; give a list with one signal for each example, such as [X]")
    return GivenInputs("signals", items)


def read_signals(x: GivenInputs, shape: tuple[int, ...] | None) -> ReadInputs:
    """Signals [C, l], NaN where a value is missing; shorter ones than those of the fit end in NaN.

    shape: (channels, samples a second, samples) of the fit; None while fitting, which takes the channels of most.
    """
    found, problems = {}, {}
    for place, item in enumerate(x.values):
        try:
            found[place] = _signal(item)
        except DataError as error:
            problems[place] = str(error)
    counts = [len(signal) for signal in found.values()]
    channels = shape[0] if shape is not None else max(set(counts), key=counts.count) if counts else 0
    for place in [place for place, signal in found.items() if len(signal) != channels]:
        problems[place] = f"it has {len(found.pop(place))} channels, others have {channels}"
    length = shape[2] if shape is not None else 1
    return ReadInputs([pad([s], length)[0] for s in found.values()], np.array(list(found), int), len(x), problems)


def signal_examples(signals: list[np.ndarray], labels: np.ndarray) -> Examples:
    """Signals of any lengths with their labels [N]."""
    return SignalExamples(signals, labels, max((signal.shape[1] for signal in signals), default=1))


def _signal(item: Any) -> np.ndarray:
    try:
        signal = np.asarray(item, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError("it is no signal: give numbers [L], or [C, L] for several channels") from error
    if signal.ndim not in (1, 2) or not signal.size:
        raise DataError(f"it is no signal [L] or [C, L], but of shape {list(signal.shape)}")
    if np.isinf(signal).any() or np.isnan(signal).all():
        raise DataError("it has an infinite value, or none at all")
    return np.atleast_2d(signal)
