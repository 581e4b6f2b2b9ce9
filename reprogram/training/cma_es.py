"""CMA-ES in a random low-dimensional subspace (Hansen 2016, arXiv 1604.00772; the subspace as in black-box tuning, Sun et
al. 2022, arXiv 2201.03514): w = w_0 + A z, A [d, k] with orthonormal columns, z searched by the package ``cma``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.model import ReprogrammedModel
from reprogram.ranges import Positive, Range
from reprogram.training._zeroth_order import Losses, ZerothOrder, check_positive


@dataclass
class CmaEs(ZerothOrder):
    """subspace: k (all coordinates when there are no more). population: candidates of a generation, None for CMA-ES's
    own 4 + 3 ln k; a step is one generation and costs batch · population queries. std: first standard deviation of
    each parameter.
    """

    subspace: Annotated[int, Range(2, 10_000)] = 32
    population: Annotated[int, Range(3, 100_000)] | None = None
    std: Positive = 0.05

    def __post_init__(self) -> None:
        check_positive("training.optimiser", subspace=self.subspace, std=self.std)
        if self.population is not None and self.population < 3:
            raise ConfigError(f"training.optimiser.population={self.population} must be at least 3.")

    def start(self, model: ReprogrammedModel, total_steps: int, seed: int) -> None:
        super().start(model, total_steps, seed)
        self.begin(self.dimension, seed)

    def begin(self, dimension: int, seed: int) -> None:
        """A fresh search. ``cma`` gets its own random numbers: its ``seed`` option would set NumPy's global ones."""
        import cma

        k = min(self.subspace, dimension)
        basis = torch.randn(dimension, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        self.basis = torch.linalg.qr(basis).Q if k < dimension else torch.eye(k, dtype=torch.float64)
        self.origin: Tensor | None = None
        self.told: list[Tensor] = []
        rng = np.random.default_rng(seed)
        options: dict[str, Any] = {"verbose": -9, "seed": math.nan, "randn": lambda *shape: rng.standard_normal(shape)}
        if self.population is not None:
            options["popsize"] = self.population
        self.search = cma.CMAEvolutionStrategy(np.zeros(k), self.std * math.sqrt(dimension / k), options)

    def move(self, losses: Losses, start: Tensor, step: int) -> tuple[Tensor, float]:
        self.origin = start.detach().clone() if self.origin is None else self.origin.to(start.device)
        found = self.search.ask()
        values = losses(torch.stack([self._vector(z) for z in found]))
        self._tell(found, values)
        return self._vector(self.search.mean), float(values.mean())

    def _vector(self, z: np.ndarray) -> Tensor:
        assert self.origin is not None
        return self.origin + (self.basis @ torch.from_numpy(np.asarray(z))).to(self.origin)

    def _tell(self, found: list[np.ndarray], values: Tensor) -> None:
        self.told.append(values.detach().cpu().double())
        self.search.tell(found, self.told[-1].tolist())

    def state_dict(self) -> dict[str, Any]:
        """The losses of all generations: told again in order, they bring the whole search back, bit for bit."""
        told = torch.stack(self.told) if self.told else torch.empty(0, 0)
        return super().state_dict() | {"told": told, "origin": self.origin if self.told else torch.empty(0)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if len(state["told"]):
            self.origin = state["origin"]
        for values in state["told"]:
            self._tell(self.search.ask(), values)
