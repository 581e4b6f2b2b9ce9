"""Candidates of ``program=auto`` that read a pool of inputs without labels beside the labelled ones.

One blend for drawings and photographs alike: labels spread over all layers and over the late ones, classes as heaps in
both, and the ridge that needs no pool; few labels leave the shares equal, many decide (:mod:`reprogram.outputs.blend`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from reprogram.evaluation.features import source_outputs
from reprogram.interfaces import (
    Examples,
    OutputMapping,
    SourceModel,
    SourceSpec,
    TargetInfo,
    TargetTask,
    to_tensor_labels,
)
from reprogram.labels.choose import late_layers
from reprogram.labels.reading import read_pool
from reprogram.modalities import modality
from reprogram.modalities.base import Candidate, Config, Named
from reprogram.model import ReprogrammedModel
from reprogram.selection.candidates import make_input, make_output
from reprogram.selection.crossval import make_folds, out_of_fold, probabilities, squared_error
from reprogram.selection.rule import Rule

TRUST = 10.0  # labels that equal shares are worth
FOLDS = 10
HEAP_SHRINK = 0.5  # covariance of classes over all layers; late layers want balls


def pool_candidates(spec: SourceSpec, target: TargetInfo, photographs: bool, source: int = 0) -> list[Candidate]:
    """The blend on one view; ``preferred``: with few or chosen labels cross-validation cannot see it win."""
    method, average = modality(target.kind).pool_view(spec, photographs)
    blend = blend_config(spec, target, average)
    return [Candidate("blend with the pool", method, blend, (method,), source=source, tags=("preferred", "pool"))]


def blend_config(spec: SourceSpec, target: TargetInfo, average: int = 1) -> tuple[str, Config]:
    """``output=blend`` and its options. average: views that show the same thing in a row, as in ``output=ridge_taps``."""
    image = modality(spec.kind).pixels
    ridge: Config = {} if image else {"balanced": target.problem != "regression"}
    members = [_member("ridge_taps", ridge, average), _member("diffusion", {}, average)]
    if image and target.problem == "classification":
        members.append(_member("prototypes", {"shrink": HEAP_SHRINK}, average))
        if late := late_layers(spec):
            members += [_member(name, {"layers": late}, average) for name in ("diffusion", "prototypes")]
    return "blend", {"members": members, "trust": TRUST}


def _member(name: str, config: Config, average: int) -> Config:
    return {"name": name, "config": config | ({"average": average} if average > 1 else {}), "views": []}


class PoolPasses:
    """Candidates that read the pool of a target: one pass a source and one look at the pool, however many fits follow."""

    def __init__(self, sources: Sequence[SourceModel], target: TargetTask) -> None:
        self.sources, self.target = sources, target
        self._observed: dict[str, OutputMapping] = {}

    def candidates(self, photographs: bool | None) -> list[Candidate]:
        """Programs that read the pool; none without one."""
        info = self.target.info
        if self.target.pool is None:
            return []
        if photographs is None:
            photographs = info.input_shape is not None and info.input_shape[0] == 3
        specs = [source.spec for source in self.sources]
        return [c for i, spec in enumerate(specs) for c in pool_candidates(spec, info, photographs, i)]

    def observed(self, candidate: Candidate) -> OutputMapping | None:
        """The candidate's output, built, with the pool before its eyes, to be fitted; None for one that reads no pool.

        Raises BudgetSpent and DataError.
        """
        if "pool" not in candidate.tags:
            return None
        key = "|".join(candidate.keys())
        if key not in self._observed:
            source = self.sources[candidate.source]
            output = make_output(candidate.output)
            output.build(source.spec, self.target.info)
            plain = getattr(source, "source", source)  # a cache is for what is read again
            reader = make_input(candidate.input)
            output.observe_pool(read_pool(plain, self.target.pool, self.target.info, reader, output.taps())[0])
            self._observed[key] = output
        return self._observed[key]


def choose_with_pool(model: ReprogrammedModel, train: Examples, pool: Examples, seed: int) -> ReprogrammedModel | None:
    """The blend on the model's own input, fitted; None where the model's own output is clearly better by cross-validation.

    model: built, untrained. pool: inputs without labels. Labels that cannot be cross-validated leave the blend.
    """
    source, info, labels = model.source, model.target, to_tensor_labels(train.labels)
    own: Named = (model.output.name, model.output.config())
    blend = make_output(blend_config(source.spec, info))
    blend.build(source.spec, info)
    taps = tuple(dict.fromkeys((*model.output.taps(), *blend.taps())))
    learned = source_outputs(source, train, info, model.input, taps)
    blend.observe_pool(source_outputs(source, pool, info, model.input, taps))
    folds = make_folds(train.labels, info.classes, FOLDS, 1, seed).validation
    if folds:
        errors = []
        for output, observed in ((own, None), (("blend", {}), blend)):
            candidate = Candidate("", ("none", {}), output, ())
            logits = out_of_fold(candidate, learned, labels, folds, source.spec, info, observed)
            seen = ~torch.isnan(logits[..., 0]).all(0)
            errors.append(squared_error(probabilities(logits, labels, info), labels, info)[seen].numpy())
        if Rule((1, 1), (False, True))(np.stack(errors)) == 0:
            return None
    blend.fit(learned, labels)
    found = ReprogrammedModel(source, model.input, blend, info, build=False)
    found.settle()
    return found.eval()
