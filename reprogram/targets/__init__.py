"""Labelled data of a new job: where it comes from, how few labels are drawn, how the test set is held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprogram.interfaces import TargetTask


def load_target(name: str, /, **options: Any) -> TargetTask:
    """A target by its name in ``conf/target``, with options as there: ``load_target("digits", shots=8, seed=1)``.

    Arrays become a target through :func:`reprogram.targets.arrays.from_arrays`. Raises ConfigError or DataError.
    """
    from reprogram.configuration import load

    return load("target", name, **options)
