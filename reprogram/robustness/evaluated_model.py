"""A model under test with its examples, and what the checks found so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reprogram.errors import DataError
from reprogram.interfaces import Examples
from reprogram.robustness.attacks.base import Model, ask, in_batches, refuse_examples
from reprogram.robustness.findings import Flag, Outcome

LOST = 0.05  # an example that is right in so few passes need not be attacked again


@dataclass
class EvaluatedModel:
    """A classifier under test and what is known of it so far; plain data, made by :func:`~reprogram.robustness.diagnose`.

    model: images [B, C, H, W] in [0, 1] -> logits [B, T] (:class:`~reprogram.robustness.classifier.Classifier`).
    differentiable: gradients reach the input. through: the same answers with gradients that pass through what hides them
    (BPDA), where something does. clean: [N], right without any perturbation; clean_rate: [N], in which share of the
    passes. random: the same input gets different answers. passes: that a found example is judged by. masked: gradients
    are zero where they should not be. jumps: small steps change the answers as no gradient foresees. flags: what is odd
    about the model. broken / survival / access / curves / distances: what the checks so far found
    (:class:`~reprogram.robustness.findings.Outcome`). train: other examples (images, labels) that may be learned from.
    source: the bare source as images -> logits over its own labels, where there is one.
    """

    model: Model
    images: Tensor
    labels: Tensor
    classes: int
    differentiable: bool
    clean: Tensor
    clean_rate: Tensor
    through: Model | None = None
    passes: int = 1
    module: nn.Module | None = None
    random: bool = False
    masked: bool = False
    jumps: bool = False
    flags: list[Flag] = field(default_factory=list)
    seed: int = 0
    batch_size: int = 64
    broken: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    survival: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    access: dict[str, str] = field(default_factory=dict)
    curves: dict[str, dict[float, Tensor]] = field(default_factory=dict)
    distances: dict[str, Tensor] = field(default_factory=dict)
    train: tuple[Tensor, Tensor] | None = None
    source: Any = None
    notes: list[str] = field(default_factory=list)

    def logits(self, images: Tensor) -> Tensor:
        """[N, T] without gradients, in batches."""
        return in_batches(lambda x: ask(self.model, x), images, self.batch_size)

    @property
    def gradients(self) -> bool:
        """Can white-box attacks work on it, if need be through what hides its gradients?"""
        return self.differentiable or self.through is not None

    def take(self, outcome: Outcome) -> None:
        """Remember what a check found, now or in an earlier run that was interrupted."""
        self.access.update(outcome.access)
        for norm, masks in outcome.broken.items():
            self.broken.setdefault(norm, {}).update(masks)
        for norm, shares in outcome.survival.items():
            self.survival.setdefault(norm, {}).update(shares)
        for norm, curve in outcome.curves.items():
            self.curves.setdefault(norm, {}).update(curve)
        for norm, far in outcome.distances.items():
            self.distances[norm] = torch.minimum(far, self.distances.get(norm, far))

    def survives(self, norm: str) -> Tensor:
        """[N]: the share of passes that are right, on the worst that any attack of this norm found so far."""
        shares = [self.clean_rate, *self.survival.get(norm, {}).values()]
        return torch.stack(shares).amin(0)

    def robust(self, norm: str) -> Tensor:
        """[N]: still right in some pass whatever an attack of this norm found so far, so worth a further attack."""
        return self.clean & (self.survives(norm) > LOST)


def gather(data: Any, limit: int | None, device: torch.device | str = "cpu", seed: int = 0) -> tuple[Tensor, Tensor]:
    """(images, labels), Examples, or batches of (images, labels) -> float images [N, C, H, W], labels [N].

    With a ``limit``, that many are drawn by ``seed``.
    """
    if isinstance(data, Examples):
        rows = _draw(len(data), limit, seed)
        images, labels = data.batch(rows), np.asarray(data.labels)[rows]
    elif isinstance(data, tuple | list) and len(data) == 2 and not isinstance(data[0], tuple | list):
        images, labels = _tensors(data)
        if len(images) != len(labels):
            raise DataError(f"There are {len(images)} images but {len(labels)} labels; give one label for each image.")
        rows = _draw(len(labels), limit, seed)
        images, labels = images[rows], labels[rows]
    elif isinstance(data, Iterable):
        parts = [(x, torch.atleast_1d(y)) for x, y in map(_tensors, data)]
        if not parts:
            raise DataError("There are no examples to evaluate on.")
        images = torch.cat([x if x.ndim == 4 else x[None] for x, _ in parts])
        labels = torch.cat([y for _, y in parts])
        rows = _draw(len(labels), limit, seed)
        images, labels = images[rows], labels[rows]
    else:
        raise DataError(f"data must be (images, labels), examples or batches of them, not {type(data).__name__}.")
    return _checked(torch.as_tensor(images), torch.as_tensor(labels), device)


def _tensors(pair: Any) -> tuple[Tensor, Tensor]:
    """(images, labels) as tensors. Raises DataError for whatever is no such pair."""
    try:
        images, labels = (torch.as_tensor(part) for part in pair)
        len(images)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            "data must be (images, labels) as tensors or arrays, with a class index as label, examples or batches of them."
        ) from None
    return images, labels


def _draw(n: int, limit: int | None, seed: int) -> np.ndarray:
    if n == 0:
        raise DataError("There are no examples to evaluate on.")
    if limit is None or limit >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).permutation(n)[:limit])


def _checked(images: Tensor, labels: Tensor, device: torch.device | str) -> tuple[Tensor, Tensor]:
    images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    if images.ndim != 4:
        raise DataError(f"Images must be [N, C, H, W]; these are {list(images.shape)}.")
    refuse_examples(images, labels)
    return images.clamp(0, 1).to(device), labels.long().to(device)
