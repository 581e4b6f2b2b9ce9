"""A fixed sentence around every string: tells a language model what it reads, or asks it to fill in an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reprogram.errors import ConfigError
from reprogram.inputs.text import Text, spaced
from reprogram.interfaces import SourceSpec, TargetInfo, Vocabulary
from reprogram.ranges import NotEmpty

MASKS = ("[MASK]", "<mask>")  # how people write the gap, whatever the model calls it


@dataclass(eq=False)
class PromptText(Text):
    """template: holds ``{}`` once, where the string goes, and for a masked model a mask where the answer is read, as in
    ``"{} . All in all, it was [MASK]."`` (a cloze question with a verbaliser: Schick & Schütze 2021, arXiv 2001.07676; the
    verbaliser is the output mapping). ``[MASK]``, ``<mask>`` and the model's own mask token mean the same.

    A string that is too long loses its end, never the sentence around it.
    """

    template: NotEmpty = "{}"

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        if self.template.count("{}") != 1:
            raise ConfigError(f"input.template '{self.template}' must hold {{}} once, where the string goes.")
        self._vocabulary, self._longest = spec.vocabulary, spec.size
        self._mask = None if spec.vocabulary is None else _mask_of(spec.vocabulary)
        self._sentence = self.template if spec.vocabulary is None else _with_mask(self.template, spec.vocabulary)
        if spec.vocabulary is not None and (used := self._tokens([""])[0]) >= spec.size:
            raise ConfigError(
                f"input.template takes {used} tokens and leaves no room for a string: the source reads {spec.size}."
            )

    def tokenised(self, batch: Sequence[str]) -> list[list[str]]:
        return [[self._around(spaced(text, kind)) for text in batch] for kind in self.tokens.split("+")]

    def forward(self, batch: Sequence[str]) -> list[list[str]]:
        return [self._fitted([spaced(text, kind) for text in batch]) for kind in self.tokens.split("+")]

    def _around(self, text: str) -> str:
        if self._mask is not None and self._mask in self._sentence:  # the question is asked once, not in the text
            text = text.replace(self._mask, " ")
        return self._sentence.replace("{}", text)

    def _tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens the source needs for each text in its sentence."""
        assert self._vocabulary is not None
        around = len(self._vocabulary.prefix) + len(self._vocabulary.suffix)
        return [len(ids) + around for ids in self._vocabulary.encode([self._around(text) for text in texts])]

    def _fitted(self, texts: list[str]) -> list[str]:
        """Each text in its sentence, its end left out where the whole would be too long: the longest part that fits."""
        if self._vocabulary is None:
            return [self._around(text) for text in texts]
        long = [i for i, count in enumerate(self._tokens(texts)) if count > self._longest]
        low, high = [0] * len(long), [len(texts[i]) for i in long]  # characters: surely fit, surely do not
        while any(end - start > 1 for start, end in zip(low, high, strict=True)):
            middle = [(start + end) // 2 for start, end in zip(low, high, strict=True)]
            counts = self._tokens([texts[i][:m] for i, m in zip(long, middle, strict=True)])
            for place, count in enumerate(counts):
                part = low if count <= self._longest else high
                part[place] = middle[place]
        kept = dict(zip(long, low, strict=True))
        return [self._around(text[: kept[i]] if i in kept else text) for i, text in enumerate(texts)]


def _mask_of(vocabulary: Vocabulary) -> str | None:
    return None if vocabulary.mask is None else vocabulary.tokens[vocabulary.mask]


def _with_mask(template: str, vocabulary: Vocabulary) -> str:
    """The template with the mask token as this source writes it. ConfigError for a mask where nothing is filled in."""
    own = _mask_of(vocabulary)
    spellings = [mask for mask in dict.fromkeys((*MASKS, *([own] if own else []))) if mask in template]
    if own is None and spellings:
        raise ConfigError(
            f"input.template has {spellings[0]}, but this source fills in no mask; take a masked language model "
            "(source.head=masked_lm), or a template that ends where the answer would stand."
        )
    for mask in spellings:
        template = template.replace(mask, str(own))
    if own is not None and template.count(own) > 1:
        raise ConfigError(f"input.template has the mask {template.count(own)} times; the answer is read at one place.")
    return template
