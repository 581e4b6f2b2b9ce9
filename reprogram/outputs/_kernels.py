"""Gaussian-process regression with a short list of kernels, averaged by how well each explains the labels.

Rasmussen & Williams 2006: equation 2.30 (log marginal likelihood), 5.12 (left-out predictions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NOISES = tuple(10.0 ** (e / 2) for e in range(-4, 3))  # variance of the noise, on a kernel of mean diagonal about 1
LENGTHS = (6.0, 2.0)  # squared lengths of the radial kernels, where the mean squared distance is about 2


def radial(inner: Tensor, left: Tensor, right: Tensor, length: float) -> Tensor:
    """exp(-|x - x'|² / length) from inner products [B, n] and squared norms [B], [n]; scaled so that its slope at 0 is
    that of the linear kernel."""
    distance = (left[:, None] + right[None, :] - 2.0 * inner).clamp_min(0.0)
    return torch.exp(-distance / length) * (length / 2.0)


def tanimoto(left: Tensor, right: Tensor) -> Tensor:
    """Shared bits over all bits of 0/1 rows: [B, n]; 0 where both are empty."""
    shared = left @ right.T
    return shared / (left.sum(1)[:, None] + right.sum(1)[None, :] - shared).clamp_min(1.0)


@dataclass
class ProcessFit:
    """dual [m, n, t]: the prediction is Σ_base K_base(x, rows) · dual_base + bias. left_out [n, t]: each row predicted by
    the fit without it. share [c]: how much each candidate counts."""

    dual: Tensor
    bias: Tensor
    left_out: Tensor
    share: Tensor


def fit_process(
    bases: Tensor, candidates: Sequence[Sequence[float]], targets: Tensor, weight: Tensor, power: float = 1.0
) -> ProcessFit:
    """Average of the candidates by their marginal likelihood to ``power``, each with its most likely noise.

    bases [m, n, n]: kernels of the training rows. candidates: weights of the bases, [c][m]. targets [n, t] in float64.
    weight [n], mean 1: the noise of a row is the noise divided by its weight.
    """
    fits = [_fit_one(torch.einsum("m,mij->ij", torch.tensor(c, dtype=bases.dtype), bases), targets) for c in candidates]
    evidence = torch.tensor([f[0] for f in fits], dtype=torch.float64)
    share = torch.softmax(power * (evidence - evidence.max()), 0)
    dual = bases.new_zeros(len(bases), *targets.shape)
    bias, left_out = targets.new_zeros(targets.shape[1]), torch.zeros_like(targets)
    for part, (_, noise), candidate in zip(share.tolist(), fits, candidates):
        if part < 1e-3:
            continue
        kernel = torch.einsum("m,mij->ij", torch.tensor(candidate, dtype=bases.dtype), bases)
        alpha, intercept, left = _solve(kernel, targets, noise / weight)
        for base, amount in enumerate(candidate):
            dual[base] += part * amount * alpha
        bias, left_out = bias + part * intercept, left_out + part * left
    kept = share[share >= 1e-3].sum()
    return ProcessFit(dual / kept, bias / kept, left_out / kept, share)


def _fit_one(kernel: Tensor, targets: Tensor) -> tuple[float, float]:
    """(log marginal likelihood with the best scale, its noise), summed over columns."""
    values, vectors = torch.linalg.eigh(kernel)
    values = values.clamp_min(0.0)
    centred = targets - targets.mean(0)
    centred = centred[:, centred.square().sum(0) > 0]
    if not centred.shape[1]:
        return 0.0, NOISES[-1]
    energy = (vectors.T @ centred).square()
    best = (-float("inf"), NOISES[-1])
    for noise in NOISES:
        spread = (values + noise)[:, None]
        scale = (energy / spread).mean(0)
        likelihood = -0.5 * (len(kernel) * scale.log() + spread.log().sum(0)).sum()
        best = max(best, (float(likelihood), noise))
    return best


def _solve(kernel: Tensor, targets: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Dual weights [n, t], intercept [t] and left-out predictions [n, t] of kernel ridge with a free intercept."""
    n = len(kernel)
    system = torch.zeros(n + 1, n + 1, dtype=kernel.dtype)
    system[:n, :n] = kernel + torch.diag(noise)
    system[:n, n] = system[n, :n] = 1.0
    inverse = torch.linalg.inv(system)
    alpha = inverse[:n, :n] @ targets
    return alpha, inverse[n, :n] @ targets, targets - alpha / torch.diagonal(inverse)[:n, None]
