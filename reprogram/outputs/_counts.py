"""Which source labels answer which target labels: counted in the training pass, turned into a mapping once an epoch."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reprogram.errors import ArtifactError, ConfigError
from reprogram.interfaces import SourceOutput, SourceSpec, TargetInfo
from reprogram.outputs.base import LabelMapping, mean_logits
from reprogram.ranges import Seed


@dataclass(eq=False)
class CountedMapping(LabelMapping):
    """Base of the mappings made from statistics of the training pass.

    :meth:`evidence` turns a batch into [K, S, T] numbers that add up over batches; :meth:`remap` turns their sum into the
    mapping. Sums stay outside the saved state: they are empty whenever an epoch ends.
    """

    statistics: ClassVar[bool] = True

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        self._sums: Tensor | None = None

    @torch.no_grad()
    def observe(self, outputs: list[SourceOutput], labels: Tensor) -> None:
        logits = mean_logits(outputs).float()
        one_hot = torch.nn.functional.one_hot(labels.long(), self.target_labels).to(logits)
        seen = self.evidence(logits, one_hot)
        self._sums = seen if self._sums is None else self._sums + seen

    @torch.no_grad()
    def refresh(self) -> None:
        if self._sums is not None:
            self.remap(self._sums)
        self._sums = None

    def evidence(self, logits: Tensor, one_hot: Tensor) -> Tensor:
        """Logits [B, S] and labels [B, T] -> [2, S, T]: how often s was the top answer for t, and its probability."""
        top = torch.nn.functional.one_hot(logits.argmax(1), self.source_labels).to(logits)
        return torch.stack([top.T @ one_hot, logits.softmax(1).T @ one_hot]).double()

    @abstractmethod
    def remap(self, sums: Tensor) -> None:
        """Make the mapping from summed evidence [K, S, T]."""


def match_greedily(sums: Tensor, each: int = 1, seed: int = 0) -> Tensor:
    """[2, S, T] top answers and probabilities -> [T, each] different source labels, T·each in all.

    Repeatedly takes the largest count of the table, and drops its row, until every target label has ``each`` source
    labels. Equal counts are decided by summed probability, so that labels never come in the order 0, 1, 2, … by default;
    a target label without a single example gets unused source labels drawn by ``seed``.
    """
    hits, mass = sums.cpu().clone()
    sources, targets = hits.shape
    table = hits + mass / (mass.sum() + 1.0)  # the second term is below 1: it only decides between equal counts
    chosen: list[list[int]] = [[] for _ in range(targets)]
    present = mass.sum(0) > 0
    table[:, ~present] = -1.0
    for _ in range(each * int(present.sum())):
        source, target = divmod(int(table.argmax()), targets)
        chosen[target].append(source)
        table[source] = -1.0
        if len(chosen[target]) == each:
            table[:, target] = -1.0
    used = {s for row in chosen for s in row}
    order = torch.randperm(sources, generator=torch.Generator().manual_seed(seed)).tolist()
    spare = iter([s for s in order if s not in used])
    return torch.tensor([row + [next(spare) for _ in range(each - len(row))] for row in chosen])


def check_enough(mapping: LabelMapping, each: int = 1) -> None:
    """Every target label needs its own source labels."""
    needed = mapping.target_labels * each
    if needed > mapping.source_labels:
        raise ConfigError(
            f"output={mapping.name} gives each of {mapping.target_labels} target labels {each} of its own, but the source "
            f"has only {mapping.source_labels}; try output=bayesian or output=linear"
        )


def checked(index: Tensor, source_labels: int) -> Tensor:
    """The index of a loaded program, which must name source labels that exist."""
    if int(index.min()) < 0 or int(index.max()) >= source_labels:
        raise ArtifactError(f"The program maps source label {int(index.max())} of {source_labels}; it does not fit.")
    return index


def one_hot_weights(index: Tensor, source_labels: int) -> Tensor:
    """[T, m] chosen source labels -> [S, T] weights whose columns sum to 1."""
    each = index.shape[1]
    return torch.zeros(source_labels, len(index), device=index.device).scatter_(0, index.T, 1.0 / each)


@dataclass(eq=False)
class OneToOne(CountedMapping):
    """Each target label is one source label; ``index`` [T, 1]."""

    seed: Seed = 0

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        check_enough(self)
        order = torch.randperm(self.source_labels, generator=torch.Generator().manual_seed(self.seed))
        self.index: Tensor
        self.register_buffer("index", order[: self.target_labels, None].clone())

    def remap(self, sums: Tensor) -> None:
        self.index = match_greedily(sums, seed=self.seed).to(self.index.device)

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        return mean_logits(outputs)[:, checked(self.index, self.source_labels)[:, 0]]

    def weights(self) -> Tensor:
        return one_hot_weights(self.index, self.source_labels)
