"""The smallest successful perturbation of each example that attacks find: the other side of a certificate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reprogram.robustness.attacks.base import Attack, Model, ask, in_batches
from reprogram.robustness.losses import wrong
from reprogram.threat import Threat

PERCENTILES = (5, 10, 15, 25, 50)


@dataclass
class Smallest:
    """distances [N] in ``norm`` (0: wrong as it is; inf: nothing found), examples [N, ...]."""

    norm: str
    distances: Tensor
    examples: Tensor

    @classmethod
    def empty(cls, norm: str, images: Tensor) -> Smallest:
        """No failure found yet for any image."""
        return cls(norm, torch.full((len(images),), float("inf")), images.clone())

    def update(self, images: Tensor, found: Tensor, broken: Tensor) -> None:
        """Take the perturbed inputs ``found`` [N, ...] where ``broken`` [N], if they are nearer."""
        far = Threat(self.norm).distance(images, found).cpu()
        nearer = broken.cpu() & (far < self.distances)
        self.distances = torch.where(nearer, far, self.distances)
        self.examples[nearer] = found[nearer]

    def tighten(self, model: Model, images: Tensor, labels: Tensor, steps: int = 8, batch_size: int = 64) -> None:
        """Bisect the segment between each image and its nearest wrong point; the wrong side is kept."""
        rows = torch.nonzero(torch.isfinite(self.distances) & (self.distances > 0)).squeeze(1)
        for part in rows.split(batch_size):
            x0, y, end = images[part], labels[part], self.examples[part]
            low, high = torch.zeros(len(part)), torch.ones(len(part))
            for _ in range(steps):
                middle = (low + high) / 2
                tried = x0 + middle.view(-1, *[1] * (x0.ndim - 1)).to(x0) * (end - x0)
                hit = wrong(ask(model, tried), y).cpu()
                low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
            nearest = x0 + high.view(-1, *[1] * (x0.ndim - 1)).to(x0) * (end - x0)
            still = torch.zeros(len(images), dtype=torch.bool)
            still[part] = wrong(ask(model, nearest), y).cpu()
            moved = images.clone()
            moved[part] = nearest
            self.update(images, moved, still)

    def percentiles(self, wanted: Sequence[int] = PERCENTILES) -> dict[str, float | None]:
        """Percentiles over the examples that were right as they are; None where no attack got that far."""
        right = self.distances[self.distances > 0].sort().values
        if not len(right):
            return {str(p): None for p in wanted}
        picked = {p: float(right[max(0, -(-p * len(right) // 100) - 1)]) for p in wanted}
        return {str(p): None if value == float("inf") else value for p, value in picked.items()}


def smallest(
    model: Model,
    images: Tensor,
    labels: Tensor,
    norm: str,
    sizes: Sequence[float],
    attack: Callable[[Threat], Attack],
    search: Callable[[Threat], Attack] | None = None,
) -> tuple[Smallest, dict[float, Tensor]]:
    """Attack at each size on its own; returns the nearest found, and who was broken at each size (the curve).

    search: an attack that looks for the nearest wrong answer by itself; it runs once, at the largest size.
    """
    nearest, broken_at = Smallest.empty(norm, images), {}
    mistaken = wrong(in_batches(lambda x: ask(model, x), images), labels).cpu()
    nearest.update(images, images, mistaken)
    for eps in sorted(sizes):
        result = attack(Threat(norm, eps))(model, images, labels, right=~mistaken)
        broken_at[eps] = result.broken
        nearest.update(images, result.examples, result.broken)
    if search is not None:
        result = search(Threat(norm, max(sizes)))(model, images, labels, right=~mistaken)
        nearest.update(images, result.examples, result.broken)
    nearest.tighten(model, images, labels)
    for eps in broken_at:  # what is wrong nearer than a size is wrong at that size
        broken_at[eps] = broken_at[eps] | (nearest.distances <= eps)
    return nearest, broken_at
