"""What the checks that certify share."""

from __future__ import annotations

import torch
from torch import Tensor

from reprogram.robustness.certification.linear_bounds.trace import NotBounded
from reprogram.robustness.evaluated_model import EvaluatedModel
from reprogram.robustness.findings import Flag

CANNOT = (NotBounded, RuntimeError, TypeError)  # models that recording does not get through
REACH = 4.0  # radius that CLEVER samples and linear bounds try at most, in units of eps
MOST_BENDS = 3000  # of a network whose intermediate bounds are tightened by back-substitution

CONTRADICTED = Flag("contradicted", "a certificate exceeds an attack: one of the two is wrong")


def correct(model: EvaluatedModel, count: int) -> Tensor:
    """The first ``count`` correctly classified examples."""
    return torch.nonzero(model.clean).squeeze(1)[:count]


def not_bounded(error: Exception) -> Flag:
    """Why a model has no certificate."""
    reason = str(error).split("\n")[0][:160]
    if isinstance(error, NotBounded):
        return Flag("not_bounded", f"not bounded: {reason}")
    return Flag("not_recorded", f"cannot be recorded: {reason}")


def vacuous(what: str) -> Flag:
    return Flag("vacuous", f"vacuous: the bounds are too loose for this network to certify any {what}")
