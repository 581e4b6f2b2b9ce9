"""Candidates made: their methods by name, and the mean of several as one more candidate."""

from __future__ import annotations

from reprogram.inputs import __name__ as INPUTS
from reprogram.interfaces import InputTransformation, OutputMapping
from reprogram.modalities import Candidate
from reprogram.modalities.base import Named
from reprogram.outputs import __name__ as OUTPUTS
from reprogram.registry import find


def make_input(method: Named) -> InputTransformation:
    """The input transformation of that name with those options."""
    return find(INPUTS, method[0], InputTransformation)(**method[1])


def make_output(method: Named) -> OutputMapping:
    """The output mapping of that name with those options."""
    return find(OUTPUTS, method[0], OutputMapping)(**method[1])


def join(members: list[Candidate]) -> Candidate | None:
    """An ensemble of candidates whose inputs can be merged into one, or None."""
    name = members[0].input[0]
    if any(c.input[0] != name for c in members):
        return None
    method = find(INPUTS, name, InputTransformation)
    merged = method.merge([c.input[1] for c in members])
    if merged is None:
        return None
    config, read = merged
    parts = [
        {"name": c.output[0], "config": c.output[1], "views": views} for c, views in zip(members, read, strict=True)
    ]
    atoms = tuple((name, options) for options in method.passes(config))
    return Candidate(
        f"mean of {len(members)}", (name, config), ("ensemble", {"members": parts}), atoms, source=members[0].source
    )
