"""The frozen decoder reprogrammed: a soft prompt in front of it is learned from oracle scores by policy gradient.

REINFORCE with the round's mean as baseline (Williams 1992), replay of the best found so far written in random atom orders
(Augmented Memory, Guo & Schwaller 2024), through the same training loop as every other program. The frozen model never
changes; the program (a few thousand values) is what is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from molecules import chemistry
from molecules.evaluator import Evaluator
from molecules.objective import Scored
from molecules.search.latent import readable
from molecules.search.proposals import PATIENCE, Proposals, ranks
from molecules.spaces.base import Decoded, Memory
from molecules.spaces.likelihood import ARROW, Likelihood
from molecules.starts import File
from reprogram.inputs.decoder_prompt import DecoderPrompt
from reprogram.interfaces import Examples, TargetInfo
from reprogram.model import ReprogrammedModel
from reprogram.outputs.identity import IdentityMapping
from reprogram.ranges import Amount, Count, NotEmpty, Positive, Range
from reprogram.training.backpropagation import Backpropagation
from reprogram.training.loop import Training, fit


class Pairs(Examples):
    """``PARENT>>CHILD`` strings with the advantage of each as its label."""

    def __init__(self, texts: Sequence[str], advantages: Sequence[float]) -> None:
        self.texts, self.labels = list(texts), np.asarray(advantages, dtype=np.float32).reshape(-1, 1)

    def batch(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        return [self.texts[int(i)] for i in rows]

    def subset(self, rows: Sequence[int] | np.ndarray) -> Pairs:
        return Pairs(self.batch(rows), self.labels[np.asarray(rows), 0])


@dataclass
class ReprogrammedGenerator(Proposals):
    """As ``proposals``, but a program in front of the decoder learns after every round.

    slots: length of the soft prompt. rate: learning rate. epochs: passes over a round's examples.
    replay: best molecules shown again in a round, in random atom orders. memory_size: how many are remembered.
    actives: a file of known actives. They are evaluated after the start molecules, may be parents, and are remembered from the
    first round on, each as an analogue of the most similar other start molecule or active.
    """

    slots: Annotated[int, Range(0, 1000)] = 8
    rate: Positive = 0.002
    epochs: Amount = 2
    replay: Amount = 24
    memory_size: Count = 50
    actives: NotEmpty | None = None
    program: ReprogrammedModel | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.likelihood = Likelihood(self.space)
        self.notes: list[str] = []
        self._known: list[str] = []  # actives, canonical

    def first(self, evaluator: Evaluator, start: Sequence[str], rng: np.random.Generator) -> list[str]:
        if self.actives is not None:
            found = File(self.actives).read(rng)
            self.notes, self._known = found.notes, found.smiles
        return list(dict.fromkeys([*start, *self._known]))

    def explore(self, evaluator: Evaluator, start: list[Scored], rng: np.random.Generator) -> None:
        target = TargetInfo(evaluator.objective.name, "molecule", "regression", ("log_probability",))
        self.program = ReprogrammedModel(self.likelihood, DecoderPrompt(self.slots), IdentityMapping(), target)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        population = readable(self.space, start)
        remembered = remembered_at_first(population, self._known)
        idle = 0
        while idle < PATIENCE:
            parents = [population[i].smiles for i in ranks(len(population), self.parents, rng)]
            written = [self.rewrite(p, rng) for p in parents]
            drawn = self.space.decode(self.memory(written, self.samples), self.temperature, generator)
            children = self.choose(evaluator, parents, drawn)
            idle = 0 if children else idle + 1
            scored = evaluator.score(list(children), list(children.values()))
            everything = {s.smiles: s for s in [*population, *scored] if self.space.unreadable(s.smiles) is None}
            population = sorted(everything.values(), key=lambda s: s.rank, reverse=True)[: self.population]
            remembered |= {s.smiles: s for s in scored if s.feasible and s.smiles in everything}
            best = sorted(remembered.values(), key=lambda s: s.score, reverse=True)[: self.memory_size]
            remembered = {s.smiles: s for s in best}
            self.learn(evaluator, written, drawn, best, rng)

    def memory(self, written: list[str], samples: int) -> Memory:
        """Behind the program."""
        assert self.program is not None
        with torch.no_grad():
            [view] = self.program.input(written)
            memory = self.likelihood.memory(written, view)
        return memory.rows(np.repeat(np.arange(len(written)), samples))

    def learn(
        self, evaluator: Evaluator, written: list[str], drawn: Decoded, best: list[Scored], rng: np.random.Generator
    ) -> None:
        """One policy-gradient update from what was just written and from the best so far."""
        assert self.program is not None
        texts, rewards = [], []
        for row, child in enumerate(drawn.smiles):
            reward = None if child is None else self.reward(evaluator, child)
            if child is not None and reward is not None:
                texts.append(written[row // self.samples] + ARROW + child)
                rewards.append(reward)
        advantages = standardised(rewards)
        chosen = ranks(len(best), self.replay, rng) if best else []
        for i in chosen:
            parent, child = (self.rewrite(s, rng) for s in (best[i].parent, best[i].smiles))
            texts.append(parent + ARROW + child)
            advantages.append(1.0)
        if texts:
            training = Training(
                epochs=self.epochs,
                batch_size=32,
                optimiser=Backpropagation("adam", self.rate, schedule="constant"),
                adversarial=policy_loss,
            )
            fit(self.program, Pairs(texts, advantages), training, seed=int(rng.integers(2**31)))

    def reward(self, evaluator: Evaluator, child: str) -> float | None:
        """Score of a feasible molecule, 0 or less of any other; None for one that was not evaluated."""
        key = chemistry.canonical(child)
        if key is None:
            return 0.0
        violation = float(evaluator.violations([key])[0])
        if violation > 0:
            return -min(violation, 1.0)
        if not evaluator.known(key):
            return None
        [scored] = evaluator.score([key])
        return 0.0 if math.isnan(scored.score) else scored.score


def remembered_at_first(population: Sequence[Scored], actives: Sequence[str]) -> dict[str, Scored]:
    """Feasible actives of the population by SMILES, each with the most similar other molecule as its parent."""
    wanted = set(actives)
    prints = [chemistry.bit_fingerprint(mol) for s in population if (mol := chemistry.parse(s.smiles)) is not None]
    found = {}
    for row, scored in enumerate(population):
        if scored.smiles not in wanted or not scored.feasible or len(population) < 2:
            continue
        alike = chemistry.similarity(prints[row], prints)
        alike[row] = -1.0
        found[scored.smiles] = replace(scored, parent=population[int(alike.argmax())].smiles)
    return found


def policy_loss(model: ReprogrammedModel, pairs: list[str], advantages: Tensor) -> Tensor:
    """-mean(advantage * log p): its gradient is the policy gradient where the pairs were drawn from the policy."""
    return -(advantages.squeeze(-1) * model(pairs).squeeze(-1)).mean()


def standardised(rewards: Sequence[float]) -> list[float]:
    """(reward - mean) / standard deviation, all 0 where they are equal."""
    values = np.asarray(rewards, dtype=float)
    std = values.std() if len(values) else 0.0
    return ((values - values.mean()) / std).tolist() if std > 1e-9 else [0.0] * len(values)
