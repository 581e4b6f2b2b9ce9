"""Every target token is a learned combination of all source tokens (ReprogBERT, Melnyk et al. 2022, arXiv 2210.07144)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError
from reprogram.inputs._tokens import cut, embed, vocabulary_of
from reprogram.interfaces import Explanation, InputTransformation, SourceSpec, TargetInfo
from reprogram.tokenization import TargetTokens


@dataclass(eq=False)
class DenseTokenMap(InputTransformation):
    """Embedding of target token t: θ_t · E with θ [T, V] trained and the source embeddings E [V, D] frozen.

    tokens: ``amino_acids``, ``characters`` or those of another modality. start: ``names`` (a token starts as the mean of the
    source tokens of its English name, as in *alanine*) or ``spelling`` (of the way it is written).
    """

    tokens: str = "smiles"
    start: str = "names"

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        self._vocabulary, self._longest = vocabulary_of(spec, self.name), spec.size
        self._target = TargetTokens(self.tokens)
        sources = first_sources(self._target, self._vocabulary.encode, self.start)
        theta = torch.zeros(len(sources), len(self._vocabulary.embeddings()))
        for row, ids in enumerate(sources):
            theta[row].index_add_(0, torch.tensor(ids), torch.full((len(ids),), 1.0 / len(ids)))
        self.theta = nn.Parameter(theta)

    def table(self) -> Tensor:
        """Embeddings of the target tokens, [T, D]."""
        return self.theta @ self._vocabulary.embeddings()

    def tokenised(self, batch: Sequence[str]) -> list[list[str]]:
        return []  # the target's own tokens are read, whatever the source's tokenizer would make of the strings

    def cut(self, batch: Sequence[str]) -> int:
        return cut([self._target.encode(text) for text in batch], self._vocabulary, self._longest)

    def forward(self, batch: Sequence[str]) -> list[dict[str, Tensor]]:
        rows = [self._target.encode(text) for text in batch]
        return [embed(rows, self.table(), self._vocabulary, self._longest)]

    def composition(self, most: int = 8) -> dict[str, list[tuple[str, float]]]:
        """Target token -> its ``most`` heaviest source tokens with weights: what the program taught the model."""
        heaviest = self.theta.detach().abs().topk(min(most, self.theta.shape[1]), dim=1).indices
        weights = self.theta.detach().gather(1, heaviest)
        return readable(self._target.tokens, self._vocabulary.tokens, heaviest, weights)

    def explain(self) -> list[Explanation]:
        return [compositions(self.composition())]


def first_sources(target: TargetTokens, encode, start: str) -> list[list[int]]:
    """Source token ids that each target token starts from; of a token that the source cannot read, its first token."""
    if start not in ("names", "spelling"):
        raise ConfigError(f"input.start={start} is not known; allowed: names, spelling")
    texts = target.names() if start == "names" else list(target.tokens)
    return [ids or [0] for ids in encode(texts)]


def readable(
    targets: Sequence[str], sources: Sequence[str], ids: Tensor, weights: Tensor
) -> dict[str, list[tuple[str, float]]]:
    """{target token: [(source token, weight), …]}, heaviest first, without zero weights."""
    made: dict[str, list[tuple[str, float]]] = {}
    for token, row, values in zip(targets, ids.tolist(), weights.tolist()):
        parts = [(sources[i] if i < len(sources) else f"<{i}>", v) for i, v in zip(row, values) if abs(v) > 1e-6]
        made[token] = sorted(parts, key=lambda part: -abs(part[1]))
    return made


def compositions(made: dict[str, list[tuple[str, float]]], most: int = 60) -> Explanation:
    """The report's table of what each target token is made of; tokens that begin with letters or brackets first."""
    order = sorted(made, key=lambda token: (not (token[:1].isalpha() or token[:1] == "["), token))
    rows = [(token, ", ".join(f"{source} {weight:+.2f}" for source, weight in made[token])) for token in order[:most]]
    return Explanation("What each target token is made of", ("target token", "source tokens and weights"), rows)
