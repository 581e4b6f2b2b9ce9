"""Plain features of strings: composition, k-mers, TF-IDF. For baselines, and for hybrid programs where they need no fit."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from reprogram.interfaces import Featuriser

SPREAD = 0.05  # of a letter's share in peptides; brings the values to spreads of about one
TYPICAL_LENGTH = 20.0  # letters
LINKS = ("http://", "https://")
WORD = re.compile(r"https?://\S+|\w+|[^\w\s]")


class Composition(Featuriser):
    """Share of each letter in units of 0.05, and the length in units of 20: [B, letters + 1].

    What no sequence model should lose to; where it wins, the classes differ in length and composition alone.
    """

    models = ("logistic", "forest")

    def __init__(self, alphabet: str) -> None:
        self.alphabet = alphabet

    def __call__(self, batch: Sequence[str]) -> np.ndarray:
        rows = np.zeros((len(batch), len(self.alphabet) + 1), dtype=np.float32)
        for i, text in enumerate(batch):
            rows[i, :-1] = [text.count(letter) / max(len(text), 1) / SPREAD for letter in self.alphabet]
            rows[i, -1] = len(text) / TYPICAL_LENGTH
        return rows


class KMers(Featuriser):
    """Counts of all substrings of up to ``k`` letters, hashed to ``width`` columns, each row of length 1: [B, width]."""

    def __init__(self, k: int = 3, width: int = 4096) -> None:
        self.k, self.width = k, width

    def __call__(self, batch: Sequence[str]) -> np.ndarray:
        rows = np.zeros((len(batch), self.width), dtype=np.float32)
        for i, text in enumerate(batch):
            for size in range(1, self.k + 1):
                for start in range(len(text) - size + 1):
                    rows[i, zlib.crc32(text[start : start + size].encode()) % self.width] += 1.0
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


class Spelling(Featuriser):
    """Sub-linear counts of character n-grams within words, three to five letters, hashed to ``width`` columns, rows of length
    1: [B, width]. What TF-IDF on spelling reads, without a vocabulary to keep."""

    def __init__(self, width: int = 4096) -> None:
        self.width = width

    def __call__(self, batch: Sequence[str]) -> np.ndarray:
        return _hashed(batch, self.width, analyzer="char_wb", ngram_range=(3, 5))


class Words(Featuriser):
    """Sub-linear counts of words, links and single punctuation marks, hashed to ``width`` columns, rows of length 1: [B, width].

    How a text is written, its quotation marks, exclamations and links, and what it begins and ends with, tells authors apart;
    an encoder that was trained on what sentences mean keeps little of it. All links count as one word; the first and the last
    word or mark count once more as such.
    """

    def __init__(self, width: int = 4096) -> None:
        self.width = width

    def __call__(self, batch: Sequence[str]) -> np.ndarray:
        return _hashed(batch, self.width, analyzer=_words)


def _words(text: str) -> list[str]:
    """Words and marks of a text; what this adds of links and ends has a space, as no word of a text does."""
    found = ["link " if word.startswith(LINKS) else word for word in WORD.findall(text.lower())]
    return [*found, f"first {found[0]}", f"last {found[-1]}"] if found else []


def _hashed(batch: Sequence[str], width: int, **options: Any) -> np.ndarray:
    """log(1 + counts) in ``width`` columns, rows of length 1."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.preprocessing import normalize

    counts = HashingVectorizer(n_features=width, norm=None, alternate_sign=False, **options).transform(list(batch))
    counts.data = np.log1p(counts.data)
    return normalize(counts).toarray().astype(np.float32)


class TfIdf(Featuriser):
    """Sub-linear TF-IDF, vocabulary from the training strings: sparse [B, words], rows of length 1.

    reading: ``symbols`` (any run of characters is a word, so that a table of symbols has a vocabulary too; words and word
    pairs), ``words`` (words of letters without English stop words), ``spelling`` (those, and character n-grams within
    words). A baseline chooses among all three on the training labels.
    """

    models = ("logistic", "complement_nb")
    readings = ("symbols", "words", "spelling")

    def __init__(self, most_words: int = 20_000, reading: str = "symbols") -> None:
        self.most_words, self.reading = most_words, reading
        self._vectoriser: Any = None

    def variants(self) -> list[Featuriser]:
        return [TfIdf(self.most_words, reading) for reading in self.readings]

    def fit(self, inputs: Sequence[str]) -> None:
        strings = list(inputs)
        for reading in (self.reading, "symbols"):
            try:
                self._vectoriser = self._made(reading).fit(strings)
                return
            except ValueError:  # only stop words, or no letter anywhere
                if reading == "symbols":
                    raise

    def _made(self, reading: str) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_union

        plain = {"max_features": self.most_words, "sublinear_tf": True}
        if reading == "symbols":
            return TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", **plain)
        words = TfidfVectorizer(stop_words="english", **plain)
        if reading == "words":
            return words
        return make_union(words, TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), **plain))

    def __call__(self, batch: Sequence[str]) -> Any:
        return self._vectoriser.transform(list(batch)).astype(np.float32).tocsr()
