"""Orthogonal matching pursuit over a large frozen dictionary, for many signals at once.

Rubinstein, Zibulevsky & Elad 2008, "Efficient implementation of the K-SVD algorithm using batch orthogonal matching
pursuit": with the Gram matrix of the atoms, correlations of the residual follow from coefficients alone. The Gram matrix
of a 30,000-word vocabulary would take 3.7 GB, so atoms are preselected first.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 128  # signals coded at a time


def preselect(signals: Tensor, atoms: Tensor, most: int) -> Tensor:
    """Ids [about ``most``], sorted, of the atoms that correlate best with any signal; each signal has its say.

    signals [T, D], atoms [V, D]. Every signal puts in its ``most / T`` best atoms, at least 8.
    """
    each = min(len(atoms), max(8, -(-most // len(signals))))
    lengths = atoms.norm(dim=1).clamp_min(1e-12)
    best = [((part @ atoms.T).abs() / lengths).topk(each, dim=1).indices for part in signals.split(CHUNK)]
    return torch.cat(best).unique()


def matching_pursuit(signals: Tensor, atoms: Tensor, sparsity: int) -> tuple[Tensor, Tensor]:
    """Each signal as a combination of at most ``sparsity`` atoms, chosen greedily and refitted at every step.

    signals [T, D], atoms [M, D] of any length -> atom ids [T, k] in order of choice, weights [T, k] of the atoms as given
    (zero once a signal is explained), k = min(sparsity, M).
    """
    lengths = atoms.norm(dim=1).clamp_min(1e-12)
    unit = atoms / lengths[:, None]
    gram = unit @ unit.T
    parts = [_pursue(part @ unit.T, gram, min(sparsity, len(atoms))) for part in signals.split(CHUNK)]
    ids, weights = (torch.cat(column) for column in zip(*parts))
    return ids, weights / lengths[ids]


def _pursue(start: Tensor, gram: Tensor, sparsity: int) -> tuple[Tensor, Tensor]:
    """start [T, M]: correlations of the signals with unit atoms. -> ids, weights [T, k]."""
    rows = torch.arange(len(start), device=start.device)
    free = torch.ones_like(start, dtype=torch.bool)
    floor = torch.finfo(start.dtype).eps * 10 * start.abs().amax(1, keepdim=True).clamp_min(1e-30)
    ids = torch.empty(len(start), 0, dtype=torch.long, device=start.device)
    weights, residual = start.new_zeros(len(start), 0), start
    live = torch.ones(len(start), 0, dtype=torch.bool, device=start.device)
    for _ in range(sparsity):
        strength = residual.abs().masked_fill(~free, -1.0)
        best = strength.argmax(1)
        ids = torch.cat([ids, best[:, None]], 1)
        free[rows, best] = False
        live = torch.cat(
            [live, strength.gather(1, best[:, None]) > floor], 1
        )  # an explained signal takes no more atoms
        inner = gram[ids[:, :, None], ids[:, None, :]]
        both = live[:, :, None] & live[:, None, :]
        inner = torch.where(both, inner, torch.eye(ids.shape[1], dtype=inner.dtype, device=inner.device))
        right = start.gather(1, ids) * live
        weights = (
            torch.linalg.lstsq(inner.double(), right.double()[:, :, None]).solution[:, :, 0].to(start.dtype) * live
        )
        residual = start - torch.einsum("tk,tkm->tm", weights, gram[ids])
    return ids, weights
