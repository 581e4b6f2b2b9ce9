"""Candidates of ``program=auto`` that read a pool of inputs without labels beside the labelled ones.

One blend for drawings and photographs alike: labels spread over all layers and over the late ones, classes as heaps in
both, and the ridge that needs no pool; few labels leave the shares equal, many decide (:mod:`reprogram.outputs.blend`).
To wire it: ``listed += pool_candidates(…)`` where a pool is given, and ``output.observe_pool(pool outputs)`` after build.
"""

from __future__ import annotations

from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.labels.choose import late_layers
from reprogram.modalities import modality
from reprogram.modalities.base import Candidate, Config

TRUST = 10.0  # labels that equal shares are worth
HEAP_SHRINK = 0.5  # covariance of classes over all layers; late layers want balls


def pool_candidates(spec: SourceSpec, target: TargetInfo, photographs: bool, source: int = 0) -> list[Candidate]:
    """The blend on one view; ``preferred``: with few or chosen labels cross-validation cannot see it win."""
    method, average = modality(target.kind).pool_view(spec, photographs)
    blend = blend_config(spec, target, average)
    return [Candidate("blend with the pool", method, blend, (method,), source=source, tags=("preferred",))]


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
