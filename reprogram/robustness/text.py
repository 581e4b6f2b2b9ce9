"""Attacks on models that read strings: a greedy search over words, with character edits and word swaps that only ask.

A model here is strings -> logits: ``model(list of B strings) -> [B, T]``. Every attack says what it may change and
counts what it asked.
"""

from __future__ import annotations

import re
import string
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from reprogram.progress import progress
from reprogram.robustness.losses import margin, wrong
from reprogram.robustness.rows import Row, share_row

TextModel = Callable[[list[str]], Tensor]
STOP_WORDS = frozenset(
    """a an and are as at be but by for from had has have he her his i if in is it its me my no nor not of on or our
    she so that the their them they this to us was we were what when which who will with you your""".split()  # noqa: SIM905
)


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

    most: int = 3
    seed: int = 0

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


@dataclass
class Characters(TextAttack):
    """Swap, substitute, delete or insert one character of a word (DeepWordBug, Gao et al. 2018, arXiv 1801.04354).

    tries: edits tried of each word. Words of one character, and the first and last of longer ones, stay readable.
    """

    tries: int = 8

    @property
    def constraint(self) -> str:
        return f"edit distance at most {2 * self.most}, one edit a word"

    def variants(self, words: list[str], place: int, rng: np.random.Generator) -> list[str]:
        word = words[place]
        if len(word) < 3:
            return []
        found = set()
        for _ in range(self.tries):
            i = int(rng.integers(1, len(word) - 1))
            letter = string.ascii_lowercase[int(rng.integers(26))]
            kind = int(rng.integers(4))
            edited = {
                0: word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :],
                1: word[:i] + letter + word[i + 1 :],
                2: word[:i] + word[i + 1 :],
                3: word[:i] + letter + word[i:],
            }[kind]
            found.add(edited)
        return sorted(found - {word})


@dataclass
class Words(TextAttack):
    """Swap whole words for neighbours in a table of embeddings (TextFooler, arXiv 1907.11932; cosine >= 0.5 as released).

    vocabulary, embeddings [V, D]: the table, e.g. the source's own word vectors. neighbours: tried of each word.
    """

    vocabulary: Sequence[str] = ()
    embeddings: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    neighbours: int = 10
    cosine: float = 0.5

    def __post_init__(self) -> None:
        self._rows = {word: i for i, word in enumerate(self.vocabulary)}
        self._unit = F.normalize(self.embeddings.float(), dim=1) if len(self.vocabulary) else self.embeddings

    @property
    def constraint(self) -> str:
        return f"at most {self.most} words, each for a neighbour of cosine >= {self.cosine:g}"

    def variants(self, words: list[str], place: int, rng: np.random.Generator) -> list[str]:
        word = words[place]
        row = self._rows.get(word.lower())
        if row is None:
            return []
        near = self._unit @ self._unit[row]
        near[row] = -1
        values, rows = near.topk(min(self.neighbours, len(near)))
        found = [self.vocabulary[int(i)] for i, v in zip(rows, values, strict=True) if float(v) >= self.cosine]
        return [f.capitalize() if word[0].isupper() else f for f in found if f.lower() not in STOP_WORDS]


@torch.no_grad()
def ask_texts(model: TextModel, texts: list[str], batch_size: int = 64) -> Tensor:
    return torch.cat([model(texts[i : i + batch_size]).detach() for i in range(0, len(texts), batch_size)])


def neighbour_words(encode: Callable[[list[str]], Tensor], vocabulary: Sequence[str], seed: int = 0) -> Words:
    """Word swaps over ``vocabulary``; ``encode`` (strings -> [B, D]) tells what is near."""
    with torch.no_grad():
        embeddings = torch.cat([encode(list(vocabulary[i : i + 64])) for i in range(0, len(vocabulary), 64)])
    return Words(seed=seed, vocabulary=list(vocabulary), embeddings=embeddings.cpu())


def clean(model: TextModel, texts: Sequence[str], labels: Tensor) -> Row:
    """Accuracy as it is."""
    return share_row("clean", "estimate", "none", ~wrong(ask_texts(model, list(texts)), labels).cpu())


def attacked(attack: TextAttack, model: TextModel, texts: Sequence[str], labels: Tensor) -> Row:
    """What an attack leaves of the accuracy, and what it asked and changed."""
    with progress(f"robustness: {attack.name}", len(texts)) as bar:
        found = attack(model, texts, labels, bar.advance)
    row = share_row(attack.name, "attack", attack.constraint, ~found.broken, queries=float(found.queries.mean()))
    row.more["words_changed"] = float(found.changed[found.broken].mean()) if bool(found.broken.any()) else None
    return row


def common_words(texts: Sequence[str], most: int = 300) -> list[str]:
    """The most frequent words of a target's own training texts, stop words aside."""
    counted = Counter(w.lower() for t in texts for w in re.findall(r"[^\W\d_]{3,}", t))
    return [w for w, _ in counted.most_common() if w not in STOP_WORDS][:most]
