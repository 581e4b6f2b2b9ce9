"""Labels spread over a graph of the pool: near inputs have like labels, along chains of inputs that nobody labelled.

(I - αS)⁻¹Y on the nearest neighbours of labelled examples and pool in a space of the frozen model's layers (Zhou et al.
2004; Iscen et al. 2019; :mod:`reprogram.outputs._graph`). What is kept is the space, a part of the pool in half precision
and its spread labels; a new input takes the kernel-weighted mean of its nearest kept rows, which for a pool row is what
the graph says (Delalleau et al. 2005). Left-out answers are exact and free: a label has no say in its own.
Strong where classes lie on curved sheets (drawings, peptides); see ``docs/results/label_budget.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError
from reprogram.interfaces import OutputMapping, SourceOutput, SourceSpec, Tap, TargetInfo
from reprogram.outputs._graph import affinity, nearest, spread
from reprogram.outputs._pool import PoolMemory, PoolReader, one_hot, pool_of, temperature, thinned

LARGEST = 1_000_000  # bytes kept of space and pool
SPACE_SHARE = 0.45  # of them at most, for the basis of the space
NOWHERE = 1e-12  # of the largest mass: less than this of labels has not arrived
WIDEST = 5_000_000  # numbers; a program from a stranger cannot ask for all memory


@dataclass(eq=False)
class Diffusion(OutputMapping):
    """Classification, multilabel (NaN = missing label) and regression; needs the pool (:meth:`observe_pool`) before fit.

    layers, head, average: what is read, as in ``output=ridge_taps``. components: of the space, fewer where the values read
    are so many that the program would pass 1 MB. neighbours: k of the graph. alpha: how far labels travel, 0 to below 1.
    balanced: every class sends out the same amount. width, rows, size: D, pool rows and components kept, written by fit.
    """

    layers: tuple[str, ...] = ()
    head: bool = True
    average: int = 1
    components: int = 32
    neighbours: int = 10
    alpha: float = 0.9
    balanced: bool = True
    width: int = 0
    rows: int = 0
    size: int = 0

    closed_form: ClassVar[bool] = True
    reads_pool: ClassVar[bool] = True

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if not 0 <= self.alpha < 1:
            raise ConfigError(f"output.alpha is {self.alpha}; allowed: 0 to below 1")
        if self.neighbours < 1 or self.components < 1:
            raise ConfigError(
                f"output.neighbours={self.neighbours} and output.components={self.components} must be at least 1"
            )
        self._reader = PoolReader(spec, target, self.layers, self.head, self.average)
        self._problem, self._columns = target.problem, len(target.classes)
        self._pool: PoolMemory | None = None
        self._allocate()

    def _allocate(self) -> None:
        kept = self.width * (3 + self.size) + self.rows * (self.size + self._columns)
        if min(self.width, self.rows, self.size) < 0 or kept > WIDEST:
            raise ConfigError(f"output.width={self.width}, rows={self.rows}, size={self.size} are more than is kept.")
        half = torch.float16
        self.centre: Tensor = nn.Buffer(torch.zeros(self.width))
        self.scale: Tensor = nn.Buffer(torch.ones(self.width))
        self.limit: Tensor = nn.Buffer(torch.ones(self.width))
        self.basis: Tensor = nn.Buffer(torch.zeros(self.width, self.size, dtype=half))
        self.points: Tensor = nn.Buffer(torch.zeros(self.rows, self.size, dtype=half))
        self.spacing: Tensor = nn.Buffer(torch.ones(self.rows))
        self.answers: Tensor = nn.Buffer(torch.zeros(self.rows, self._columns, dtype=half))
        self.mass: Tensor = nn.Buffer(torch.zeros(self.rows, self._masses(), dtype=half))
        self.sharp: Tensor = nn.Buffer(torch.ones(()))

    def _masses(self) -> int:
        """Classes share their labelled rows; other columns have each their own."""
        return 1 if self._problem == "classification" else self._columns

    def taps(self) -> tuple[Tap, ...]:
        return self._reader.taps()

    @torch.no_grad()
    def observe_pool(self, outputs: list[SourceOutput]) -> None:
        width = self._reader.width(outputs)
        most = max(4, int(SPACE_SHARE * LARGEST / (2 * width)))
        self._pool = PoolMemory(self._reader, outputs, min(self.components, most))

    @torch.no_grad()
    def fit(self, outputs: list[SourceOutput], labels: Tensor) -> None:
        pool = pool_of(self, self._pool)
        points, where = pool.place(self._reader.values(outputs))
        targets = one_hot(labels, self._columns, self._problem)
        sent = spread(pool.graph(points, self.neighbours), where, self.alpha)
        answers, mass = self._received(sent, targets)
        left_out, _ = self._received(sent[where] * (1.0 - np.eye(len(where))), targets)
        self._keep(pool, points, where, answers, mass)
        left = self._logits(torch.from_numpy(left_out).float())
        if self._problem == "classification":
            self.sharp = torch.tensor(temperature(left.numpy(), targets))
        self.left_out = left * self.sharp
        self.to(outputs[0].logits.device)

    def _received(self, sent: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Answers [N, T] and log mass [N, m] of labels [n, T] of which each node receives ``sent`` [N, n]."""
        known = ~np.isnan(targets)
        given = np.where(known, targets, 0.0)
        middle = given.sum(0) / np.maximum(known.sum(0), 1)
        share = known.astype(float)
        if self._problem == "classification" and self.balanced:
            share /= given.sum(0)[targets.argmax(1)][:, None]
        mass = sent @ share
        nothing = NOWHERE * max(mass.max(), 1e-300)  # where no label arrives, the mean of all
        answers = (sent @ (share * given) + nothing * middle) / (mass + nothing)
        return answers, np.log(mass[:, : self._masses()] + nothing)

    def _keep(
        self, pool: PoolMemory, points: Tensor, where: np.ndarray, answers: np.ndarray, mass: np.ndarray
    ) -> None:
        """Space and nodes within :data:`LARGEST` bytes: the labelled ones, and the others thinned evenly."""
        space = pool.space
        self.width, self.size = space.basis.shape
        each = 2 * (self.size + self._columns + self._masses()) + 4
        room = LARGEST - 2 * self.width * (self.size + 6)
        chosen = _labelled_first(len(points), where, max(64, room // each))
        self.rows = len(chosen)
        self._allocate()
        self.centre, self.scale, self.limit = space.centre, space.scale, space.limit
        self.basis, self.points = space.basis.half(), points[chosen].half()
        kept = self.points.float()
        squares, _ = nearest(kept, kept, min(self.neighbours, len(kept) - 1), skip_self=True)
        self.spacing = squares[:, -1].sqrt()
        rows = chosen.cpu().numpy()
        self.answers = torch.from_numpy(answers[rows]).half()
        self.mass = torch.from_numpy(mass[rows] - mass[rows].max()).half()

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        """Calibrated logits [B, T]; regression: values [B, 1]."""
        values = self._reader.fitted(outputs, self.width if self.rows else 0, self.name)
        with torch.autocast(values.device.type, enabled=False):
            scaled = ((values.float() - self.centre) * self.scale).clamp(-self.limit, self.limit)
            weight, index = affinity(
                scaled @ self.basis.float(), self.points.float(), self.spacing, min(self.neighbours, self.rows)
            )
            share = (weight[:, :, None] + self.mass.float()[index]).softmax(1)  # kernel times mass, whatever its size
            return self._logits((share * self.answers.float()[index]).sum(1)) * self.sharp

    def _logits(self, answers: Tensor) -> Tensor:
        if self._problem == "regression":
            return answers
        return torch.logit(answers, eps=1e-3) if self._problem == "multilabel" else answers.clamp_min(1e-4).log()


def _labelled_first(count: int, where: np.ndarray, most: int) -> Tensor:
    """At most ``most`` node numbers of ``count``: the labelled ones (thinned only if alone too many), then the others."""
    labelled = where[thinned(len(where), most).numpy()]
    others = np.setdiff1d(np.arange(count), where)
    return torch.from_numpy(np.concatenate([labelled, others[thinned(len(others), most - len(labelled)).numpy()]]))
