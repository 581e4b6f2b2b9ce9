"""A few principal components of many layers, learned from inputs without labels.

Each block of values (a view of a tap) is centred and scaled to mean square norm 1, so that a layer with more channels does
not count for more; the components are those of the averaged kernel of all blocks. Randomised subspace iteration (Halko,
Martinsson & Tropp 2011, algorithm 4.4) with a fixed seed: a few passes over the rows, never a matrix of all pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

OVERSAMPLING, PASSES, ROWS = 16, 3, 2048
FARTHEST = 5.0  # standard deviations of a value read by its own deviation; a rare one must not carry a row away


@dataclass
class ScaledSpace:
    """x -> ((x - centre)·scale) @ basis: centre [D], scale [D], basis [D, p], components by falling variance.

    limit [D]: scaled values are cut at this distance from 0.
    """

    centre: Tensor
    scale: Tensor
    basis: Tensor
    limit: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """Rows [N, D] -> [N, p] in float32, in parts."""
        basis = self.basis.float()
        return torch.cat([self.scaled(part) @ basis for part in values.split(ROWS)])

    def scaled(self, values: Tensor) -> Tensor:
        """Values [N, D] on the scale of this space."""
        return ((values.float() - self.centre) * self.scale).clamp(-self.limit, self.limit)


def principal(blocks: Sequence[Tensor], components: int, standard: bool = False) -> ScaledSpace:
    """The space of the pool's rows. blocks: [N, D'] each. ``standard``: each value by its own deviation first.

    Fewer than ``components`` where there are fewer rows or values; a component without variance is left out.
    """
    centre = torch.cat([block.float().mean(0) for block in blocks])
    scales = [_scale(block.float(), standard) / len(blocks) ** 0.5 for block in blocks]
    scale = torch.cat(scales)
    spread = torch.cat([block.float().std(0, correction=0) for block in blocks])
    limit = FARTHEST * spread * scale if standard else torch.full_like(scale, torch.finfo(torch.float32).max)
    space = ScaledSpace(centre, scale, torch.zeros(0), limit)
    rows = space.scaled(torch.cat(list(blocks), 1))
    size = min(components + OVERSAMPLING, *rows.shape)
    start = torch.randn(rows.shape[1], size, generator=torch.Generator().manual_seed(0)).to(rows.device)
    basis = torch.linalg.qr(rows.T @ (rows @ start)).Q
    for _ in range(PASSES - 1):
        basis = torch.linalg.qr(rows.T @ (rows @ basis)).Q
    left = rows @ basis
    squares, vectors = torch.linalg.eigh(left.T @ left)
    order = squares.argsort(descending=True)[:components]
    order = order[squares[order] > 1e-6 * squares.max().clamp_min(1e-30)]
    basis = basis @ vectors[:, order]
    space.basis = basis * torch.sign(basis.gather(0, basis.abs().argmax(0, keepdim=True)))  # one sign everywhere
    return space


def _scale(block: Tensor, standard: bool) -> Tensor:
    """[D']: brings a block to mean square norm 1 around its mean; a value that never moves counts for nothing."""
    spread = block.std(0, correction=0)
    scale = torch.ones_like(spread)
    if standard:
        moves = spread > 1e-5 * (1.0 + block.mean(0).abs())
        scale = torch.where(moves, 1.0 / spread.clamp_min(1e-12), 0.0)
    return scale / (spread * scale).square().sum().sqrt().clamp_min(1e-12)
