"""What mappings that read a pool of inputs without labels share: which values they read, the space, calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import OutputMapping, SourceOutput, SourceSpec, Tap, TargetInfo
from reprogram.outputs._graph import NeighbourGraph, nearest, neighbour_graph
from reprogram.outputs._space import principal
from reprogram.outputs.ridge_taps import RidgeTaps

MOST_ROWS = 20_000  # of a pool that a program learns from; more are thinned evenly
MOST_EXAMPLES = 2000  # labelled: each of them spreads over the whole graph
SAME = 1e-3  # of the usual squared distance between neighbours: a pool row so near to a labelled example is that example
FEW = 0.5  # standard deviation of the logarithm of a temperature, before any label is seen


class PoolReader:
    """Values of source outputs, block by block as ``output=ridge_taps`` reads them."""

    def __init__(self, spec: SourceSpec, target: TargetInfo, layers: Sequence[str], head: bool, average: int) -> None:
        self.ridge = RidgeTaps(layers=tuple(layers), head=head, average=average)
        self.ridge.build(spec, target)
        only_answers = not self.ridge.taps() and not self.ridge._features  # a black-box (query-only) model
        self.standard = self.ridge._how == "standard" or only_answers

    def taps(self) -> tuple[Tap, ...]:
        return self.ridge.taps()

    def width(self, outputs: list[SourceOutput]) -> int:
        """D of :meth:`values`."""
        return sum(block.shape[1] for block in self.blocks([_first(output) for output in outputs]))

    def blocks(self, outputs: list[SourceOutput]) -> list[Tensor]:
        return self.ridge.blocks(outputs)

    def fitted(self, outputs: list[SourceOutput], width: int, method: str) -> Tensor:
        """[B, D] for a mapping that was fitted on ``width`` values (0: not yet). Raises SourceError."""
        if not width:
            raise SourceError(f"output={method} must be fitted before it answers")
        values = torch.cat(self.blocks(outputs), 1)
        if values.shape[1] != width:
            raise SourceError(f"The program reads {width} values an example; the source gives {values.shape[1]}")
        return values

    def values(self, outputs: list[SourceOutput]) -> Tensor:
        """[N, D]. Raises SourceError where one is not finite."""
        values = torch.cat(self.blocks([output.detach() for output in outputs]), 1)
        if not torch.isfinite(values).all():
            row = int(torch.nonzero(~torch.isfinite(values).all(1))[0])
            raise SourceError(f"The source answers NaN or infinity for row {row} of the labelled or unlabelled inputs")
        return values


class PoolMemory:
    """The pool as it was observed: its space and its graph are learned once, whatever labels come after. points [N, p]."""

    def __init__(self, reader: PoolReader, outputs: list[SourceOutput], components: int) -> None:
        outputs = [_rows(output, thinned(len(output.logits), MOST_ROWS)) for output in outputs]
        values = reader.values(outputs)
        sizes = [block.shape[1] for block in reader.blocks([_first(output) for output in outputs])]
        self.space = principal(values.split(sizes, 1), components, reader.standard)
        self.points = self.space(values)
        self._usual: float | None = None
        self._graphs: dict[int, NeighbourGraph] = {}

    def place(self, values: Tensor) -> tuple[Tensor, np.ndarray]:
        """(nodes, where each labelled row [n, D] stands among them): its own row of the pool, or one more behind it."""
        if len(values) > MOST_EXAMPLES:
            raise ConfigError(
                f"A pool is read for up to {MOST_EXAMPLES} labelled examples, here are {len(values)}: "
                "with so many labels use output=ridge_taps."
            )
        labelled = self.space(values)
        squares, own = nearest(labelled, self.points, 1)
        found = (squares[:, 0] <= SAME * self.usual()).cpu().numpy()
        where = own[:, 0].cpu().numpy()
        repeated = np.ones(len(where), bool)
        repeated[np.unique(np.where(found, where, -1 - np.arange(len(where))), return_index=True)[1]] = False
        found &= ~repeated  # two labelled examples never share a node
        where[~found] = len(self.points) + np.arange((~found).sum())
        return torch.cat([self.points, labelled[torch.from_numpy(~found)]]), where

    def graph(self, nodes: Tensor, neighbours: int) -> NeighbourGraph:
        """The graph of the nodes; kept where they are the pool alone."""
        if len(nodes) > len(self.points):
            return neighbour_graph(nodes.cpu(), neighbours)
        if neighbours not in self._graphs:
            self._graphs[neighbours] = neighbour_graph(self.points.cpu(), neighbours)
        return self._graphs[neighbours]

    def usual(self) -> float:
        """Squared distance between neighbours of the pool, as it usually is."""
        if self._usual is None:
            sample = self.points[thinned(len(self.points), 500)]
            self._usual = float(nearest(sample, self.points, min(2, len(self.points)))[0][:, -1].median())
        return self._usual


def thinned(count: int, most: int) -> Tensor:
    """At most ``most`` row numbers of ``count``, evenly spread."""
    return torch.linspace(0, count - 1, min(count, int(most)), dtype=torch.float64).round().long()


def pool_of(mapping: OutputMapping, pool: PoolMemory | None) -> PoolMemory:
    if pool is None:
        raise ConfigError(f"output={mapping.name} needs inputs without labels: give target.unlabelled")
    return pool


def one_hot(labels: Tensor, columns: int, problem: str) -> np.ndarray:
    """[n, T] in float64; multilabel and regression as they are, NaN for missing."""
    if problem == "classification":
        return torch.nn.functional.one_hot(labels.cpu().long(), columns).double().numpy()
    return labels.cpu().double().reshape(len(labels), -1).numpy()


def foreseeable(labels: np.ndarray) -> np.ndarray:
    """[n]: one-hot labels whose class has another example; an only one cannot be foreseen by the rest."""
    return labels.sum(0)[labels.argmax(1)] > 1


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Factor of left-out logits [n, T] of highest likelihood for one-hot labels, drawn towards 1 where labels are few."""
    seen = foreseeable(labels)
    loss = []
    factors = 2.0 ** np.linspace(-3, 2, 41)
    for factor in factors:
        scaled = logits[seen] * factor
        scaled = scaled - np.logaddexp.reduce(scaled, 1, keepdims=True) if len(scaled) else scaled
        likelihood = np.maximum((scaled * labels[seen]).sum(1), -7.0)
        loss.append(0.5 * (np.log(factor) / FEW) ** 2 - likelihood.sum())
    return float(factors[int(np.argmin(loss))])


def _first(output: SourceOutput) -> SourceOutput:
    return _rows(output, torch.zeros(1, dtype=torch.long))


def _rows(output: SourceOutput, rows: Tensor) -> SourceOutput:
    rows = rows.to(output.logits.device)
    features = None if output.features is None else output.features[rows]
    return SourceOutput(output.logits[rows], features, {tap: value[rows] for tap, value in output.taps.items()})
