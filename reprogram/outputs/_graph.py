"""Labels that spread over a graph of nearest neighbours, and what the graph says of a new point.

Zhou, Bousquet, Lal, Weston & Schölkopf 2004, "Learning with local and global consistency": (I - αS)⁻¹Y on
S = D^-½ W D^-½; on features of a frozen network: Iscen, Tolias, Avrithis & Chum 2019 (arXiv 1904.04717). Widths tune
themselves (Zelnik-Manor & Perona 2004): w = exp(-d² / (σᵢσⱼ)), σ the distance to the last of the k neighbours. With
P = D⁻¹W the solution is D^½(I - αP)⁻¹D^-½Y, and G = (I - αP)⁻¹D^-½Y obeys Gᵢ = α Σⱼ Pᵢⱼ Gⱼ wherever there is no label:
the same weighted mean of neighbours answers a new point (Delalleau, Bengio & Le Roux 2005, equation 6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

ROWS = 1024  # distances of so many rows with all others at a time
PRECISION, MOST_STEPS = 1e-9, 1000


@dataclass
class NeighbourGraph:
    """weights: symmetric [N, N] without a diagonal. degree [N]. width [N]: σ of each node."""

    weights: sparse.csr_array
    degree: np.ndarray
    width: Tensor

    def smooth(self) -> sparse.csr_array:
        """S = D^-½ W D^-½."""
        root = sparse.diags_array(1.0 / np.sqrt(self.degree))
        return sparse.csr_array(root @ self.weights @ root)


def nearest(points: Tensor, others: Tensor, count: int, skip_self: bool = False) -> tuple[Tensor, Tensor]:
    """(squared distances, indices), both [B, count], nearest first. ``skip_self``: row i is not its own neighbour."""
    squares = others.square().sum(1)
    distances, indices = [points.new_zeros(0, count)], [torch.zeros(0, count, dtype=torch.long, device=points.device)]
    for start in range(0, len(points), ROWS):
        part = points[start : start + ROWS]
        distance = (part.square().sum(1)[:, None] + squares - 2.0 * part @ others.T).clamp_min(0.0)
        if skip_self:
            row = torch.arange(len(part), device=part.device)
            distance[row, row + start] = float("inf")
        found = distance.topk(count, largest=False)
        distances.append(found.values)
        indices.append(found.indices)
    return torch.cat(distances), torch.cat(indices)


def neighbour_graph(points: Tensor, neighbours: int) -> NeighbourGraph:
    """Union of each point's ``neighbours`` nearest. points [N, p], N >= 2."""
    count = min(neighbours, len(points) - 1)
    squares, index = nearest(points, points, count, skip_self=True)
    width = squares[:, -1].sqrt().clamp_min(1e-12)
    weight = torch.exp(-squares / (width[:, None] * width[index]))
    row = np.repeat(np.arange(len(points)), count)
    half = sparse.csr_array((weight.double().numpy().ravel(), (row, index.numpy().ravel())), shape=(len(points),) * 2)
    weights = half.maximum(half.T).tocsr()
    return NeighbourGraph(weights, np.maximum(weights.sum(1), 1e-12), width)


def spread(graph: NeighbourGraph, labelled: np.ndarray, alpha: float) -> np.ndarray:
    """G [N, n] of unit labels on each of the ``labelled`` nodes: what each label gives to every node; G ≥ 0.

    Conjugate gradients on the symmetric form, all columns at once.
    """
    start = np.zeros((len(graph.degree), len(labelled)))
    start[labelled, np.arange(len(labelled))] = 1.0
    solved = _conjugate_gradients(graph.smooth(), alpha, start)
    return np.maximum(solved / np.sqrt(graph.degree)[:, None], 0.0)


def _conjugate_gradients(smooth: sparse.csr_array, alpha: float, wanted: np.ndarray) -> np.ndarray:
    """X with (I - α·smooth) X = wanted."""
    x, residual = np.zeros_like(wanted), wanted.copy()
    direction, energy = residual.copy(), (residual**2).sum(0)
    limit = PRECISION**2 * energy
    for _ in range(MOST_STEPS):
        image = direction - alpha * (smooth @ direction)
        step = energy / np.maximum((direction * image).sum(0), 1e-300)
        x += step * direction
        residual -= step * image
        before, energy = energy, (residual**2).sum(0)
        if (energy <= limit).all():
            break
        direction = residual + energy / np.maximum(before, 1e-300) * direction
    return x


def affinity(points: Tensor, known: Tensor, width: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """(log weights, indices), both [B, k]: how much each of the nearest ``known`` [n, p] counts for new ``points``."""
    squares, index = nearest(points, known, min(neighbours, len(known)))
    own = squares[:, -1].sqrt().clamp_min(1e-12)
    return -squares / (own[:, None] * width[index].clamp_min(1e-12)), index
