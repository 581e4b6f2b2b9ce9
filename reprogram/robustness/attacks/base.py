"""What every attack on images shares: batches, examples that are wrong already, verification of what was found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from reprogram.errors import ConfigError, DataError
from reprogram.frozen import still
from reprogram.robustness.losses import wrong
from reprogram.threat import NORMS, Threat

Model = Callable[[Tensor], Tensor]
COUNTS = ("steps", "restarts", "draws", "targets", "epochs", "directions")  # options of attacks that are at least 1
NEAR = 100_000  # pixel values of a batch on a CPU: of about 32 images of 32 x 32; more no longer stay in a core's cache
SLACK = 1e-5  # rounding of float32 in the length of a perturbation, relative


@dataclass
class Attacked:
    """What an attack found for N examples.

    examples: [N, C, H, W], the perturbed input where one was found, otherwise the last try.
    survival: [N], the share of passes over ``examples`` in which the answer is right, in passes of their own (one pass,
    so 0 or 1, unless the attack says ``passes``). queries: [N], inputs spent.
    """

    examples: Tensor
    survival: Tensor
    queries: Tensor

    @property
    def broken(self) -> Tensor:
        """[N]: wrong in at least half of the passes."""
        return self.survival <= 0.5

    @property
    def accuracy(self) -> float:
        """Robust accuracy: the mean share of right answers on what this attack found."""
        return float(self.survival.mean())


@dataclass(eq=False)
class Attack(ABC):
    """``attack(model, images [N, C, H, W] in [0, 1], labels [N]) -> Attacked``.

    An example that the model gets wrong as it is counts as broken by the zero perturbation. ``right`` [N] says which
    are not, where that is known already, and saves a pass. passes: over each found example, for models that answer at
    random: one lucky wrong answer is no success. A module is attacked in eval mode. Deterministic in ``seed``.
    """

    threat: Threat = field(default_factory=Threat)
    seed: int = 0
    batch_size: int = 64
    passes: int = 1

    norms: ClassVar[tuple[str, ...]] = NORMS
    access: ClassVar[str] = "white_box"  # what it needs of the model: white_box (gradients), score, label or none
    averages: ClassVar[bool] = False  # ``draws`` passes are averaged for each gradient, for models that answer at random
    takes: ClassVar[dict[str, str]] = {}  # options that an evaluation fills in, and from where (``train``, ``source``)
    requires: ClassVar[tuple[str, ...]] = ()  # of those, what it cannot do without
    crafts_on_even_rows: ClassVar[bool] = False  # only the odd rows are then unseen

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Raises ConfigError for options that cannot be, before anything is run."""
        for name in COUNTS:
            if name in options and not int(options[name]) >= 1:
                raise ConfigError(f"{name}={options[name]} of {cls.__name__} must be at least 1.")
        cls(**options)

    @property
    def name(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def perturb(
        self, model: Model, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | int]:
        """Perturbed images and queries spent on each, for one batch on which the model is right."""

    def __call__(
        self,
        model: Model,
        images: Tensor,
        labels: Tensor,
        advance: Callable[[int], Any] | None = None,
        right: Tensor | None = None,
    ) -> Attacked:
        for name in (*COUNTS, "batch_size", "passes"):
            if isinstance(value := getattr(self, name, 1), int) and value < 1:
                raise ConfigError(f"{name}={value} of {type(self).__name__} must be at least 1.")
        refuse_examples(images, labels, self.threat.low, self.threat.high)
        with still(model):
            return self._run(model, images, labels, advance, right)

    def _run(
        self,
        model: Model,
        images: Tensor,
        labels: Tensor,
        advance: Callable[[int], Any] | None,
        right: Tensor | None,
    ) -> Attacked:
        generator = torch.Generator().manual_seed(self.seed)
        asked = torch.full((len(images),), float(right is None))
        found = Attacked(images.detach().clone(), torch.zeros(len(images)), asked)
        quick = fast_layout(model, images) if self.access == "white_box" else images
        size = self.batch_size if self.access != "white_box" else cached(self.batch_size, images)
        for start in range(0, len(images), size):
            rows = torch.arange(start, min(start + size, len(images)))
            known = _right(ask(model, quick[rows]), labels[rows]) if right is None else right[rows]
            rows_right = rows[known]
            if len(rows_right):
                x, y = quick[rows_right], labels[rows_right]
                perturbed, queries = self.perturb(model, x, y, generator)
                too_far = self.threat.distance(x, perturbed) > self.threat.eps * (1 + SLACK) + 1e-7
                perturbed = torch.where(too_far.view(-1, *[1] * (x.ndim - 1)), x, perturbed).detach()
                found.examples[rows_right] = perturbed
                found.survival[rows_right] = survival(model, found.examples[rows_right], y, self.passes)
                found.queries[rows_right] += torch.as_tensor(queries).cpu() + self.passes
            if advance is not None:
                advance(len(rows))
        return found


def _right(logits: Tensor, labels: Tensor) -> Tensor:
    """[B]: the answer is the label."""
    refuse_labels(labels, logits.shape[1])
    return ~wrong(logits, labels).cpu()


def refuse_labels(labels: Tensor, classes: int) -> None:
    """Raises DataError for labels that are none of ``classes``."""
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DataError(f"Labels run from {int(labels.min())} to {int(labels.max())}, but the model has {classes} classes.")


def refuse_examples(images: Tensor, labels: Tensor, low: float = 0.0, high: float = 1.0) -> None:
    """Raises DataError for labels and pixels that no attack can work on.

    A perturbation is cut to [low, high]: an image outside cannot be perturbed at all, and would look robust.
    """
    if labels.ndim != 1 or labels.is_floating_point():
        raise DataError(f"Robustness checks need one class index an example, not labels of {list(labels.shape)}.")
    if len(images) != len(labels):
        raise DataError(f"There are {len(images)} images but {len(labels)} labels; give one label for each image.")
    if not len(images):
        return
    bad = ~torch.isfinite(images.flatten(1)).all(1)
    if bool(bad.any()):
        raise DataError(f"Image {int(bad.nonzero()[0])} holds a NaN or infinite pixel.")
    least, most = float(images.min()), float(images.max())
    if least < low - SLACK or most > high + SLACK:
        raise DataError(
            f"Pixels must lie in [{low:g}, {high:g}]; these run from {least:g} to {most:g} "
            "(normalisation belongs inside the model)."
        )


@torch.no_grad()
def ask(model: Model, images: Tensor) -> Tensor:
    """Logits without a gradient."""
    return model(images).detach()


def survival(model: Model, images: Tensor, labels: Tensor, passes: int = 1) -> Tensor:
    """[N]: the share of passes in which the answer is right."""
    right = torch.zeros(len(images))
    for _ in range(passes):
        right += (~wrong(ask(model, images), labels)).float().cpu()
    return right / passes


def cached(most: int, images: Tensor) -> int:
    """How many images to take at a time, at most ``most``: on a CPU, gradients of fewer large images are faster."""
    if images.device.type != "cpu" or not len(images):
        return most
    return min(most, max(16, NEAR // max(1, images[0].numel())))


def fast_layout(model: Model, images: Tensor) -> Tensor:
    """The images with their channels last, which convolutions on a CPU read without reordering, if the model takes them."""
    if images.ndim != 4 or images.shape[1] == 1 or images.is_cuda or not len(images):
        return images
    ordered = images.contiguous(memory_format=torch.channels_last)
    try:
        ask(model, ordered[:1])
    except RuntimeError:  # a model that calls view() on its input
        return images
    return ordered


def in_batches(function: Callable[[Tensor], Tensor], images: Tensor, batch_size: int = 64) -> Tensor:
    """``function`` over [N, ...] in batches, concatenated."""
    return torch.cat([function(part) for part in images.split(batch_size)])
