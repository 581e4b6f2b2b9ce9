"""The program that reads a pool: which mappings are blended for this kind of source and target.

One list for drawings and photographs alike: labels spread over all layers and over the late ones, classes as heaps in both,
and the ridge that needs no pool; few labels leave the shares equal, many decide (:mod:`reprogram.outputs.blend`).
"""

from __future__ import annotations

from typing import Any

from reprogram.interfaces import SourceSpec, TargetInfo

Config = dict[str, Any]
TRUST = 10.0  # labels that equal shares are worth
HEAP_SHRINK = 0.5  # covariance of classes over all layers; late layers want balls


def blend_config(spec: SourceSpec, target: TargetInfo, average: int = 1) -> tuple[str, Config]:
    """``output=blend`` and its options. average: views that show the same thing in a row, as in ``output=ridge_taps``."""
    ridge: Config = {} if spec.kind == "image" else {"balanced": target.problem != "regression"}
    members = [_member("ridge_taps", ridge, average), _member("diffusion", {}, average)]
    late = late_layers(spec)
    if spec.kind == "image" and target.problem == "classification":
        members.append(_member("prototypes", {"shrink": HEAP_SHRINK}, average))
        if late:
            members += [_member("diffusion", {"layers": late}, average), _member("prototypes", {"layers": late}, average)]
    return "blend", {"members": members, "trust": TRUST}


def late_layers(spec: SourceSpec) -> list[str]:
    """The last two stages of an image source on 2x2 grids; empty for other sources and for a model that is only asked."""
    taps = [tap for tap in spec.taps if tap != "head"]
    return [f"{tap}@2" for tap in taps[-2:]] if spec.kind == "image" else []


def choosing_layers(spec: SourceSpec, photographs: bool) -> list[str]:
    """Layers of the space in which inputs are chosen: late ones for photographs, the usual ones (empty) for the rest."""
    return late_layers(spec) if photographs else []


def _member(name: str, config: Config, average: int) -> Config:
    return {"name": name, "config": config | ({"average": average} if average > 1 else {}), "views": []}
