"""Randomized smoothing: certificates that hold with probability 1 - alpha, for the *smoothed* classifier.

g(x) = the class that f answers most often on x + sigma eps, eps ~ N(0, I). Zeroth order: Cohen et al. 2019
(arXiv 1902.02918). Higher order: Mohapatra et al. 2020 (arXiv 2010.06651), radii in l1, l2, linf and in subspaces from
the probability and the gradient of the smoothed classifier. Noise is added in the target's pixels, before the program,
and is not cut to their range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from scipy.stats import beta, binomtest, norm
from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.robustness.attacks.base import Model, ask, cached, in_batches
from reprogram.robustness.certification.higher_order import radius

ABSTAIN = -1
PROXY = 0.25 + 3 / math.sqrt(8 * math.pi * math.e)  # sub-Gaussian proxy of eps (1[f = c] - 1/2), paper's theorem 2


@dataclass
class Smoothed:
    """What was certified for one input: the answer (-1: abstained) and radii in pixels, 0 where nothing is certified.

    cohen: zeroth-order l2 radius. first_order: norm or subspace -> radius with the gradient, its own share of alpha.
    """

    label: int
    probability: float
    cohen: float
    first_order: dict[str, float] = field(default_factory=dict)

    def radius(self, norm: str, size: int) -> float:
        """The zeroth-order radius in another norm (l1 as l2; linf divided by the square root of the dimension)."""
        return self.cohen / math.sqrt(size) if norm == "linf" else self.cohen


@dataclass
class Smoothing:
    """sigma: noise in pixels. draws: samples that choose the class. samples: fresh samples that count it.

    alpha: chance that one certificate is wrong. first_order: also estimate the gradient; half of alpha goes to it.
    """

    sigma: float = 0.25
    draws: int = 100
    samples: int = 10_000
    alpha: float = 0.001
    first_order: bool = True
    seed: int = 0
    batch_size: int = 256

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ConfigError(f"sigma={self.sigma} must be above 0.")
        if not 0 < self.alpha < 1:
            raise ConfigError(f"alpha={self.alpha} must lie between 0 and 1.")
        for name in ("draws", "samples", "batch_size"):
            if not (isinstance(value := getattr(self, name), int) and value >= 1):
                raise ConfigError(f"{name}={value} of randomized smoothing must be a whole number of at least 1.")

    def certify(
        self, model: Model, image: Tensor, row: int = 0, subspaces: Mapping[str, Tensor] | None = None
    ) -> Smoothed:
        """One image [C, H, W]. ``subspaces``: name -> mask [C, H, W] of the pixels that may change."""
        generator = torch.Generator(device=image.device).manual_seed(self.seed * 1_000_003 + row)
        with torch.no_grad():
            votes, _ = self._count(model, image, self.draws, generator, None)
            label = int(votes.argmax())
            votes, halves = self._count(model, image, self.samples, generator, label if self.first_order else None)
        hits = int(votes[label])
        low = lower_bound(hits, self.samples, self.alpha)
        cohen = self.sigma * float(norm.ppf(low)) if low > 0.5 else 0.0
        certified = Smoothed(label if cohen > 0 else ABSTAIN, low, cohen)
        split = lower_bound(hits, self.samples, self.alpha / 2)
        if halves is not None and split > 0.5:
            gradient = Gradient(*halves, self.samples, self.alpha / 2)
            certified.first_order = {k: self.sigma * r for k, r in gradient.radii(split, subspaces or {}).items()}
        return certified

    def predict(self, model: Model, image: Tensor, row: int = 0) -> int:
        """The class, or -1 where the two most frequent ones do not differ significantly (two-sided binomial test)."""
        generator = torch.Generator(device=image.device).manual_seed(self.seed * 1_000_003 + row)
        with torch.no_grad():
            votes, _ = self._count(model, image, self.samples, generator, None)
        first, second = (int(v) for v in votes.topk(2).values)
        if first == 0 or binomtest(first, first + second, 0.5).pvalue > self.alpha:
            return ABSTAIN
        return int(votes.argmax())

    def _count(
        self, model: Model, image: Tensor, samples: int, generator: torch.Generator, label: int | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Votes [T]; with a ``label`` also the means of eps (1[f = label] - 1/2) over two independent halves [D]."""
        votes: Tensor | None = None
        flat = image.flatten()
        noise = torch.empty(min(self.batch_size, samples), flat.numel(), device=image.device)
        halves = torch.zeros(2, flat.numel(), device=image.device)
        counts, done = [samples - samples // 2, samples // 2], 0
        for half, count in enumerate(counts):
            for start in range(0, count, self.batch_size):
                part = noise[: min(self.batch_size, count - start)]
                part.normal_(generator=generator)
                seen = torch.add(flat, part, alpha=self.sigma).view(-1, *image.shape)
                logits = in_batches(lambda x: ask(model, x), seen, cached(self.batch_size, seen))
                if logits.ndim != 2 or logits.shape[1] < 2:
                    raise ConfigError(f"Smoothing needs logits [B, T] of at least two classes, not {list(logits.shape)}.")
                finite = torch.isfinite(logits).all(1)
                answers = logits.argmax(1)
                new = torch.bincount(answers[finite], minlength=logits.shape[1])
                votes = new if votes is None else votes + new
                if label is not None:
                    halves[half] += (((answers == label) & finite).float() - 0.5) @ part
                done += len(part)
        assert votes is not None
        if label is None:
            return votes, None
        return votes, (halves[0] / counts[0], halves[1] / counts[1])


def lower_bound(hits: int, samples: int, alpha: float) -> float:
    """Clopper-Pearson: the share of hits is above this with confidence 1 - alpha."""
    return float(beta.ppf(alpha, hits, samples - hits + 1)) if hits else 0.0


@dataclass
class Gradient:
    """Bounds on s = sigma grad g(x) from two independent means X, Y [D]; ``delta`` is shared by the bounds of a radius."""

    first: Tensor
    second: Tensor
    samples: int
    delta: float

    def radii(self, p: float, subspaces: Mapping[str, Tensor]) -> dict[str, float]:
        """Radii in units of sigma; a norm that needs two bounds gives each half of delta."""
        size = self.first.numel()
        half = self.delta / 2
        found = {"l2": radius(p, self.l2(self.delta)[1], 0.0)}
        low = self.l2(half)[0]
        found["l1"] = radius(p, *_moments(self.largest(half), low))
        found["linf"] = radius(p, *_moments(self.mean(half), low)) / math.sqrt(size)
        for name, mask in subspaces.items():
            inside = mask.flatten().to(self.first.device).bool()
            block = Gradient(self.first[inside], self.second[inside], self.samples, half)
            rest = Gradient(self.first[~inside], self.second[~inside], self.samples, half)
            m2 = rest.l2(half)[0] if rest.first.numel() else 0.0
            found[name] = radius(p, block.l2(half)[1], m2)
        return found

    @property
    def _together(self) -> Tensor:
        n1, n2 = self.samples - self.samples // 2, self.samples // 2
        return (n1 * self.first + n2 * self.second) / self.samples

    def largest(self, delta: float) -> float:
        """Upper bound of the largest |s_i|."""
        spread = math.sqrt(2 * PROXY / self.samples * math.log(4 * self.first.numel() / delta))
        return float(self._together.abs().max()) + spread

    def mean(self, delta: float) -> float:
        """Upper bound of ||s||_1 / sqrt(d)."""
        size = self.first.numel()
        spread = math.sqrt(2 * PROXY * (size * math.log(2) + math.log(2 / delta)) / self.samples)
        return float(self._together.abs().sum()) / math.sqrt(size) + spread

    def l2(self, delta: float) -> tuple[float, float]:
        """Lower and upper bound of ||s||_2."""
        n1, n2 = self.samples - self.samples // 2, self.samples // 2
        product = float(self.first.double() @ self.second.double())
        log = math.log(2 / delta)
        t = PROXY * math.sqrt(2 * self.first.numel() * log / (n1 * n2))

        def error(square: float) -> float:
            return math.sqrt(PROXY * self.samples * log / (2 * n1 * n2 * square))

        upper = math.inf
        if product + t > 0:
            e = error(product + t)
            upper = math.sqrt(product + t) / (math.sqrt(1 + e * e) - e)
        if product <= t:
            return 0.0, upper
        e = error(product - t)
        return math.sqrt(product - t) / (math.sqrt(1 + e * e) + e), upper


def _moments(along: float, total: float) -> tuple[float, float]:
    """Upper bound along the direction and what the lower bound of the whole leaves for the rest."""
    return along, math.sqrt(max(total**2 - along**2, 0.0))
