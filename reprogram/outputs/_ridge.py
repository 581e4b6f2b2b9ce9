"""Weighted ridge regression with an intercept for a whole path of strengths, with exact leave-one-out predictions.

One factorisation A = U·S·Vᵀ of the centred examples gives everything in closed form, because fitted values are linear in
the labels, ŷ = H·y, and the residual of an example that was left out is its residual divided by 1 - Hᵢᵢ (Allen 1974,
PRESS; Hastie, Tibshirani & Friedman 2009, eq. 7.64). The intercept is not penalised, so centring is refitted too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

INTERCEPT = 100.0  # variance of the intercept, against kernels of mean diagonal 1
CHUNK = 2048  # columns or rows converted to float64 at a time


@dataclass
class RidgeFit:
    """weight [D, t], bias [t], left_out [n, t] (prediction for each example by the fit without it), strength [t]."""

    weight: Tensor
    bias: Tensor
    left_out: Tensor
    strength: Tensor


def left_factors(rows: Tensor) -> tuple[Tensor, Tensor]:
    """U [n, r] and squared singular values [r] of ``rows`` [n, D], through the smaller of both Gram matrices."""
    n, width = rows.shape
    if n <= width:
        squares, left = torch.linalg.eigh(_gram(rows))
    else:
        squares, right = torch.linalg.eigh(_gram(rows.T))
        left = torch.cat([part.double() @ right for part in rows.split(CHUNK)])
        left = left / squares.clamp_min(1e-300).sqrt()
    kept = squares > squares.max().clamp_min(1e-30) * 1e-12
    return left[:, kept], squares[kept]


def _gram(rows: Tensor) -> Tensor:
    gram = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for part in rows.split(CHUNK, 1):
        gram += part.double() @ part.double().T
    return gram


def left_out_paths(
    values: Tensor, targets: Tensor, example_weight: Tensor, strengths: Sequence[float]
) -> Tensor:
    """[strengths, n, t]: what ridge of each strength, fitted without an example, says of it; linear in ``targets``."""
    path = _Path(values, example_weight)
    return torch.stack([targets - path.residuals(targets, strength) for strength in strengths])


class _Path:
    """One factorisation of the centred, weighted examples for ridge of every strength and any targets."""

    def __init__(self, values: Tensor, example_weight: Tensor) -> None:
        self.total = example_weight.sum()
        self.share, self.root = example_weight / self.total, example_weight.sqrt()[:, None]
        self.centre = _column_sums(values, self.share)
        self.rows = (values - self.centre.to(values.dtype)) * self.root.to(values.dtype)
        self.left, self.squares = left_factors(self.rows)

    def residuals(self, targets: Tensor, strength: float) -> Tensor:
        """[n, t] target minus the prediction by the fit without that example."""
        answers = (targets - self.share @ targets) * self.root
        shrink = self.squares / (self.squares + strength * self.total)
        leverage = self.share + self.left.square() @ shrink
        residual = (answers - self.left @ (shrink[:, None] * (self.left.T @ answers))) / self.root
        return residual / (1.0 - leverage).clamp_min(1e-9)[:, None]


def fit_ridge(
    values: Tensor, targets: Tensor, example_weight: Tensor, strengths: Sequence[float], shared: bool
) -> RidgeFit:
    """Minimise Σᵢ wᵢ·(yᵢ - x'ᵢβ - b)² + λ·|β|², λ/Σw being the entry of ``strengths`` with least left-out squared error.

    values [n, D], targets float64 [n, t], example_weight [n]. ``shared``: one strength for all columns, else one each.
    """
    path = _Path(values, example_weight)
    residuals = torch.stack([path.residuals(targets, strength) for strength in strengths])
    errors = torch.stack([example_weight @ residual.square() for residual in residuals])  # [strengths, t]
    best = (errors.sum(1, keepdim=True).expand_as(errors) if shared else errors).argmin(0)
    chosen = torch.tensor(strengths, dtype=torch.float64, device=values.device)[best]
    middle = path.share @ targets
    projected = path.left.T @ ((targets - middle) * path.root)
    dual = path.left @ (projected / (path.squares[:, None] + chosen * path.total))
    weight = torch.cat([part.double().T @ dual for part in path.rows.split(CHUNK, 1)])
    column = torch.arange(targets.shape[1], device=values.device)
    predictions = targets - residuals[best, :, column].T
    return RidgeFit(weight, middle - path.centre @ weight, predictions, chosen)


def _column_sums(values: Tensor, share: Tensor) -> Tensor:
    return torch.cat([share @ part.double() for part in values.split(CHUNK, 1)])


def block_kernels(blocks: Sequence[Tensor]) -> Tensor:
    """Centred linear kernels [m, n, n] of blocks [n, D'], each of mean diagonal 1."""
    kernels = []
    for block in blocks:
        gram = _gram(block - block.mean(0))
        kernels.append(gram / gram.diagonal().mean().clamp_min(1e-12))
    return torch.stack(kernels)


def left_out_error(kernels: Tensor, log_weight: Tensor, log_strength: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Mean squared left-out error of ridge on the average of ``kernels`` [m, n, n] by softmax(``log_weight``).

    Differentiable in the weights and in the strength. With C = K + λn·W⁻¹ the left-out residual of example i is
    (C⁻¹y)ᵢ / (C⁻¹)ᵢᵢ (Sundararajan & Keerthi 2001); a large constant in C stands for the intercept.
    """
    n = len(targets)
    kernel = torch.einsum("m,mij->ij", log_weight.softmax(0), kernels)
    system = kernel + torch.diag(n * log_strength.exp() / weight) + INTERCEPT
    inverse = torch.linalg.inv(system)
    residual = inverse @ targets / inverse.diagonal()[:, None]
    return weight @ residual.square().sum(1) / n


def learn_kernel_weights(kernels: Tensor, targets: Tensor, weight: Tensor, steps: int = 30, rate: float = 0.2) -> Tensor:
    """Weights [m] of block kernels that lower the left-out squared error: Adam on few numbers, from equal weights."""
    middle = weight @ targets / weight.sum()
    answers = targets - middle
    log_weight = torch.zeros(len(kernels), dtype=torch.float64, device=kernels.device, requires_grad=True)
    log_strength = torch.full((), -4.6, dtype=torch.float64, device=kernels.device, requires_grad=True)
    optimiser = torch.optim.Adam([log_weight, log_strength], rate)
    with torch.enable_grad():
        for _ in range(steps):
            optimiser.zero_grad()
            left_out_error(kernels, log_weight, log_strength, answers, weight).backward()
            optimiser.step()
    return log_weight.detach().softmax(0)


def inverse_temperature(left_out: Tensor, targets: Tensor, exclusive: bool, lowest: float = 0.1, highest: float = 30.0) -> Tensor:
    """[t] factors that turn left-out predictions into logits of the highest likelihood, in [lowest, highest].

    ``exclusive``: one factor for a softmax over the columns; else one a column for a logistic function around 1/2. The
    likelihood is log-concave in the factor, so bisection on its slope finds the one maximum.
    """
    count = 1 if exclusive else targets.shape[1]
    low = torch.full((count,), lowest, dtype=torch.float64, device=targets.device)
    high = torch.full_like(low, highest)
    for _ in range(50):
        factor = (low * high).sqrt()
        if exclusive:
            excess = torch.softmax(left_out * factor, 1) - targets
            slope = (excess * left_out).sum()[None]
        else:
            excess = torch.sigmoid((left_out - 0.5) * factor) - targets
            slope = (excess * (left_out - 0.5)).sum(0)
        too_sharp = slope > 0
        low, high = torch.where(too_sharp, low, factor), torch.where(too_sharp, factor, high)
    return (low * high).sqrt().expand(targets.shape[1])


def highest_likelihood(left_out: Tensor, targets: Tensor, steps: int = 20) -> Tensor:
    """[m]: log-likelihood of classes ``targets`` [n, t] under left-out predictions [m, n, t], each of the m with the inverse
    temperature that suits it best (as :func:`inverse_temperature` finds it)."""
    low = torch.full((len(left_out), 1, 1), 0.1, dtype=torch.float64, device=left_out.device)
    high = torch.full_like(low, 30.0)
    for _ in range(steps):
        factor = (low * high).sqrt()
        slope = ((torch.softmax(left_out * factor, 2) - targets) * left_out).sum((1, 2), keepdim=True)
        low, high = torch.where(slope > 0, low, factor), torch.where(slope > 0, factor, high)
    return (torch.log_softmax(left_out * (low * high).sqrt(), 2) * targets).sum((1, 2))
