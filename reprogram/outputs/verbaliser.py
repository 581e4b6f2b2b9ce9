"""Which tokens of a language model say what a class is: label words, found from few labels.

A masked model fills in the mask of a sentence, a causal one what comes next (``input=prompt_text``); a verbaliser reads a
class from the tokens that stand for it (Schick & Schütze 2021, PET, arXiv 2001.07676). Finding them by likelihood ratio among
the tokens that the model finds likely is Schick, Schmid & Schütze 2020 (PETAL, arXiv 2010.13641); several words a class are
averaged there too. What is read is log p(token | input) less its mean over the classes of the training inputs: the bias
of the model and of the sentence falls out, as with a content-free input (Zhao et al. 2021, arXiv 2102.09690), but measured
on inputs of the target itself (Zhou et al. 2023, batch calibration, arXiv 2309.17249). The names of the classes are label
words too. All in closed form, from one pass. Measured: ``docs/results/verbaliser.md``.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError
from reprogram.interfaces import Explanation, SourceOutput, SourceSpec, TargetInfo, Vocabulary
from reprogram.outputs._counts import checked
from reprogram.outputs._ridge import highest_likelihood, inverse_temperature
from reprogram.outputs.base import LabelMapping
from reprogram.outputs.label_names import in_words
from reprogram.ranges import Amount, Count, Positive

WORDS = (1, 3, 10, 30, 100)  # found tokens a class
SHARES = (0.0, 0.5)  # of the class names in what is read, beside found tokens; they are also tried alone
USUAL_WORDS, USUAL_SHARE = 30, 0.5  # where no class has two labels to choose by
LEFT_OUT = 256  # examples that are left out in turn
SHOWN = 12  # tokens a class in the report
MOST = 4096  # tokens a class in a program; one from a stranger cannot ask for all memory
Option = tuple[int, float]  # found tokens a class, share of the names


@dataclass(eq=False)
class Verbaliser(LabelMapping):
    """Classification with a masked or causal language model; from zero labels on, by the words of the class names.

    words: tokens found for each class; null chooses among 1 … 100 by the likelihood of left-out examples.
    likely: among how many of the tokens that the model finds likely; rare ones differ between few examples by luck.
    names: the words of class names and ``target.descriptions`` (the first token of each) count too: not at all, half or
        alone, chosen the same way.
    smoothing: added to the deviation of a token within classes, in nats; keeps one that hardly moves in few examples
        from winning by luck.
    width: tokens a class in the program, written by :meth:`fit`.

    Saved: ``index`` [T, width], and how log-probabilities there are read, ``scale`` and ``centre`` [T, width].
    """

    words: Count | None = None
    likely: Count = 3000
    names: bool = True
    smoothing: Positive = 0.3
    width: Amount = 0

    closed_form: ClassVar[bool] = True
    without_labels: ClassVar[bool] = True

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if spec.vocabulary is None or not spec.labels:
            raise ConfigError(
                "output=verbaliser needs a source that fills in tokens (source=text with source.head=masked_lm or "
                "causal_lm); this one does not."
            )
        super().build(spec, target)
        self._tokens, self._classes = spec.labels, target.classes
        named = _words_of_names(spec.vocabulary, target, self.source_labels) if self.names else []
        self._named = named if named and all(named) else []
        if not 0 <= self.width <= MOST:
            raise ConfigError(f"output.width is {self.width}; at most {MOST} tokens a class are read.")
        shape = (self.target_labels, self.width)
        self.index: Tensor = nn.Buffer(torch.zeros(shape, dtype=torch.long))
        self.scale: Tensor = nn.Buffer(torch.zeros(shape))
        self.centre: Tensor = nn.Buffer(torch.zeros(shape))
        if self._named and not self.width:  # what is answered before any label is seen
            self._keep([(self._padded(), 1.0, torch.zeros(self.source_labels), torch.ones(self.source_labels))])

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        """Calibrated logits [B, T]; before any label was seen, log-probabilities of the words of the names."""
        if not self.index.shape[1]:
            raise ConfigError("output=verbaliser has no words yet: its class names have no tokens, and no label was seen.")
        read = _log_probabilities(outputs)[:, checked(self.index, self.source_labels)]
        return ((read.float() - self.centre) * self.scale).sum(2)

    @torch.no_grad()
    def fit(self, outputs: list[SourceOutput], labels: Tensor) -> None:
        values = _log_probabilities(outputs)
        one_hot = torch.nn.functional.one_hot(labels.long(), self.target_labels).to(values)
        likely = values.logsumexp(0).topk(min(self.likely, self.source_labels)).indices  # by inputs alone, not by labels
        named = self._padded().to(likely) if self._named else likely.new_zeros(self.target_labels, 0)
        looked_at = torch.cat([likely, named.clamp_min(0).flatten()])  # columns: likely tokens, then those of names
        learned = _Evidence(values[:, looked_at], one_hot, len(likely), self.smoothing)
        at = torch.arange(named.numel(), device=named.device).reshape(named.shape) + len(likely)
        names = at.masked_fill(named < 0, -1)
        (words, share), times = self._choose(learned, names)
        parts = [(learned.best(words), times * (1 - share))] if share < 1 else []
        parts += [(names, times * share)] if share > 0 else []
        self._keep([(columns, amount, learned.centre, learned.deviation) for columns, amount in parts])
        self.index = looked_at[self.index]

    def _choose(self, learned: _Evidence, names: Tensor) -> tuple[Option, float]:
        """The option of highest likelihood of the left-out examples, and the inverse temperature that suits it."""
        self.left_out = None
        options, one_hot = self._options(), learned.one_hot
        asked = torch.nonzero(one_hot @ one_hot.sum(0) > 1).flatten()  # a class without another example knows nothing
        if not len(asked):
            share = USUAL_SHARE if self._named else 0.0
            return (self.words or USUAL_WORDS, share), 1.0
        rows = asked[torch.linspace(0, len(asked) - 1, min(len(asked), LEFT_OUT)).round().long()]
        left_out = torch.stack([_left_out(learned, int(row), options, names) for row in rows], 1)
        best = int(highest_likelihood(left_out, one_hot[rows]).argmax())
        times = float(inverse_temperature(left_out[best], one_hot[rows], exclusive=True)[0])
        if len(rows) == len(one_hot):
            self.left_out = (left_out[best] * times).float()
        return options[best], times

    def _options(self) -> list[Option]:
        words = [self.words] if self.words else [n for n in WORDS if n <= self.source_labels]
        found = [(k, s) for k in words for s in (SHARES if self._named else SHARES[:1])]
        return [*found, (words[0], 1.0)] if self._named else found

    def _padded(self) -> Tensor:
        """[T, m] tokens of the names; -1 where a name has fewer than the longest."""
        longest = max(map(len, self._named))
        return torch.tensor([row + [-1] * (longest - len(row)) for row in self._named])

    def _keep(self, parts: list[tuple[Tensor, float, Tensor, Tensor]]) -> None:
        """Every part, (tokens [T, m] with -1 for none, its share, centre [S], deviation [S]), as one table of tokens."""
        index, scale, centre = [], [], []
        for tokens, share, middle, deviation in parts:
            there, place = tokens >= 0, tokens.clamp_min(0)
            index.append(place)
            scale.append(share * there / deviation[place] / there.sum(1, keepdim=True))
            centre.append(middle[place])
        self.index, self.scale, self.centre = torch.cat(index, 1), torch.cat(scale, 1).float(), torch.cat(centre, 1).float()
        self.width = self.index.shape[1]

    def weights(self) -> Tensor:
        """[S, T] how much each token counts for each class."""
        empty = torch.zeros(self.target_labels, self.source_labels, device=self.scale.device)
        return empty.scatter_add_(1, self.index, self.scale).T

    def explain(self) -> list[Explanation]:
        order = self.scale.argsort(dim=1, descending=True, stable=True)[:, :SHOWN]
        words = [" ".join(dict.fromkeys(shown(self._tokens[i]) for i in row)) for row in self.index.gather(1, order).tolist()]
        rows: list[tuple[object, ...]] = list(zip(self._classes, words, strict=True))
        note = "An input belongs to the class whose tokens the model finds more likely than usual after it."
        return [Explanation("Label words", ("class", "tokens"), rows, note)]


def shown(token: str) -> str:
    """A token as people read it, without the marks of its tokenizer."""
    return token.replace("Ġ", "").replace("▁", "").removeprefix("##") or token


def _left_out(learned: _Evidence, row: int, options: list[Option], names: Tensor) -> Tensor:
    """[options, T] logits of one example by what was learned without it."""
    without = learned.without(row)
    read = (learned.values[row] - without.centre) / without.deviation
    named = _mean(read, names) if names.numel() else torch.zeros(len(names)).to(read)
    ranked = without.best(max(words for words, _ in options))
    return torch.stack([(1 - share) * _mean(read, ranked[:, :words]) + share * named for words, share in options])


def _mean(read: Tensor, tokens: Tensor) -> Tensor:
    """[T] mean of ``read`` [S] over the tokens [T, m] of each class, -1 being none."""
    there = tokens >= 0
    return (read[tokens.clamp_min(0)] * there).sum(1) / there.sum(1)


def _log_probabilities(outputs: list[SourceOutput]) -> Tensor:
    """[B, S] of each token, averaged over views, float64."""
    return torch.stack([output.logits.double().log_softmax(1) for output in outputs]).mean(0)


def _words_of_names(vocabulary: Vocabulary, target: TargetInfo, known: int) -> list[list[int]]:
    """For each class the first token of every word of its name or description; empty where the source knows none."""
    found = []
    for name in target.descriptions or target.classes:
        words = [f" {word}" for word in in_words(name).split()]
        if vocabulary.unread is not None:
            words = [word for word, (missing, _) in zip(words, vocabulary.unread(words), strict=True) if not missing]
        first = [ids[0] for ids in vocabulary.encode(words) if ids] if words else []
        found.append([i for i in dict.fromkeys(first) if i < known])
    return found


class _Evidence:
    """What labelled log-probabilities [N, V] say of every token: sums a class, from which one example is taken out again.

    likely: the first so many tokens are those to choose from; what follows them belongs to the names.
    """

    def __init__(self, values: Tensor, one_hot: Tensor, likely: int, smoothing: float) -> None:
        self.values, self.one_hot, self.likely, self.smoothing = values, one_hot, likely, smoothing
        self.count, self.sums, self.squares = one_hot.sum(0), one_hot.T @ values, values.square().sum(0)
        self._conclude()

    def without(self, row: int) -> _Evidence:
        """The same of all examples but one."""
        other = copy.copy(self)
        value, label = self.values[row], self.one_hot[row]
        other.count = self.count - label
        other.sums, other.squares = self.sums - label[:, None] * value, self.squares - value.square()
        other._conclude()
        return other

    def _conclude(self) -> None:
        """mean [T, V] of each class, centre [V] over classes, deviation [V] within them, and smoothed by a constant."""
        self.seen = self.count > 0
        self.mean = self.sums / self.count.clamp_min(1)[:, None]
        self.centre = self.mean[self.seen].mean(0)
        within = self.squares - self.count @ self.mean.square()
        freedom = (self.count.sum() - self.seen.sum()).clamp_min(1)
        self.deviation = (within.clamp_min(0) / freedom).sqrt() + self.smoothing

    def best(self, words: int) -> Tensor:
        """[T, words] tokens of the highest log-likelihood ratio of a class to the others, in smoothed deviations. A class
        without an example gets those that say least."""
        ratio = ((self.mean - self.centre) / self.deviation)[:, : self.likely]
        ratio[~self.seen] = -ratio[self.seen].abs().amax(0)
        return ratio.topk(min(words, self.likely), 1).indices
