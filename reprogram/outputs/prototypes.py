"""One centre a class, found from the labels and the pool together: soft clustering that starts at the labels.

Expectation-maximisation of Gaussian classes of equal weight that share one covariance, labelled examples fixed and counted
``weight`` times (Nigam, McCallum, Thrun & Mitchell 2000 for semi-supervised EM; a shared covariance makes it a
semi-supervised linear discriminant). The covariance is shrunk towards a ball by ``shrink``; 1 is soft k-means. What is
kept is linear in the values read, [D, T]: no row of the pool. Strong where each class is one heap (photographs in late
layers), weak where a class is several.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError
from reprogram.interfaces import OutputMapping, SourceOutput, SourceSpec, Tap, TargetInfo
from reprogram.outputs._pool import PoolMemory, PoolReader, one_hot, pool_of, temperature

STEPS, COVARIANCE_FROM = 20, 3
FOLDS = 10
WIDEST = 50_000_000  # weights; a program from a stranger cannot ask for all memory


@dataclass(eq=False)
class Prototypes(OutputMapping):
    """Classification; needs the pool (:meth:`observe_pool`) before fit.

    layers, head, average: what is read, as in ``output=ridge_taps``. components: of the space that clusters are sought in.
    firmness: inverse temperature, on a pool of mean square norm 1. shrink: of the shared covariance towards a ball, 0 to 1.
    weight: how many pool rows a labelled example counts for. width: D, written by fit.
    """

    layers: tuple[str, ...] = ()
    head: bool = True
    average: int = 1
    components: int = 64
    firmness: float = 10.0
    shrink: float = 1.0
    weight: float = 3.0
    width: int = 0

    closed_form: ClassVar[bool] = True
    reads_pool: ClassVar[bool] = True

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if target.problem != "classification":
            raise ConfigError(f"output=prototypes needs classes, but target {target.name} is {target.problem}")
        if not 0 < self.shrink <= 1 or not self.firmness > 0 or not self.weight > 0:
            raise ConfigError(
                f"output.shrink={self.shrink} must lie in (0, 1], output.firmness={self.firmness} and "
                f"output.weight={self.weight} above 0"
            )
        self._reader = PoolReader(spec, target, self.layers, self.head, self.average)
        self._columns = len(target.classes)
        self._pool: PoolMemory | None = None
        self._allocate()

    def _allocate(self) -> None:
        if not 0 <= self.width * (self._columns + 3) <= WIDEST:
            raise ConfigError(f"output.width is {self.width}; that is more than is kept")
        self.centre: Tensor = nn.Buffer(torch.zeros(self.width))
        self.scale: Tensor = nn.Buffer(torch.ones(self.width))
        self.limit: Tensor = nn.Buffer(torch.ones(self.width))
        self.weights_kept: Tensor = nn.Buffer(torch.zeros(self.width, self._columns, dtype=torch.float16))
        self.bias: Tensor = nn.Buffer(torch.zeros(self._columns))

    def taps(self) -> tuple[Tap, ...]:
        return self._reader.taps()

    @torch.no_grad()
    def observe_pool(self, outputs: list[SourceOutput]) -> None:
        self._pool = PoolMemory(self._reader, outputs, self.components)

    @torch.no_grad()
    def fit(self, outputs: list[SourceOutput], labels: Tensor) -> None:
        pool = pool_of(self, self._pool)
        targets = one_hot(labels, self._columns, "classification")
        nodes, where = pool.place(self._reader.values(outputs))
        order = np.concatenate([where, np.setdiff1d(np.arange(len(nodes)), where)])  # labelled rows first
        points = nodes.cpu().double().numpy()[order]
        left = self._left_out(points, targets)
        sharp = temperature(left, targets)
        weight, bias = self._cluster(points, targets, np.arange(len(targets)))
        self.left_out = torch.from_numpy(left * sharp).float()
        space = pool.space
        self.width = len(space.centre)
        self._allocate()
        self.centre, self.scale, self.limit = space.centre, space.scale, space.limit
        self.weights_kept = (space.basis @ torch.from_numpy(weight * sharp).float().to(space.basis.device)).half()
        self.bias = torch.from_numpy(bias * sharp).float()
        self.to(outputs[0].logits.device)

    def _left_out(self, points: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """[n, T] logits of labelled rows by clusterings that know the other folds' labels."""
        found = np.zeros_like(targets)
        order = np.argsort(targets.argmax(1), kind="stable")  # every class spread over the folds
        count = min(FOLDS, len(targets))
        for fold in range(count):
            held = order[fold::count]
            known = np.setdiff1d(np.arange(len(targets)), held)
            if len(known):
                weight, bias = self._cluster(points, targets, known)
                found[held] = points[held] @ weight + bias
        return found

    def _cluster(self, points: np.ndarray, targets: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Linear logits (weight [p, T], bias [T]) of clusters that start at the labels of the ``known`` rows."""
        given = targets[known]
        absent = given.sum(0) == 0
        centres = given.T @ points[known] / np.maximum(given.sum(0), 1)[:, None]
        metric, total = np.eye(points.shape[1]), points.var(0).sum()
        covariance = np.atleast_2d(np.cov(points.T, bias=True))
        amount = np.ones(len(points))
        amount[known] = self.weight
        whole = (points * amount[:, None]).T @ points / amount.sum()
        for step in range(STEPS + 1):
            factor = 2.0 * self.firmness / max(total, 1e-12)
            weight = factor * metric @ centres.T
            bias = np.where(absent, -1e3, -0.5 * (weight * centres.T).sum(0))
            if step == STEPS:
                break
            share = _softmax(points @ weight + bias)
            share[known] = given
            share *= amount[:, None]
            sizes = share.sum(0)
            centres = share.T @ points / np.maximum(sizes, 1e-9)[:, None]
            if self.shrink < 1 and step >= COVARIANCE_FROM:  # Σ over classes of the scatter around their centres
                within = whole - (centres.T * sizes / amount.sum()) @ centres
                ball = np.trace(within) / len(within) * np.eye(len(within))
                metric = np.linalg.inv((1 - self.shrink) * within + self.shrink * ball)
                total = np.einsum("ij,ij->", covariance, metric)
        return weight, bias

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        """Calibrated logits [B, T]."""
        values = self._reader.fitted(outputs, self.width, self.name)
        with torch.autocast(values.device.type, enabled=False):
            scaled = ((values.float() - self.centre) * self.scale).clamp(-self.limit, self.limit)
            return scaled @ self.weights_kept.float() + self.bias


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)
