"""Strings as they are, or with the target's tokens set apart by spaces so that the frozen tokenizer sees each one."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reprogram.errors import ConfigError, nearest
from reprogram.featurisers import Composition, KMers, Spelling, Words
from reprogram.interfaces import Featuriser, InputTransformation, SourceSpec, Tap, TargetInfo
from reprogram.modalities import check_source
from reprogram.tokenization import splitter, tokenizations


@dataclass(eq=False)
class Text(InputTransformation):
    """tokens: ``own`` leaves the string to the source's tokenizer; ``amino_acids``, ``characters`` and those of other
    modalities put spaces between target tokens; ``own+amino_acids`` and the like read both ways, as two views.
    features: plain features of the string beside what the model reads (``composition``, ``kmers``, ``spelling``,
        ``words``): a hybrid program.
    """

    tokens: str = "own"
    features: tuple[str, ...] = ()

    known: ClassVar[dict[str, Featuriser]] = {
        "composition": Composition(string.ascii_uppercase),
        "kmers": KMers(),
        "spelling": Spelling(),
        "words": Words(),
    }

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        check_source(self.name, "text", spec)
        kinds = self.tokens.split("+")
        for kind in kinds:
            if kind != "own" and kind not in tokenizations():
                raise ConfigError(f"input.tokens={self.tokens} is not known; {nearest(kind, ['own', *tokenizations()])}")

        for name in self.features:
            if name not in self.known:
                raise ConfigError(f"input.features has '{name}'; {nearest(name, self.known)}")

    def work(self) -> float:
        """Strings read."""
        return float(self.tokens.count("+") + 1)

    def forward(self, batch: Sequence[str]) -> list[list[str]]:
        return [[spaced(text, kind) for text in batch] for kind in self.tokens.split("+")]

    def side_features(self, batch: Sequence[str]) -> dict[Tap, Tensor]:
        return {Tap(name, "side"): torch.from_numpy(self.known[name](batch)) for name in self.features}


def spaced(text: str, kind: str) -> str:
    """``MKV`` -> ``M K V``; ``own`` leaves the text alone."""
    return text if kind == "own" else " ".join(splitter(kind)(text))
