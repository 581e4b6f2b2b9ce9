"""Candidates that nobody has listed: a design search whose score is what the campaign's models promise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from molecules.campaign.campaign import Campaign
from molecules.campaign.features import MoleculeFeatures
from molecules.campaign.pool import Candidates
from molecules.objective import Objective, Term
from molecules.oracles.base import Answer, Oracle
from molecules.run_search import build_constraints, search
from reprogram.errors import DataError
from reprogram.progress import progress


class Promised(Oracle):
    """The value of a molecule to the next batch; it costs nothing but time."""

    name = "promise"

    def __init__(self, campaign: Campaign, count: int) -> None:
        self.campaign, self.value, self.batch = campaign, campaign.promise(count), 100

    def answers(self, smiles: Sequence[str]) -> list[Answer]:
        found = self.value(self.campaign.predict(MoleculeFeatures.of(smiles)))
        return [Answer(float(value)) for value in np.maximum(found, 0.0)]


def design_candidates(campaign: Campaign, settings: dict[str, Any], journal: Path) -> tuple[Candidates, list[str]]:
    """(what a search from the measured molecules found feasible, its notes). settings: the configuration of the run, with
    ``search``, ``constraints`` and ``budget``. Raises DataError where the models cannot be fitted, or nothing is found."""
    campaign.fit()
    if not campaign.models:
        raise DataError("candidates=design needs at least four measured values in every column; give a list of candidates.")
    known = campaign.measured.smiles
    objective = Objective([Term(Promised(campaign, settings["batch"]))], build_constraints(settings, known), "arithmetic")
    serial = settings | {"parallel": settings["parallel"] | {"backend": "serial"}}
    with progress("designing", settings["budget"]) as bar:
        found = search(serial, objective, known, journal, [settings["seed"], 11], bar)
    smiles = [scored.smiles for scored in found.calls if scored.feasible]
    if not smiles:
        raise DataError("candidates=design found no molecule that satisfies the constraints; loosen them or raise budget=.")
    return Candidates(smiles, list(range(1, len(smiles) + 1)), MoleculeFeatures.of(smiles)), found.notes
