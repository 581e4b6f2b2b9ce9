"""Several closed-form mappings on one source; how much each counts is learned from their left-out answers.

A mixture: the shares are those of highest likelihood of the left-out answers, with a Dirichlet prior that is worth ``trust``
labels (the expectation-maximisation of Dempster, Laird & Rubin 1977 for mixture weights; for stacking of distributions see
Yao, Vehtari, Simpson & Gelman 2018). Few labels leave the members near the shares they were given; many decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError
from reprogram.interfaces import SourceOutput, SourceSpec, TargetInfo
from reprogram.outputs._pool import foreseeable, one_hot
from reprogram.outputs.ensemble import Ensemble

STEPS = 200


@dataclass(eq=False)
class Blend(Ensemble):
    """Mean of the members' probabilities (regression: values) by learned shares.

    members: as in ``output=ensemble``; each must answer for the examples that it was fitted on without their own label.
    trust: how many labels the given shares are worth. prior: the given shares, one a member; empty: equal.
    """

    trust: float = 30.0
    prior: tuple[float, ...] = ()

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        if self.prior and (len(self.prior) != len(self.members) or min(self.prior) <= 0):
            raise ConfigError(
                f"output.prior={list(self.prior)} must have a number above 0 for each of {len(self.members)} members"
            )
        if not self.trust > 0:
            raise ConfigError(f"output.trust={self.trust} must be above 0")
        start = torch.tensor(self.prior or [1.0] * len(self.members))
        self.shares: Tensor = nn.Buffer(start / start.sum())
        self._start = (start / start.sum()).double().numpy()  # every fit starts from here, also the second

    def config(self):
        return super().config() | {"trust": self.trust, "prior": list(self.prior)}

    def fit(self, outputs: list[SourceOutput], labels: Tensor) -> None:
        super().fit(outputs, labels)
        answers = [part.left_out for part in self.parts]
        if any(answer is None for answer in answers):
            names = [part.name for part in self.parts if part.left_out is None]
            raise ConfigError(f"output=blend cannot weigh {names[0]}: it has no left-out answers (try output=ensemble)")
        stacked = torch.stack([answer.cpu().double() for answer in answers])
        targets = one_hot(labels, stacked.shape[2], self.problem)
        shares = mixture_shares(_likelihoods(stacked, targets, self.problem), self._start * self.trust)
        self.shares = torch.from_numpy(shares).float().to(outputs[0].logits.device)
        self.left_out = self._mixed(stacked, torch.from_numpy(shares)).float()

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        return self._mixed(torch.stack([part(seen) for part, seen in self._each(outputs)]), self.shares)

    def _mixed(self, answers: Tensor, shares: Tensor) -> Tensor:
        """Logits [m, B, T] -> [B, T]."""
        shares = shares.to(answers.dtype)[:, None, None]
        if self.problem == "regression":
            return (shares * answers).sum(0)
        if self.problem == "multilabel":
            return torch.logit((shares * answers.sigmoid()).sum(0), eps=1e-6)
        return (shares * answers.softmax(-1)).sum(0).clamp_min(1e-12).log()


def _likelihoods(answers: Tensor, targets: np.ndarray, problem: str) -> np.ndarray:
    """[m, cells]: what each member gave to each label that the rest could foresee."""
    if problem == "classification":
        rows = foreseeable(targets)
        return (answers.softmax(-1).numpy() * targets).sum(2)[:, rows]
    known = ~np.isnan(targets)
    truth = targets[known]
    if problem == "multilabel":
        chance = answers.sigmoid().numpy()[:, known]
        return np.where(truth > 0.5, chance, 1.0 - chance)
    error = (answers.numpy()[:, known] - truth) ** 2
    width = max(float(error.mean(1).min()), 1e-12)
    return np.exp(-0.5 * (error - error.min(0)) / width)  # what all members miss alike says nothing of their shares


def mixture_shares(likelihoods: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """[m] shares of highest posterior probability. likelihoods [m, cells], prior [m]: pseudo-counts."""
    shares = prior / prior.sum()
    likelihoods = np.maximum(likelihoods, 1e-12)
    for _ in range(STEPS):
        mixed = shares[:, None] * likelihoods
        counts = (mixed / mixed.sum(0)).sum(1) + prior
        shares = counts / counts.sum()
    return shares
