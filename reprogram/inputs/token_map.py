"""R2DL: every target token is a sparse combination of frozen source tokens (Vinod, Chen & Das 2020, arXiv 2012.03460)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError
from reprogram.inputs._sparse_coding import matching_pursuit, preselect
from reprogram.inputs._tokens import cut, embed, vocabulary_of
from reprogram.inputs.dense_token_map import compositions, first_sources, readable
from reprogram.interfaces import Explanation, InputTransformation, SourceSpec, TargetInfo
from reprogram.ranges import Count, Range
from reprogram.tokenization import TargetTokens


@dataclass(eq=False)
class TokenMap(InputTransformation):
    """V_T ≈ Θ V_S with at most ``sparsity`` entries in a row of Θ, the source embeddings V_S frozen.

    Training alternates: the task's gradient moves V_T, and every ``every`` steps orthogonal matching pursuit writes V_T as
    a sparse Θ again. The model always reads Θ V_S; the gradient passes through the projection as if it were not there
    (straight-through). The dictionary never changes, so this is sparse coding and not k-SVD's atom update.

    tokens: ``amino_acids``, ``characters`` or those of another modality. start: ``names`` or ``spelling``, as for
    ``input=dense_token_map``. atoms: source tokens that a projection chooses from, preselected by correlation.
    """

    tokens: str = "smiles"
    sparsity: Annotated[int, Range(1, 1000)] = 8
    every: Count = 5
    atoms: Count = 2048
    start: str = "names"

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if self.sparsity < 1 or self.every < 1 or self.atoms < self.sparsity:
            raise ConfigError(
                f"input.sparsity={self.sparsity} and input.every={self.every} must be at least 1, and input.atoms="
                f"{self.atoms} at least input.sparsity."
            )
        self._vocabulary, self._longest = vocabulary_of(spec, self.name), spec.size
        self._target = TargetTokens(self.tokens)
        frozen = self._vocabulary.embeddings().detach()
        start = [frozen[ids].mean(0) for ids in first_sources(self._target, self._vocabulary.encode, self.start)]
        self.dense = nn.Parameter(torch.stack(start).float())
        self.ids = nn.Buffer(torch.zeros(len(start), min(self.sparsity, len(frozen)), dtype=torch.long))
        self.weights = nn.Buffer(torch.zeros(self.ids.shape))
        self._steps = 0
        self.project()

    @torch.no_grad()
    def project(self) -> None:
        """The sparse Θ nearest to the present V_T."""
        frozen = self._vocabulary.embeddings().detach().float()
        chosen = preselect(self.dense, frozen, self.atoms)
        ids, weights = matching_pursuit(self.dense, frozen[chosen], self.sparsity)
        self.ids.copy_(chosen[ids])
        self.weights.copy_(weights)
        self._stale = False

    def table(self) -> Tensor:
        """Embeddings of the target tokens as the model reads them, Θ V_S [T, D]."""
        frozen = self._vocabulary.embeddings().detach()
        ids = self.ids.clamp(0, len(frozen) - 1)  # a program from a stranger may name any number
        return torch.einsum("tk,tkd->td", self.weights, frozen[ids].float())

    def tokenised(self, batch: Sequence[str]) -> list[list[str]]:
        return []  # the target's own tokens are read, whatever the source's tokenizer would make of the strings

    def cut(self, batch: Sequence[str]) -> int:
        return cut([self._target.encode(text) for text in batch], self._vocabulary, self._longest)

    def forward(self, batch: Sequence[str]) -> list[dict[str, Tensor]]:
        table = self.table()
        if self.training and torch.is_grad_enabled():
            self._steps += 1
            self._stale = True
            if self._steps % self.every == 0:
                self.project()
                table = self.table()
            table = table + self.dense - self.dense.detach()
        elif self.training:  # a search that sees losses only moves V_T and must see what comes of it
            self.project()
            self._stale = True
            table = self.table()
        return [embed([self._target.encode(text) for text in batch], table, self._vocabulary, self._longest)]

    def train(self, mode: bool = True) -> TokenMap:
        """Going to evaluation projects once more, so that the last gradient steps count."""
        if not mode and getattr(self, "_stale", False):
            self.project()
        return super().train(mode)

    def composition(self) -> dict[str, list[tuple[str, float]]]:
        """Target token -> the source tokens that it is made of, with weights."""
        return readable(self._target.tokens, self._vocabulary.tokens, self.ids, self.weights)

    def explain(self) -> list[Explanation]:
        return [compositions(self.composition())]
