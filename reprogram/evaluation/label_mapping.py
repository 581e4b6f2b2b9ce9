"""Which source labels now mean what: the mapping's own weights, or what the source sees in each target class."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from reprogram.evaluation.features import source_outputs
from reprogram.interfaces import TargetTask
from reprogram.model import ReprogrammedModel

MOST_EXAMPLES = 1000  # that are read where the mapping has no weights of its own


@torch.no_grad()
def label_mapping(model: ReprogrammedModel, target: TargetTask, top: int = 5) -> dict[str, Any] | None:
    """``{"kind", "classes": {target label: [[source label, weight], …]}}``, largest weight first.

    kind ``weights``: of the output mapping, each target label's sum to 1. kind ``seen``: the mapping reads features
    instead; shown is by how many standard deviations a source label's logit is higher on training examples of the class
    than on the others. None where the source has no labels, or the target no classes.
    """
    names = model.source.labels
    if not names:
        return None
    weights = model.output.weights()
    kind = "weights"
    if weights is None:
        kind, weights = "seen", _seen(model, target)
    if weights is None:
        return None
    columns = weights.detach().float().cpu().T
    if kind == "weights":
        columns = columns / columns.sum(1, keepdim=True).clamp_min(1e-12)
    classes = {}
    for name, column in zip(target.info.classes, columns, strict=True):
        value, index = column.topk(min(top, len(column)))
        classes[name] = [[names[int(i)], float(v)] for i, v in zip(index, value, strict=True) if float(v) > 0]
    return {"kind": kind, "classes": classes}


def _seen(model: ReprogrammedModel, target: TargetTask) -> torch.Tensor | None:
    if target.info.problem != "classification" or not len(target.train):
        return None
    examples = target.train
    if len(examples) > MOST_EXAMPLES:
        examples = examples.subset(np.arange(MOST_EXAMPLES))
    asked = None if model.source.differentiable else model.input  # what the program has asked already costs nothing
    outputs = source_outputs(model.source, examples, target.info, asked)
    logits = outputs[0].logits.float().cpu()
    if not logits.shape[1]:
        return None
    standard = (logits - logits.mean(0)) / logits.std(0, correction=0).clamp_min(1e-6)
    labels = torch.as_tensor(np.asarray(examples.labels))
    classes = range(len(target.info.classes))
    rows = [standard[labels == c].mean(0) if (labels == c).any() else torch.zeros(logits.shape[1]) for c in classes]
    return torch.stack(rows, dim=1)
