"""Design molecules under constraints, with a fixed budget of oracle calls: ``molecules.design("qed", starts, budget=500)``.

``import molecules`` stays light: RDKit and torch are imported by the parts that use them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprogram.exports import exported

if TYPE_CHECKING:
    from molecules.campaign.campaign import Campaign
    from molecules.constraints.base import Constraint, Constraints
    from molecules.constraints.config import ConstraintConfig
    from molecules.evaluator import Evaluator
    from molecules.from_python import design, load_objective, load_oracle, load_search
    from molecules.objective import Objective, Scored, Term
    from molecules.oracles.base import Answer, MoleculeOracle, Oracle
    from molecules.routes.route import Route, parse_route, replay
    from molecules.routes.stock import Blocks
    from molecules.run_search import Found
    from molecules.search.base import Search

_PUBLIC = {
    "Answer": "molecules.oracles.base",
    "Blocks": "molecules.routes.stock",
    "Campaign": "molecules.campaign.campaign",
    "Constraint": "molecules.constraints.base",
    "ConstraintConfig": "molecules.constraints.config",
    "Constraints": "molecules.constraints.base",
    "Evaluator": "molecules.evaluator",
    "Found": "molecules.run_search",
    "MoleculeOracle": "molecules.oracles.base",
    "Objective": "molecules.objective",
    "Oracle": "molecules.oracles.base",
    "Route": "molecules.routes.route",
    "Scored": "molecules.objective",
    "Search": "molecules.search.base",
    "Term": "molecules.objective",
    "design": "molecules.from_python",
    "load_objective": "molecules.from_python",
    "load_oracle": "molecules.from_python",
    "load_search": "molecules.from_python",
    "parse_route": "molecules.routes.route",
    "replay": "molecules.routes.route",
}
__all__ = [
    "Answer", "Blocks", "Campaign", "Constraint", "ConstraintConfig", "Constraints", "Evaluator", "Found", "MoleculeOracle",
    "Objective", "Oracle", "Route", "Scored", "Search", "Term", "design", "load_objective", "load_oracle", "load_search",
    "parse_route", "replay",
]  # fmt: skip

__getattr__ = exported(__name__, _PUBLIC)


def __dir__() -> list[str]:
    return sorted(__all__)
