"""What a check declares, so that the plan of a run follows from its configuration.

A new check is a file here and a file in ``conf/check/``; a new attack is a file in ``robustness/attacks/`` and a file in
``conf/check/`` that names it. ``robustness.also=[NAME]`` runs it beside those of a depth.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar, Final, Literal, TypeVar

from reprogram.errors import ConfigError
from reprogram.ranges import Count
from reprogram.robustness.findings import Outcome
from reprogram.threat import Threat

A = TypeVar("A")

ALL: Final = "all"
FEW: Final = "few"
Examples = Count | Literal["all", "few"]


@dataclass(frozen=True)
class Scope:
    """What one run of a check is about. threat: None for a check that has none. threats: eps of every norm."""

    name: str
    count: int
    threats: dict[str, float]
    threat: Threat | None = None

    @property
    def main(self) -> Threat:
        """The threat that the check is run for, or else the first of all."""
        return self.threat or Threat(*next(iter(self.threats.items())))


@dataclass
class Check(ABC):
    """One question about a model.

    examples: how many test examples it looks at: ``all`` (those of the depth for the first norm, the few for others),
    ``few``, or a number.

    kind: of its rows. norms: it runs once for each threat of these; empty: once. access: what it needs of the model:
    ``white_box`` (gradients), ``score``, ``label`` or ``none``.
    """

    examples: Examples = ALL

    kind: ClassVar[str] = "attack"
    norms: ClassVar[tuple[str, ...]] = ()
    access: ClassVar[str] = "score"

    @property
    def takes(self) -> tuple[str, ...]:
        """What it would use beside the model: ``train``, ``source``."""
        return ()

    def __post_init__(self) -> None:
        if not (self.examples in (ALL, FEW) or (isinstance(self.examples, int) and self.examples > 0)):
            raise ConfigError(f"examples={self.examples} of a check is not possible; allowed: all, few or a number.")

    def suits(self, changes: str) -> bool:
        """Is it for inputs of which an attack changes this (:class:`~reprogram.modalities.Modality`)?"""
        return changes == "pixels"

    def fits(self, model: Any, norm: str | None = None) -> bool:
        """Can this model be checked, in this norm?"""
        return self.access != "white_box" or model.differentiable

    @abstractmethod
    def run(self, model: Any, scope: Scope) -> Outcome:
        """Look. ``model``: :class:`~reprogram.robustness.evaluated_model.EvaluatedModel` (of strings:
        :class:`~reprogram.robustness.text_attacks.base.EvaluatedStrings`)."""

    def config(self) -> dict[str, Any]:
        """The settings as JSON values, for the result and for recognising finished checks."""
        return {f.name: _told(getattr(self, f.name)) for f in fields(self)}


def class_of(attack: Callable[..., A] | None, kind: type[A], example: str) -> type[A]:
    """The class behind a check's ``attack=``: a class, or one with options (``_partial_: true``). Raises ConfigError."""
    found = getattr(attack, "func", attack)
    if not (isinstance(found, type) and issubclass(found, kind)):
        shown = f"a {type(found).__name__}" if isinstance(found, kind) else attack
        raise ConfigError(
            f"attack={shown} of a check is not an attack: it needs the class under _target_, such as {example}, "
            "and _partial_: true."
        )
    return found


def at_least(minimum: float, **options: float) -> None:
    """Raises ConfigError for an option of a check below its minimum."""
    for name, value in options.items():
        if not value >= minimum:
            raise ConfigError(f"{name}={value} must be at least {minimum:g}.")


def _told(value: Any) -> Any:
    if isinstance(value, partial):
        return {"name": value.func.__name__} | {k: _told(v) for k, v in value.keywords.items()}
    if isinstance(value, tuple | list):
        return [_told(v) for v in value]
    return value
