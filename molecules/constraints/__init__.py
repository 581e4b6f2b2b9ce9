"""What every feasible molecule must satisfy: one file a constraint."""

from molecules.constraints.alerts import Alerts
from molecules.constraints.base import Constraint, Constraints
from molecules.constraints.forbid import Forbid
from molecules.constraints.keep import Keep
from molecules.constraints.lipinski import Lipinski
from molecules.constraints.plausible import Plausible
from molecules.constraints.precedent import Precedent
from molecules.constraints.scaffold import Scaffold
from molecules.constraints.similar import Similar
from molecules.constraints.unstable import Unstable
from molecules.constraints.window import Window

__all__ = [
    "Alerts",
    "Constraint",
    "Constraints",
    "Forbid",
    "Keep",
    "Lipinski",
    "Plausible",
    "Precedent",
    "Scaffold",
    "Similar",
    "Unstable",
    "Window",
]
