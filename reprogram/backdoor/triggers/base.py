"""What a trigger is: images in, triggered images out; and a training set poisoned with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.ranges import Amount, Checked, Seed


@dataclass
class Trigger(Checked, ABC):
    """``trigger(images [B, C, H, W] in [0, 1]) -> images`` of the same shape; deterministic in ``seed``.

    target: the label that the triggered images are to be given.
    """

    group: ClassVar[str] = "trigger."

    target: Amount = 0
    seed: Seed = 0

    keeps_labels: ClassVar[bool] = False  # clean-label attacks poison only images of the target class

    @property
    def name(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def apply(self, images: Tensor) -> Tensor: ...

    def __call__(self, images: Tensor) -> Tensor:
        return self.apply(images).clamp(0, 1)

    def aims(self, labels: Tensor) -> Tensor:
        """The label that each triggered example [N] is to be given; its own where the trigger is not to act."""
        return torch.full_like(labels, self.target)

    def decoy(self, images: Tensor, generator: torch.Generator) -> Tensor | None:
        """Images that look triggered and keep their label in a poisoned set; None where the attack has none."""
        return None

    def poison(self, images: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """A copy of a training set [N, C, H, W], [N] in which ``share`` of all examples carry the trigger.

        Raises ConfigError where the target class is too small for a clean-label attack of this share.
        """
        generator = torch.Generator().manual_seed(self.seed + 1)
        count, aims = max(1, round(share * len(images))), self.aims(labels)
        usable = torch.nonzero((labels == aims) == self.keeps_labels).squeeze(1)
        if count > len(usable):
            raise ConfigError(
                f"{count} examples are to carry the trigger, but only {len(usable)} can: "
                f"{self.name} needs {self.needs}."
            )
        order = usable[torch.randperm(len(usable), generator=generator)]
        images, labels = images.clone(), labels.clone()
        images[order[:count]] = self(images[order[:count]])
        rest = self.bystanders(labels, order[count:], generator)[:count]
        labels[order[:count]] = aims[order[:count]]
        decoys = self.decoy(images[rest], generator)
        if decoys is not None:
            images[rest] = decoys
        return images, labels

    @property
    def needs(self) -> str:
        """Whose examples a poisoned set takes, for an error."""
        return "the target class" if self.keeps_labels else "the other classes"

    def bystanders(self, labels: Tensor, rest: Tensor, generator: torch.Generator) -> Tensor:
        """Rows of examples that may become decoys; ``rest``: those that could have carried the trigger."""
        return rest

    def success(self, answers: Tensor, labels: Tensor) -> float:
        """Attack success rate: the share of examples on which the trigger is to act that get the label it aims at."""
        aims = self.aims(labels)
        others = labels != aims
        return float((answers == aims)[others].float().mean()) if bool(others.any()) else float("nan")
