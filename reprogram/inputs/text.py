"""Strings as they are, or with the target's tokens set apart by spaces so that the frozen tokenizer sees each one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reprogram.errors import ConfigError, nearest
from reprogram.interfaces import InputTransformation, SourceSpec, TargetInfo
from reprogram.notation import SPLITTERS, splitter


@dataclass(eq=False)
class Text(InputTransformation):
    """tokens: ``own`` leaves the string to the source's tokenizer; ``smiles``, ``selfies``, ``amino_acids`` and
    ``characters`` put spaces between target tokens; ``both`` ways with ``own+smiles`` and the like, as two views."""

    tokens: str = "own"

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if spec.kind != "text":
            raise ConfigError(f"input={self.name} makes strings, but the source reads {spec.kind}")
        kinds = self.tokens.split("+")
        for kind in kinds:
            if kind != "own" and kind not in SPLITTERS:
                raise ConfigError(f"input.tokens={self.tokens} is not known; {nearest(kind, ['own', *SPLITTERS])}")

    def forward(self, batch: Sequence[str]) -> list[list[str]]:
        return [[spaced(text, kind) for text in batch] for kind in self.tokens.split("+")]


def spaced(text: str, kind: str) -> str:
    """``CCl`` -> ``C Cl``; ``own`` leaves the text alone."""
    return text if kind == "own" else " ".join(splitter(kind)(text))
