"""A fixed sentence around every string: tells a language model what it reads, or asks it to fill in an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reprogram.errors import ConfigError
from reprogram.inputs.text import Text, spaced
from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.ranges import NotEmpty


@dataclass(eq=False)
class PromptText(Text):
    """template: holds ``{}`` once, where the string goes, and for a masked model its mask token where the answer is read,
    as in ``"{} . All in all, it was [MASK]."`` (a cloze question with a verbaliser: Schick & Schütze 2021, arXiv
    2001.07676; the verbaliser is the output mapping)."""

    template: NotEmpty = "{}"

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        if self.template.count("{}") != 1:
            raise ConfigError(f"input.template '{self.template}' must hold {{}} once, where the string goes.")

    def forward(self, batch: Sequence[str]) -> list[list[str]]:
        kinds = self.tokens.split("+")
        return [[self.template.replace("{}", spaced(text, kind)) for text in batch] for kind in kinds]
