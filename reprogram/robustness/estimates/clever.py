"""CLEVER (Weng et al. 2018, arXiv 1801.10578): an estimate of the distance to the nearest wrong answer.

The local Lipschitz constant of each margin is extrapolated from sampled gradient norms by extreme value theory. It is
an estimate and not a bound: hidden gradients inflate it (Goodfellow 2018, arXiv 1804.07870).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprogram.errors import ConfigError, DataError, nearest
from reprogram.robustness.attacks.base import Model, ask, cached, fast_layout, refuse_examples, refuse_labels
from reprogram.threat import DUAL, length

SCREEN = 1.25  # how much further the end point of a class may lie than those of the classes that were followed
SMOOTHEST = 10.0  # largest shape: beyond it the likelihood is flat and the end point runs away; below 1 it is unbounded


@dataclass
class Clever:
    """score: estimated distance of each example [N], at most ``radius`` (0 where the answer is wrong).

    p_value: Kolmogorov-Smirnov p-value of the class with that score (small: the fit is not to be believed); NaN where
    all gradients are alike, so that nothing is fitted. by_class: [N, K] score against each other class that was asked
    (a lower bound for those that screening left out).
    """

    score: np.ndarray
    p_value: np.ndarray
    by_class: np.ndarray
    classes: np.ndarray


@dataclass
class CleverScore:
    """norm: of the perturbation. batches, samples: ``batches`` maxima of ``samples`` gradient norms each.

    pool: 0 draws fresh points for each batch, as published; k draws the batches from k x ``samples`` points whose
    gradients are computed once (ART's ``pool_factor``), which is faster and rougher.
    radius: of the ball that is sampled, and the largest score. targets: ``all`` other classes, or a number of the most
    likely ones. low, high: range of the pixels, to which samples are cut.
    """

    norm: str = "l2"
    batches: int = 50
    samples: int = 64
    pool: int = 0
    radius: float = 5.0
    targets: int | str = "all"
    low: float = 0.0
    high: float = 1.0
    seed: int = 0
    batch_size: int = 64
    screen: bool = True

    def __post_init__(self) -> None:
        if self.norm not in DUAL:
            raise ConfigError(f"norm={self.norm!r} is not one of CLEVER; {nearest(str(self.norm), DUAL)}.")
        if not self.radius > 0:
            raise ConfigError(f"radius={self.radius} of CLEVER must be above 0.")
        for name, least in {"batches": 1, "samples": 1, "pool": 0, "batch_size": 1, "targets": 1}.items():
            value = getattr(self, name)
            if not ((isinstance(value, int) and value >= least) or (name == "targets" and value == "all")):
                remedy = "all or a whole number" if name == "targets" else "a whole number"
                raise ConfigError(f"{name}={value} of CLEVER must be {remedy} of at least {least}.")

    def __call__(
        self, model: Model, images: Tensor, labels: Tensor, advance: Callable[[int], Any] | None = None
    ) -> Clever:
        """Untargeted scores: the smallest over the other classes."""
        if not len(images):
            raise DataError("There are no examples to estimate distances of.")
        refuse_examples(images, labels, self.low, self.high)
        logits = ask(model, images)
        if logits.ndim != 2 or logits.shape[1] < 2:
            raise ConfigError(f"CLEVER needs logits [B, T] of at least two classes, not {list(logits.shape)}.")
        refuse_labels(labels, logits.shape[1])
        count = logits.shape[1] - 1 if self.targets == "all" else min(int(self.targets), logits.shape[1] - 1)
        others = logits.scatter(1, labels[:, None], float("-inf")).topk(count, dim=1).indices
        scores, fits = [], []
        for row in range(len(images)):
            score, fit = self.targeted(model, images[row], int(labels[row]), others[row].tolist(), row)
            scores.append(score)
            fits.append(fit)
            if advance is not None:
                advance(1)
        by_class, p_values = np.array(scores), np.array(fits)
        worst = by_class.argmin(1)
        pick = np.arange(len(by_class))
        return Clever(by_class[pick, worst], p_values[pick, worst], by_class, others.cpu().numpy())

    def targeted(
        self, model: Model, image: Tensor, label: int, targets: Sequence[int], row: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores and p-values [K] of one image [C, H, W] against each class of ``targets``.

        With ``screen`` a first batch of points judges all classes: its largest norm n bounds a score by margin / n from
        above. The class with the least is followed first, then all that can still be the nearest: a class is left out
        if for that its end point had to lie ``SCREEN`` times further beyond its n than that of any class followed. It
        keeps that lower bound as its score, with a p-value of NaN.
        """
        logits = ask(model, image[None])[0]
        margins = (logits[label] - logits[list(targets)]).cpu().numpy()
        total = (self.pool or self.batches) * self.samples
        first = self._gradient_norms(model, image, label, targets, (row, 0), min(self.samples, total))
        at_most = _ratio(margins, first.max(1))
        scores, fits = np.empty(len(targets)), np.full(len(targets), np.nan)
        beyond = 1.0  # how far the end points lie beyond the largest norm of the first points

        def follow(chosen: np.ndarray) -> np.ndarray:
            wanted = [targets[k] for k in chosen]
            rest = self._gradient_norms(model, image, label, wanted, (row, 1), total - first.shape[1])
            location, fits[chosen] = reverse_weibull(self._maxima(np.concatenate([first[chosen], rest], 1), row))
            scores[chosen] = _ratio(margins[chosen], location)
            return _ratio(location, first[chosen].max(1))

        waiting = at_most.argsort(kind="stable")
        near = waiting[:1] if self.screen else waiting
        while len(near):
            further = follow(near)
            beyond = max(beyond, *further[np.isfinite(further)])
            waiting = waiting[~np.isin(waiting, near)]
            nearest = min(self.radius, float(np.delete(scores, waiting).min()))
            near = waiting[at_most[waiting] <= SCREEN * beyond * nearest]
        scores[waiting] = at_most[waiting] / (SCREEN * beyond)
        return np.clip(scores, 0.0, self.radius), fits

    def _maxima(self, norms: np.ndarray, row: int) -> np.ndarray:
        """Largest norm of each batch [K, batches] out of norms [K, points]."""
        if not self.pool:
            return norms.reshape(len(norms), self.batches, self.samples).max(2)
        drawn = np.random.default_rng([self.seed, row]).integers(norms.shape[1], size=(self.batches, self.samples))
        return norms[:, drawn].max(2)

    def _gradient_norms(
        self, model: Model, image: Tensor, label: int, targets: Sequence[int], draw: tuple[int, int], count: int
    ) -> np.ndarray:
        """Dual norms [K, count] of the margins' gradients at points sampled in the ball; ``draw`` seeds them."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + draw[0]) * 2 + draw[1])
        found = [torch.empty(len(targets), 0)]
        for start in range(0, count, self.batch_size):
            drawn = self._sample(image, min(self.batch_size, count - start), generator)
            for points in drawn.split(cached(self.batch_size, drawn)):
                points = fast_layout(model, points).requires_grad_(True)
                with torch.enable_grad():
                    logits = model(points)
                norms = []
                for number, target in enumerate(targets):
                    margin = (logits[:, label] - logits[:, target]).sum()
                    gradient: Tensor | None = None
                    if margin.requires_grad:
                        again = number + 1 < len(targets)
                        gradient = torch.autograd.grad(margin, points, retain_graph=again, allow_unused=True)[0]
                    if gradient is None:
                        raise ConfigError("CLEVER needs gradients, and this model has none with respect to its input.")
                    norms.append(length(torch.nan_to_num(gradient).flatten(1), DUAL[self.norm]))
                found.append(torch.stack(norms).cpu())
        return torch.cat(found, 1).numpy()

    def _sample(self, image: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Uniform in the ball (l1: uniform by Laplace variables and one more), cut to the range of the pixels."""
        size = image.numel()
        if self.norm == "linf":
            delta = 2 * torch.rand((count, size), generator=generator) - 1
        elif self.norm == "l2":
            delta = torch.randn((count, size), generator=generator)
            far = torch.rand((count, 1), generator=generator) ** (1 / size)
            delta = delta / delta.norm(dim=1, keepdim=True) * far
        else:
            spread = -torch.rand((count, size + 1), generator=generator).clamp(min=1e-30).log()
            signs = 2 * torch.randint(0, 2, (count, size), generator=generator) - 1
            delta = signs * spread[:, :-1] / spread.sum(1, keepdim=True)
        points = image.flatten() + self.radius * delta.to(image)
        return points.clamp(self.low, self.high).view(count, *image.shape)


def _ratio(margins: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """margins / slopes, where a slope of zero lets nothing be reached."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(slopes > 0, margins / slopes, np.where(margins > 0, np.inf, 0.0))


def reverse_weibull(maxima: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maximum-likelihood location [K] of reverse Weibull distributions, and Kolmogorov-Smirnov p-values [K].

    ``maxima`` [K, Nb]. With excess z_i = a - x_i the other two parameters are known for each location a (scale in
    closed form, shape by a one-dimensional equation), so the likelihood is a function of a alone. Constant rows have
    no distribution: their location is that constant, and their p-value NaN.
    """
    from scipy.stats import kstest, weibull_max

    locations, p_values = np.empty(len(maxima)), np.full(len(maxima), np.nan)
    for number, values in enumerate(np.asarray(maxima, dtype=np.float64)):
        top, spread = values.max(), values.max() - values.min()
        if spread <= 1e-6 * max(abs(top), 1e-30):  # float32 noise: the gradient is the same everywhere
            locations[number] = top
            continue
        location, shape, scale = _fit(values, top, spread)
        locations[number] = location
        p_values[number] = kstest(values, weibull_max(shape, location, scale).cdf).pvalue
    return locations, p_values


def _fit(values: np.ndarray, top: float, spread: float) -> tuple[float, float, float]:
    """Location, shape and scale: two grids over the location, the second around the best of the first."""
    offsets = np.geomspace(1e-3, 30, 24) * spread
    for _ in range(4):
        likelihood, shapes, scales = _profile(values, top + offsets)
        best = int(np.where((shapes >= 1) & (shapes <= SMOOTHEST), likelihood, -np.inf).argmax())
        low, high = offsets[max(best - 1, 0)], offsets[min(best + 1, len(offsets) - 1)]
        chosen = (float(top + offsets[best]), float(shapes[best]), float(scales[best]))
        offsets = np.geomspace(low, high, 12)
    return chosen


def _profile(values: np.ndarray, locations: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best log-likelihood, shape and scale for each location [L]."""
    logs = np.log(locations[:, None] - values[None])
    mean = logs.mean(1, keepdims=True)
    centred = logs - mean
    shape = np.full(len(locations), 1.0)
    low, high = np.full(len(locations), 1e-2), np.full(len(locations), 1e4)
    for _ in range(26):  # 1/k = sum w log z / sum w - mean log z with w = z^k; the right side grows with k
        shape = np.sqrt(low * high)
        powers = np.exp(shape[:, None] * (centred - centred.max(1, keepdims=True)))
        gap = (powers * centred).sum(1) / powers.sum(1) - 1 / shape
        low, high = np.where(gap < 0, shape, low), np.where(gap < 0, high, shape)
    peak = (shape[:, None] * logs).max(1)
    log_scale = (np.log(np.exp(shape[:, None] * logs - peak[:, None]).mean(1)) + peak) / shape
    n = values.shape[0]
    likelihood = n * (np.log(shape) - shape * log_scale) + (shape - 1) * logs.sum(1) - n
    return likelihood, shape, np.exp(log_scale)
