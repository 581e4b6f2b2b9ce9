"""What ``program=auto`` chooses among: programs that a few cached passes of the frozen source can score.

The lists are short on purpose: with 150 candidates, taking the best cross-validated one costs about 2 points.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from reprogram.inputs import __name__ as INPUTS
from reprogram.interfaces import InputTransformation, OutputMapping, SourceSpec, TargetInfo
from reprogram.outputs import __name__ as OUTPUTS
from reprogram.registry import find

Config = dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A program that needs no training in front of the source.

    atoms: inputs of one pass or few, whose views in this order are the views of ``input``; candidates that share an atom
    share its passes. kind: ``program`` or ``baseline`` (what a user would run instead, expressed as a program). tags:
    ``preferred`` (see :class:`reprogram.auto.rule.Rule`), ``trained``.
    """

    name: str
    input: tuple[str, Config]
    output: tuple[str, Config]
    atoms: tuple[tuple[str, Config], ...]
    kind: str = "program"
    source: int = 0
    tags: tuple[str, ...] = field(default=())

    def keys(self) -> list[str]:
        """One key an atom; equal keys are the same pass."""
        return [f"{self.source}:{json.dumps(atom, sort_keys=True)}" for atom in self.atoms]


def make_input(method: tuple[str, Config]) -> InputTransformation:
    return find(INPUTS, method[0], InputTransformation)(**method[1])


def make_output(method: tuple[str, Config]) -> OutputMapping:
    return find(OUTPUTS, method[0], OutputMapping)(**method[1])


def candidates(spec: SourceSpec, target: TargetInfo, photographs: bool, source: int = 0) -> list[Candidate]:
    """The list for this kind of source and target, cheapest first."""
    if spec.kind == "image":
        return _images(spec, target, photographs, source)
    return _strings(spec, target, source)


def _images(spec: SourceSpec, target: TargetInfo, photographs: bool, source: int) -> list[Candidate]:
    full = spec.size
    small = tuple(sorted({max(32, round(full * share / 32) * 32) for share in (0.43, 0.57)}))  # 96 and 128 of 224
    several = (*small, max(32, round(full * 0.72 / 32) * 32))
    labels = target.problem == "classification" and spec.answers != "none" and len(spec.labels) > 0
    taps = [tap for tap in spec.taps if tap != "head"]
    found = []
    if labels:
        found.append(_image("label map, 1 scale", small[-1:], False, ("top_k", {}), source))
    if spec.feature_size:
        found.append(_image("linear probe", (full,), False, ("linear_features", {}), source, kind="baseline"))
        found.append(_image("features, ridge", small[-1:], False, ("ridge_taps", _features(spec)), source))
    if taps:
        found.append(_image("layers, full size", (full,), False, ("ridge_taps", {}), source))
        found.append(
            _image(
                "late layers, 1 scale", (several[-1],), photographs, ("ridge_taps", _late(taps, photographs)), source
            )
        )
        found.append(_image("layers, 3 scales", several, False, ("ridge_taps", {}), source))
        found.append(
            _image(
                "late layers, all scales",
                (*several, full),
                photographs,
                ("ridge_taps", _late(taps, photographs)),
                source,
            )
        )
    if spec.feature_size:
        head = _features(spec) | {"average": 2 if photographs else 1}
        found.append(_image("features, all scales", (*several, full), photographs, ("ridge_taps", head), source))
    if labels and not spec.feature_size:
        found += _answers(several, full, photographs, source)
    elif labels:
        found.append(_image("label map, all scales", (*several, full), photographs, ("top_k", {}), source))
    return found


def _answers(several: tuple[int, ...], full: int, photographs: bool, source: int) -> list[Candidate]:
    """A model that can only be asked shows its answers, nothing else: one question an image and view, few views first,
    so that a small budget ends between two candidates. Drawings are also shown inverted, photographs also mirrored."""
    ridge: tuple[str, Config] = ("ridge_taps", {})
    small, quarter = several[:-1], max(32, round(full * 0.29 / 32) * 32)
    few = (quarter, *several, full) if photographs else (quarter, *small)
    many = few if photographs else (quarter, *several)
    return [
        _image("answers, ridge", small[-1:], False, ridge, source),
        _image("answers, ridge, 2 scales", small, False, ridge, source),
        _image("answers, ridge, few views", few, False, ridge, source, invert=not photographs),
        _image("answers, ridge, many views", many, photographs, ridge, source, invert=not photographs),
        _image("label map, many views", many, photographs, ("top_k", {}), source, invert=not photographs),
    ]


def _features(spec: SourceSpec) -> Config:
    """The pooled features and little else: where they are no layer of their own, the last layer's mean beside them."""
    layer = "head" if "head" in spec.taps else spec.taps[-1] if spec.taps else None
    return {"layers": [f"{layer}@1"] if layer else [], "head": layer != "head"}


