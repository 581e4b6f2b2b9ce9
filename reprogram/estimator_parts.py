"""What an estimator is made of: its methods by name, their hyper-parameters, and the fitted program as it is pickled."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from reprogram.errors import ReprogramError, nearest
from reprogram.interfaces import InputTransformation, Method, OutputMapping, SourceModel, TargetInfo
from reprogram.model import ReprogrammedModel
from reprogram.registry import find

PARTS: dict[str, tuple[str, type[Method]]] = {
    "input": ("reprogram.inputs", InputTransformation),
    "output": ("reprogram.outputs", OutputMapping),
}


@dataclass
class KeptProgram:
    """A fitted program as it is pickled. source: None where the estimator names it; then ``fingerprint`` must fit."""

    source: SourceModel | None
    fingerprint: str
    input: tuple[type[Method], dict[str, Any]]
    output: tuple[type[Method], dict[str, Any]]
    target: TargetInfo
    tensors: dict[str, Tensor]
    precision: torch.dtype
    applicability: Any = None
    conformal: Any = None

    @classmethod
    def of(cls, model: ReprogrammedModel, carry_source: bool) -> KeptProgram:
        """What must be written down of a fitted model."""
        source = model.source
        return cls(
            source if carry_source else None,
            "" if carry_source else source.fingerprint(),
            (type(model.input), model.input.config()),
            (type(model.output), model.output.config()),
            model.target,
            model.program(),
            model.precision,
            model.applicability,
            model.conformal,
        )

    def model(self, name: Any, device: str) -> ReprogrammedModel:
        """The fitted model again; ``name``: the source where it was not carried along."""
        from reprogram.sources import load_source

        source = self.source if self.source is not None else load_source(name)
        if self.source is None and source.fingerprint() != self.fingerprint:
            raise ValueError(
                f"source='{name}' is not the model that this estimator was fitted with: its weights differ."
            )
        before: Any = self.input[0](**self.input[1])
        behind: Any = self.output[0](**self.output[1])
        model = ReprogrammedModel(source, before, behind, self.target)
        model.load_program(self.tensors)
        model.precision, model.applicability = self.precision, self.applicability
        model.conformal = self.conformal
        return model.to(device).eval()


def sentence(error: Exception) -> str:
    """What an error says, with one full stop, or the question that it ends in."""
    text = str(error).rstrip(".")
    return text if text.endswith("?") else text + "."


def fresh(part: str, method: Any) -> Any:
    """A new method of that name, or a new one with the same hyper-parameters, so that fitting changes nobody's object."""
    if isinstance(method, Method):
        return type(method)(**method.config())
    package, base = PARTS[part]
    return find(package, str(method), base)()


def options(part: str, value: Any) -> dict[str, Any]:
    """The hyper-parameters of an input, an output or a training; none of what cannot be found."""
    if part == "training":
        return {f.name: getattr(value, f.name) for f in fields(value)} if is_dataclass(value) else {}
    try:
        return fresh(part, value).config()
    except ReprogramError:
        return {}


def changed(estimator: Any, part: str, changes: dict[str, Any]) -> Any:
    """The part with other hyper-parameters. ValueError names what it does not have."""
    if part not in ("input", "output", "training"):
        raise ValueError(f"{part}__{next(iter(changes))} cannot be set: only input__, output__ and training__ can.")
    value = getattr(estimator, part)
    if part == "training" and value is None:
        from reprogram.training.loop import Training

        value = Training()
    known = options(part, value)
    for name in changes:
        if name not in known:
            raise ValueError(f"{part}__{name} is not a parameter of {part}={value!r:.60}; {nearest(name, known)}")
    try:
        if part == "training":
            return replace(value, **changes)
        return type(fresh(part, value))(**(known | changes))
    except (ReprogramError, TypeError) as error:
        raise ValueError(sentence(error)) from error
