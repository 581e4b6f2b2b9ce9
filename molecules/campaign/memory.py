"""The folder of a campaign: ``round_001.json`` and so on, what was proposed in each, and how it compares with measurements."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from molecules.campaign.campaign import Campaign, MeasuredValues, Proposal
from molecules.campaign.property_model import LEVEL, Scale, half_width
from reprogram.errors import DataError
from reprogram.files import read_json
from reprogram.locks import own_file
from reprogram.result import finite, write_atomically

SCHEMA = 1
LARGEST = 64 << 20  # bytes of a round


class MeasuredProposal(NamedTuple):
    """One proposal that was measured. error: in standard deviations of a new measurement, on the scale of the model, as the
    round told them."""

    round: int
    smiles: str
    column: str
    predicted: float
    low: float
    high: float
    measured: float
    error: float
    raw_error: float

    @property
    def inside(self) -> bool:
        """Did the interval hold?"""
        return self.low <= self.measured <= self.high


@dataclass
class CampaignFolder:
    """rounds: by number, those before the present one. number: of the present one. digest: of its measurements."""

    folder: Path
    rounds: dict[int, dict[str, Any]]
    number: int
    digest: str

    @classmethod
    def of(cls, folder: Path, measured: MeasuredValues) -> CampaignFolder:
        """Read the folder. A round that was proposed from the very same measurements is the present one, made again."""
        digest = digest_of(measured)
        rounds: dict[int, dict[str, Any]] = {}
        for file in sorted(folder.glob("round_*.json")):
            found = _read(file)
            rounds[found["round"]] = found
        last = max(rounds, default=0)
        if last and rounds[last]["measured_digest"] == digest:
            del rounds[last]
            return cls(folder, rounds, last, digest)
        return cls(folder, rounds, last + 1, digest)

    def pending(self, measured: MeasuredValues) -> list[str]:
        """Canonical SMILES that were proposed before and have no value yet."""
        known = set(measured.smiles)
        proposed = [p["smiles"] for found in self.rounds.values() for p in found["proposals"]]
        return [smiles for smiles in dict.fromkeys(proposed) if smiles not in known]

    def outcomes(self, columns: Sequence[str], measured: MeasuredValues) -> list[MeasuredProposal]:
        """What became of earlier proposals, in order of the rounds; a bound is no outcome."""
        place = {smiles: i for i, smiles in enumerate(measured.smiles)}
        found = []
        for number, told in sorted(self.rounds.items()):
            for proposal in told["proposals"]:
                row = place.get(proposal["smiles"])
                for i, column in enumerate(columns):
                    expected = proposal["expected"].get(column)
                    if row is None or expected is None or measured.sides[row, i] or math.isnan(measured.values[row, i]):
                        continue
                    factor = float(told["models"].get(column, {}).get("factor", 1.0))
                    found.append(_outcome(number, proposal["smiles"], column, expected, measured.values[row, i], factor))
        return found

    def keep(self, campaign: Campaign, proposals: Sequence[Proposal], ids: Mapping[int, str], told: dict[str, Any]) -> None:
        """Write the present round, atomically."""
        rows = []
        for p in proposals:
            expected = {column: e._asdict() for column, e in p.expected.items()}
            rows.append(
                {"smiles": p.smiles, "row": p.row, "id": ids.get(p.row, ""), "purpose": p.purpose, "promise": p.promise}
                | {"chance": p.chance, "expected": expected, "nearest": p.nearest, "similarity": p.similarity}
            )
        models = {
            column: {"factor": model.factor, "weights": model.weights.tolist(), "log": scale.log}
            for column, model, scale in zip(campaign.columns, campaign.models, campaign.scales)
        }
        data: dict[str, Any] = {"schema": SCHEMA, "round": self.number, "measured": len(campaign.measured.smiles)}
        data |= {"measured_digest": self.digest, "goals": [str(goal) for goal in campaign.goals], "models": models}
        text = json.dumps(finite(data | told | {"proposals": rows}), indent=1, ensure_ascii=False)
        write_atomically(self.folder / f"round_{self.number:03}.json", text + "\n")


def digest_of(measured: MeasuredValues) -> str:
    """Of molecules and values, in any order of the rows."""
    rows = sorted(zip(measured.smiles, measured.values.tolist(), measured.sides.tolist()), key=lambda row: row[0])
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _outcome(number: int, smiles: str, column: str, expected: dict[str, Any], measured: float, factor: float) -> MeasuredProposal:
    scale = Scale(bool(expected["log"]))
    value, low, high = (float(expected[key]) for key in ("value", "low", "high"))
    ends = scale.to_model(np.array([value, low, high, measured]))
    spread = max(float(ends[2] - ends[1]) / (2 * half_width(LEVEL)), 1e-12)
    error = float(ends[3] - ends[0]) / spread if math.isfinite(ends[3]) else -10.0
    return MeasuredProposal(number, smiles, column, value, low, high, float(measured), error, error * factor)


def _read(file: Path) -> dict[str, Any]:
    """A round; it may be a stranger's. Raises DataError where it is none."""
    own_file(file)
    found = read_json(file, LARGEST, DataError)
    try:
        if found["schema"] != SCHEMA:
            raise DataError(f"{file} has schema {found['schema']}; this version reads {SCHEMA}.")
        told = {"round": int(found["round"]), "measured_digest": str(found["measured_digest"])}
        for proposal in found["proposals"]:
            str(proposal["smiles"])
            for expected in proposal["expected"].values():
                _ = [float(expected[key]) for key in ("value", "low", "high")], bool(expected["log"])
        for model in found["models"].values():
            float(model["factor"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{file} is not a round of a campaign; remove it, or give another folder: campaign=DIR.") from error
    return found | told


def held_up(outcomes: Sequence[MeasuredProposal]) -> dict[str, Any]:
    """By column: how many proposals were measured, how many 90% intervals held, the mean absolute error."""
    found = {}
    for column in dict.fromkeys(o.column for o in outcomes):
        own = [o for o in outcomes if o.column == column]
        found[column] = {
            "measured": len(own),
            "inside": float(np.mean([o.inside for o in own])),
            "mean_absolute_error": float(np.mean([abs(o.measured - o.predicted) for o in own])),
            "mean_error": float(np.mean([o.measured - o.predicted for o in own])),
        }
    return found
