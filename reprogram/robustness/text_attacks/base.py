"""What attacks on strings share: a greedy search over words. Every attack says what it may change and counts its queries.

A model here is strings -> logits: ``model(list of B strings) -> [B, T]``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from reprogram.ranges import Count
from reprogram.robustness.losses import margin, wrong

if TYPE_CHECKING:
    from reprogram.model import ReprogrammedModel

TextModel = Callable[[list[str]], Tensor]
STOP_WORDS = frozenset(
    """a an and are as at be but by for from had has have he her his i if in is it its me my no nor not of on or our
    she so that the their them they this to us was we were what when which who will with you your""".split()  # noqa: SIM905
)


@dataclass
class EvaluatedStrings:
    """A program that reads strings, with test strings [N] and labels [N], and training strings that may be learned from."""

    program: ReprogrammedModel
    texts: list[str]
    labels: Tensor
    train: list[str]
    seed: int = 0

    @property
    def differentiable(self) -> bool:
        """Has the source gradients?"""
        return self.program.source.differentiable

    def reads_as_written(self) -> bool:
        """Does the source read a text exactly as the target wrote it, and nothing beside?"""
        return self.program.input(["a word"]) == [["a word"]] and not self.program.input.side_features(["a word"])


@dataclass
class AttackedText:
    """texts: perturbed strings. broken [N]: verified. queries [N]: strings asked. changed [N]: share of words changed."""

    texts: list[str]
    broken: Tensor
    queries: Tensor
    changed: Tensor


@dataclass
class TextAttack(ABC):
    """most: changes that one text may carry. seed: of every random choice."""

    most: Count = 3
    seed: int = 0

    changes: ClassVar[str] = "words"  # what inputs it is for: the ``changes`` of their modality
    access: ClassVar[str] = "score"

    @classmethod
    def on(cls, model: EvaluatedStrings, **options: Any) -> Self | None:
        """The attack for this program; None where the program does not have what it needs."""
        return cls(seed=model.seed, **options)

    @property
    def name(self) -> str:
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    @abstractmethod
    def constraint(self) -> str:
        """What may change, in words."""

    def split(self, text: str) -> list[str]:
        """Words and the spaces between them; joined they are the text."""
        return re.findall(r"\S+|\s+", text)

    def places(self, words: list[str]) -> list[int]:
        """Which words may change."""
        return [i for i, word in enumerate(words) if not word.isspace() and word.lower() not in STOP_WORDS]

    def variants(self, words: list[str], place: int, rng: np.random.Generator) -> list[str]:
        """Replacements of one word. The default has none."""
        return []

    def __call__(
        self, model: TextModel, texts: Sequence[str], labels: Tensor, advance: Callable[[int], Any] | None = None
    ) -> AttackedText:
        """Greedy search over words, most important first (Jin et al. 2020, arXiv 1907.11932, section 3)."""
        found = list(texts)
        queries, changed = torch.zeros(len(texts)), torch.zeros(len(texts))
        for row, text in enumerate(texts):
            found[row], queries[row], changed[row] = self._one(model, text, labels[row : row + 1], row)
            if advance is not None:
                advance(1)
        broken = torch.cat([wrong(ask_texts(model, [t]), labels[i : i + 1]).cpu() for i, t in enumerate(found)])
        return AttackedText(found, broken, queries, changed)

    def _one(self, model: TextModel, text: str, label: Tensor, row: int) -> tuple[str, int, float]:
        rng = np.random.default_rng([self.seed, row])
        words = self.split(text)
        places = self.places(words)
        before = ask_texts(model, [text])
        if bool(wrong(before, label)) or not places:
            return text, 1, 0.0
        without = ["".join(words[:i] + words[i + 1 :]) for i in places]
        importance = margin(ask_texts(model, without), label.expand(len(places)))
        asked, best, done = 1 + len(places), float(margin(before, label)), 0
        for place in [places[int(i)] for i in importance.argsort(descending=True)]:
            if done >= self.most:
                break
            swaps = self.variants(words, place, rng)
            if not swaps:
                continue
            tried = ["".join([*words[:place], swap, *words[place + 1 :]]) for swap in swaps]
            values = margin(ask_texts(model, tried), label.expand(len(tried)))
            asked += len(tried)
            winner = int(values.argmax())
            if float(values[winner]) > best:
                best, done = float(values[winner]), done + 1
                words[place] = swaps[winner]
                if best > 0:
                    break
        return "".join(words), asked, done / len(places)


@torch.no_grad()
def ask_texts(model: TextModel, texts: list[str], batch_size: int = 64) -> Tensor:
    """Logits [N, T] of all texts, a batch at a time and without gradients."""
    return torch.cat([model(texts[i : i + batch_size]).detach() for i in range(0, len(texts), batch_size)])


def common_words(texts: Sequence[str], most: int = 300) -> list[str]:
    """The most frequent words of a target's own training texts, stop words aside."""
    counted = Counter(w.lower() for t in texts for w in re.findall(r"[^\W\d_]{3,}", t))
    return [w for w, _ in counted.most_common() if w not in STOP_WORDS][:most]
