"""A frozen encoder-decoder as a source for a program: how likely is this analogue?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from molecules.spaces.base import Memory, Space, checked_decoder
from reprogram.interfaces import SourceModel, SourceOutput, SourceSpec, Tap

ARROW = ">>"


class Likelihood(SourceModel):
    """Reads ``PARENT>>CHILD`` and answers log p(CHILD | PARENT, program) as its only logit.

    The view of a program in front of it may bring ``slots`` [P, D] and ``offset`` [D] for the memory.
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        checked_decoder(space)
        self.space, self.name = space, space.name
        self.spec = SourceSpec("text", space.spec.size, ("log_probability",), embedding_size=space.width)
        self.freeze()

    def fingerprint(self) -> str:
        """Of the encoder-decoder: a program belongs to it, not to this reading of it."""
        return self.space.fingerprint()

    def memory(self, parents: Sequence[str], view: Mapping[str, Any]) -> Memory:
        """What the decoder looks at behind the program."""
        memory = self.space.encode(parents)
        if "offset" in view:
            memory = memory.shifted(view["offset"])
        return memory.prompted(view["slots"]) if "slots" in view else memory

    def answer(self, source_input: Any, taps: Sequence[Tap] = ()) -> SourceOutput:
        view = source_input if isinstance(source_input, Mapping) else {"text": source_input}
        parents, children = zip(*(text.split(ARROW) for text in view["text"]))
        return SourceOutput(self.space.log_probability(self.memory(parents, view), children)[:, None])
