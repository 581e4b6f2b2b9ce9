"""Auto-PGD (Croce & Hein 2020, arXiv 2003.01690): PGD that chooses its own step; l1 after Croce & Hein 2021."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.ranges import Count
from reprogram.robustness.attacks.base import Attack, Model, ask, survival
from reprogram.robustness.losses import LOSSES, Loss, targeted, wrong
from reprogram.threat import Threat, input_gradient

MOMENTUM, RHO = 0.75, 0.75
L1_SHARE, L1_SHRINK, L1_SMALLEST = 0.2, 1.5, 10.0  # first share of coordinates, step shrink, smallest step = eps / 10


@dataclass(eq=False)
class APGD(Attack):
    """loss: ``ce``, ``dlr``, ``margin`` or ``targeted`` (DLR towards the ``targets`` most likely other classes).

    With two classes ``dlr`` is the margin, and with up to three ``targeted`` is the targeted margin. draws: passes
    averaged for each gradient, for models that answer at random (EOT); then no run ends at a wrong answer.
    """

    steps: Count = 100
    restarts: Count = 1
    loss: str = "ce"
    targets: Count = 9
    draws: Count = 1

    averages: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.loss not in (*LOSSES, "targeted"):
            raise ConfigError(f"loss={self.loss!r} is not one that APGD raises; allowed: ce, dlr, margin, targeted.")

    @property
    def name(self) -> str:
        return f"apgd_{self.loss}"

    def perturb(
        self, model: Model, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        best, queries = images.clone(), torch.zeros(len(images))
        rows = torch.arange(len(images), device=images.device)
        order = self._wanted(model, images, labels)
        for _ in range(self.restarts):
            for wanted in order:
                x, y = images[rows], labels[rows]
                loss = LOSSES[self.loss] if wanted is None else None
                towards = None if wanted is None else wanted[rows]
                run = _Run(model, self.threat, self.steps, loss, towards, self.draws)
                best[rows], counted = run(x, y, self.threat.random(x, generator))
                queries[rows.cpu()] += counted
                rows = rows[survival(model, best[rows], y, self.passes).to(rows.device) > 0.5]
                if not len(rows):
                    return best, queries
        return best, queries

    def _wanted(self, model: Model, images: Tensor, labels: Tensor) -> list[Tensor | None]:
        """One run without a target, or one for each of the most likely other classes."""
        if self.loss != "targeted":
            return [None]
        others = ask(model, images).scatter(1, labels[:, None], float("-inf"))
        count = min(self.targets, others.shape[1] - 1)
        return list(others.topk(count, dim=1).indices.T)


@dataclass
class _State:
    """One row an example that is not broken yet; rows leave together."""

    rows: Tensor
    x0: Tensor
    labels: Tensor
    wanted: Tensor
    x: Tensor
    before: Tensor
    gradient: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    step: Tensor
    history: Tensor  # losses of the steps so far [b, steps]
    best_at_check: Tensor
    reduced: Tensor  # was the step halved at the last check?
    share: Tensor  # l1: share of the coordinates that a step changes
    nonzero: Tensor  # l1: coordinates changed by the best point at the last check

    def keep(self, left: Tensor) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[left])


class _Run:
    """One run from one start point, batched; broken examples leave at once."""

    def __init__(
        self, model: Model, threat: Threat, steps: int, loss: Loss | None, wanted: Tensor | None, draws: int = 1
    ) -> None:
        self.model, self.threat, self.steps, self.loss, self.wanted = model, threat, steps, loss, wanted
        self.draws = draws
        self.l1 = threat.norm == "l1"
        self.first_step = threat.eps if self.l1 else 2 * threat.eps

    def __call__(self, x0: Tensor, labels: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        found, queries = start.clone(), torch.zeros(len(x0))
        s = self._begin(x0, labels, start)
        window = max(int((0.04 if self.l1 else 0.22) * self.steps), 1)
        since = 0
        losses, done = self._look(s, s.x)
        s.best_loss, s.best_gradient, s.best_at_check = losses, s.gradient, losses
        for i in range(self.steps + 1):
            queries[s.rows.cpu()] += self.draws
            if i:
                losses, done = self._look(s, s.x)
                s.history[:, i - 1] = losses
                self._remember(s, losses)
            if done.any():
                found[s.rows[done]] = s.x[done]
                s.keep(~done)
            if not len(s.rows) or i == self.steps:
                break
            since += bool(i)
            if since == window:
                self._check(s, i - 1, window)
                if not self.l1:
                    window = max(window - max(int(0.03 * self.steps), 1), max(int(0.06 * self.steps), 1))
                since = 0
            self._move(s, first=i == 0)
        found[s.rows] = s.best
        return found, queries

    def _begin(self, x0: Tensor, labels: Tensor, start: Tensor) -> _State:
        rows = torch.arange(len(x0), device=x0.device)
        ones = torch.ones(len(x0), device=x0.device)
        size = x0[0].numel()
        wanted = labels if self.wanted is None else self.wanted
        return _State(
            rows, x0, labels, wanted, start, start, torch.zeros_like(x0), start, torch.zeros_like(x0), 0 * ones,
            self.first_step * ones, torch.zeros(len(x0), self.steps, device=x0.device), 0 * ones,
            torch.ones_like(rows, dtype=torch.bool), L1_SHARE * ones, size * ones,
        )  # fmt: skip

    def _look(self, s: _State, x: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [b] and who is broken [b]; leaves the gradient in the state."""
        loss = targeted(s.wanted) if self.loss is None else self.loss
        x = x.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = self.model(x)
            values = loss(logits, s.labels)
            for _ in range(self.draws - 1):
                values = values + loss(self.model(x), s.labels)
        s.gradient = input_gradient(values, x)
        done = wrong(logits.detach(), s.labels)
        return values.detach() / self.draws, done if self.draws == 1 else torch.zeros_like(done)

    @staticmethod
    def _remember(s: _State, losses: Tensor) -> None:
        better = losses > s.best_loss
        wide = better.view(-1, *[1] * (s.x.ndim - 1))
        s.best, s.best_gradient = torch.where(wide, s.x, s.best), torch.where(wide, s.gradient, s.best_gradient)
        s.best_loss = torch.where(better, losses, s.best_loss)

    def _move(self, s: _State, first: bool) -> None:
        step = s.step.view(-1, *[1] * (s.x.ndim - 1))
        if self.l1:
            s.before, s.x = s.x, self.threat.project(s.x0, s.x + step * _sparse(s.gradient, s.share))
            return
        inertia = s.x - s.before
        z = self.threat.project(s.x0, s.x + step * self.threat.steepest(s.x, s.gradient))
        if not first:
            z = self.threat.project(s.x0, s.x + MOMENTUM * (z - s.x) + (1 - MOMENTUM) * inertia)
        s.before, s.x = s.x, z

    def _check(self, s: _State, last: int, window: int) -> None:
        """Halve the step and go back to the best point where progress stalled (section 3.1; l1: section 3.2 of 2021)."""
        if self.l1:
            nonzero = ((s.best - s.x0).flatten(1).abs() > 1e-10).sum(1).float()
            back = nonzero / s.nonzero < 0.95
            s.share = nonzero / s.x0[0].numel() / 1.5
            smallest = self.first_step / L1_SMALLEST
            s.step = torch.where(back, torch.full_like(s.step, self.first_step), s.step / L1_SHRINK)
            s.step = s.step.clamp(smallest, self.first_step)
            s.nonzero = nonzero
        else:
            # as published: how many of the window's steps raised the loss; the first one is compared with the last row
            recent = s.history[:, last - window + 1 : last + 1]
            earlier = s.history[:, torch.arange(last - window, last)]
            rises = (recent > earlier).float().sum(1)
            back = (rises <= RHO * window) | (~s.reduced & (s.best_at_check >= s.best_loss))
            s.reduced, s.best_at_check = back, s.best_loss
            s.step = torch.where(back, s.step / 2, s.step)
        wide = back.view(-1, *[1] * (s.x.ndim - 1))
        s.x, s.gradient = torch.where(wide, s.best, s.x), torch.where(wide, s.best_gradient, s.gradient)


def _sparse(gradient: Tensor, share: Tensor) -> Tensor:
    """Signs of the largest coordinates (a share of each example's own), of unit l1 length."""
    flat = gradient.flatten(1)
    ordered = flat.abs().sort(dim=1).values
    place = ((1 - share) * flat.shape[1]).clamp(0, flat.shape[1] - 1).long()
    signs = flat.sign() * (flat.abs() >= ordered.gather(1, place[:, None]))
    return (signs / (signs.abs().sum(1, keepdim=True) + 1e-10)).view_as(gradient)