def _late(taps: Sequence[str], photographs: bool) -> Config:
    """The last stages on 2x2 grids, and the pooled features."""
    depth = len(taps)
    layers = [f"{taps[max(0, round(depth * share) - 1)]}@2" for share in (10 / 16, 14 / 16, 15 / 16)]
    return {"layers": list(dict.fromkeys(layers)), "average": 2 if photographs else 1}


def _image(
    name: str,
    sizes: tuple[int, ...],
    flip: bool,
    output: tuple[str, Config],
    source: int,
    kind: str = "program",
    invert: bool = False,
) -> Candidate:
    sizes = tuple(dict.fromkeys(sizes))
    beside = {"flip": flip} | ({"invert": True} if invert else {})
    atoms = tuple(("views", {"sizes": [size]} | beside) for size in sizes)
    return Candidate(name, ("views", {"sizes": list(sizes)} | beside), output, atoms, kind, source)


def join(members: list[Candidate]) -> Candidate | None:
    """An ensemble of candidates whose inputs can be merged into one, or None."""
    methods = {c.input[0] for c in members}
    if methods == {"views"}:
        sizes = sorted({size for c in members for size in c.input[1]["sizes"]})
        beside = {name: True for name in ("flip", "invert") if any(c.input[1].get(name) for c in members)}
        beside = {"flip": False} | beside
        merged = ("views", {"sizes": sizes} | beside)
        mirrors, negatives = ((False, True) if beside.get(name) else (False,) for name in ("flip", "invert"))
        order = list(product(sizes, mirrors, negatives))  # as Views gives them
        read = [
            [
                i
                for i, (size, mirrored, inverted) in enumerate(order)
                if size in c.input[1]["sizes"]
                and (c.input[1].get("flip") or not mirrored)
                and (c.input[1].get("invert") or not inverted)
            ]
            for c in members
        ]
        atoms = tuple(("views", {"sizes": [size]} | beside) for size in sizes)
    elif len({repr(c.input) for c in members}) == 1:
        merged, read, atoms = members[0].input, [[] for _ in members], members[0].atoms
    else:
        return None
    parts = [
        {"name": c.output[0], "config": c.output[1], "views": views} for c, views in zip(members, read, strict=True)
    ]
    return Candidate(
        f"mean of {len(members)}", merged, ("ensemble", {"members": parts}), atoms, source=members[0].source
    )


def _strings(spec: SourceSpec, target: TargetInfo, source: int) -> list[Candidate]:
    """Layers read from the string, the string set apart into tokens or spelled again, and the same with plain features."""
    molecules = target.kind == "molecule"
    method = "smiles" if molecules else "text"
    beside = {"molecule": ["ecfp4", "descriptors"], "sequence": ["composition", "kmers"]}.get(target.kind, ["kmers"])
    balanced: Config = {"balanced": target.problem != "regression"}

    def reading(name: str, options: Config, output: tuple[str, Config], kind: str = "program") -> Candidate:
        return Candidate(name, (method, options), output, ((method, options),), kind, source)

    layers = ("ridge_taps", balanced)
    last = ("ridge_taps", balanced | {"layers": [f"{tap}@mean" for tap in spec.taps[-1:]], "head": False})
    found = [reading("last layer", {}, last)]
    if spec.feature_size:
        found.append(reading("linear probe", {}, ("linear_features", {}), kind="baseline"))
    found.append(reading("layers", {}, layers))
    found.append(reading("layers and plain features", {"features": beside}, layers))
    process = ("gaussian_process", {"average": 3 if molecules else 1, "trees": 200, "units": molecules})
    if molecules:
        averaged = ("ridge_taps", balanced | {"average": 3})
        found.append(reading("layers, 3 spellings", {"spellings": 3}, averaged))
        found.append(reading("layers, 3 spellings, and plain features", {"spellings": 3, "features": beside}, averaged))
        everything = reading(
            "Gaussian process, 3 spellings, and plain features", {"spellings": 3, "features": beside}, process
        )
        found.append(replace(everything, tags=("preferred",)))
    elif target.kind == "sequence":
        found.append(reading("layers, a token a letter", {"tokens": "amino_acids"}, layers))
        found.append(reading("Gaussian process and plain features", {"features": beside}, process))
        both = {"tokens": "own+amino_acids", "features": beside}
        found.append(reading("layers, both ways, and plain features", both, layers))
        mean = reading(
            "mean of layers and Gaussian process, both ways, and plain features", both, _mean_of(layers, process)
        )
        found.append(replace(mean, tags=("preferred",)))
    return found


def _mean_of(*outputs: tuple[str, Config]) -> tuple[str, Config]:
    """Several mappings of the same views, their probabilities averaged."""
    return "ensemble", {"members": [{"name": name, "config": config, "views": []} for name, config in outputs]}
