"""Each example under the attack that hurt it most, with every flag that the comparison of attacks raises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from reprogram.robustness import flags
from reprogram.robustness.checks.base import Check, Scope
from reprogram.robustness.evaluated_model import EvaluatedModel
from reprogram.robustness.findings import Flag, Outcome, share_row
from reprogram.threat import NORMS


@dataclass
class WorstCase(Check):
    """Runs no attack of its own; stands last among those of a depth."""

    norms: ClassVar[tuple[str, ...]] = NORMS

    def run(self, model: EvaluatedModel, scope: Scope) -> Outcome:
        threat = scope.main
        masks = {name: mask[: scope.count] for name, mask in model.broken.get(threat.norm, {}).items()}
        raised = _compared(model, masks)
        if model.gradients and threat.norm in model.curves:
            curve = model.curves[threat.norm]
            raised += [flags.not_monotone(curve), flags.not_reaching_chance(curve, model.classes)]
        every = [*model.flags, *(flag for flag in raised if flag)]
        robust = model.survives(threat.norm)[: scope.count]
        row = share_row(scope.name, "attack", str(threat), robust, flags=every, attacks=sorted(masks))
        row.more |= {"family": threat.norm, "size": threat.eps}
        return Outcome([row])


def _compared(model: EvaluatedModel, masks: dict[str, Tensor]) -> list[Flag | None]:
    """Flags of attacks that contradict one another."""
    white = {name: mask for name, mask in masks.items() if model.access.get(name) == "white_box"}
    black = {name: mask for name, mask in masks.items() if model.access.get(name) in ("score", "label", "none")}
    raised = [flags.black_box_beats_white_box(white, black)]
    if "fgsm" in masks and "pgd" in masks:
        raised.append(flags.single_step_beats_iterative(masks["fgsm"], masks["pgd"]))
    for name, mask in masks.items():
        if f"{name}_half" in masks:
            raised.append(flags.more_steps_help(masks[f"{name}_half"], mask))
    for name, mask in masks.items():
        if model.access.get(name) == "straight_through":
            raised.append(flags.missed_by_gradients(white, mask))
    return raised
