"""The constraints of a design run as plain options: what ``constraints.*`` on the command line sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from molecules.constraints.alerts import Alerts
from molecules.constraints.base import Constraint, Constraints
from molecules.constraints.forbid import Forbid
from molecules.constraints.keep import Keep
from molecules.constraints.lipinski import Lipinski
from molecules.constraints.plausible import Plausible
from molecules.constraints.precedent import Precedent
from molecules.constraints.route import Routed
from molecules.constraints.scaffold import Scaffold
from molecules.constraints.similar import Similar
from molecules.constraints.unstable import Unstable
from molecules.constraints.window import Window
from molecules.routes.stock import Blocks
from reprogram import registry
from reprogram.errors import ConfigError
from reprogram.ranges import Amount, Checked, NotEmpty, Range, Share


@dataclass
class ConstraintConfig(Checked):
    """Each option adds one constraint; ``None``, ``False`` and empty lists add none.

    similarity: least Tanimoto similarity to the start molecule (to the nearest one where there are several).
    fingerprint: of the similarity. keep / forbid: SMARTS that must / must not occur.
    scaffold: SMILES that must stay; with ``*`` it may grow only there. alerts: PAINS, BRENK, NIH.
    lipinski: how many of the four rules may be broken. sa: SA-score ceiling (1 easy, 10 hard).
    mw: [low, high] in Da, either may be null. windows: any RDKit descriptor -> [low, high], likewise.
    plausible: nothing that cannot exist. unstable: no reactive or unstable groups.
    ring_precedent / environment_precedent: in how many of the table's molecules every ring system / every atom with its
    neighbours was seen at least; None requires nothing. route: a route of at most ``route_steps`` reactions from ``blocks``
    is found (True), or only looked for and shown ("show"). others: constraints of other packages by name, with their options.
    """

    group: ClassVar[str] = "constraints."

    similarity: Share | None = None
    fingerprint: str = "ecfp4"
    keep: NotEmpty | Sequence[NotEmpty] = ()
    forbid: NotEmpty | Sequence[NotEmpty] = ()
    scaffold: NotEmpty | None = None
    alerts: str | Sequence[str] = ()
    lipinski: Annotated[int, Range(0, 4)] | None = None
    sa: Annotated[float, Range(1, 10)] | None = None
    mw: Sequence[float | None] | None = None
    windows: Mapping[str, Any] = field(default_factory=dict)
    plausible: bool = False
    unstable: bool = False
    ring_precedent: Amount | None = None
    environment_precedent: Amount | None = None
    route: bool | Literal["show"] = False
    route_steps: Annotated[int, Range(1, 5)] = 3
    blocks: Blocks = field(default_factory=Blocks)
    others: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def constraints(self, starts: Sequence[str]) -> Constraints:
        """The constraints of a run from these start molecules; raises ConfigError where they contradict each other."""
        items: list[Constraint] = []
        if self.similarity is not None:
            items.append(Similar(list(starts), self.similarity, self.fingerprint))
        if self.scaffold:
            items.append(Scaffold(self.scaffold))
        if self.keep:
            items.append(Keep(_listed(self.keep)))
        if self.forbid:
            items.append(Forbid(_listed(self.forbid)))
        if self.alerts:
            items.append(Alerts(_listed(self.alerts)))
        if self.lipinski is not None:
            items.append(Lipinski(self.lipinski))
        items += self._windows()
        if self.plausible:
            items.append(Plausible())
        if self.unstable:
            items.append(Unstable())
        if self.ring_precedent or self.environment_precedent:
            items.append(Precedent(self.ring_precedent or 0, self.environment_precedent or 0))
        if self.route:
            items.append(Routed(self.blocks, self.route_steps, strict=self.route is True))
        return Constraints(items + [_other(name, options) for name, options in self.others.items()])

    def _windows(self) -> list[Constraint]:
        items: list[Constraint] = []
        for name in ("sa", "mw"):
            if name in self.windows and getattr(self, name) is not None:
                raise ConfigError(f"constraints.{name} and constraints.windows.{name} are both given; constraints.{name}=null.")
        if self.sa is not None:
            items.append(Window("sa", None, self.sa))
        if self.mw is not None:
            items.append(Window("mw", *_window("mw", self.mw)))
        return items + [Window(name, *_window(f"windows.{name}", ends)) for name, ends in self.windows.items()]


def _other(name: str, options: Mapping[str, Any]) -> Constraint:
    """A constraint by its name in the registry."""
    method = registry.find("molecules.constraints", name, Constraint)
    try:
        made: Constraint = method(**options)
    except TypeError as error:
        raise ConfigError(f"constraints.others.{name} does not take these options: {error}.") from error
    return made


def _listed(value: Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _window(key: str, ends: Any) -> tuple[float | None, float | None]:
    pair = isinstance(ends, Sequence) and not isinstance(ends, str) and len(ends) == 2
    if not pair or not all(end is None or (isinstance(end, int | float) and math.isfinite(end)) for end in ends):
        raise ConfigError(f"constraints.{key} is {ends!r}; it must be [low, high], either of which may be null.")
    return ends[0], ends[1]
