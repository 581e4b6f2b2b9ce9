"""Which program of ours stands beside which published method, with the same settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from _peer_heads import AutoVp, LorVp
from _peer_methods import SHIFTS, Blm, BlmPlus, IlmVp, Place, Published, Smm

from reprogram.inputs.low_rank import LowRank
from reprogram.inputs.pad import Pad
from reprogram.inputs.resize import Resize
from reprogram.inputs.sample_mask import SampleMask
from reprogram.interfaces import InputTransformation, OutputMapping
from reprogram.outputs.bayesian import BayesianMapping
from reprogram.outputs.bayesian_plus import BayesianPlusMapping
from reprogram.outputs.iterative import IterativeMapping
from reprogram.outputs.linear import Linear
from reprogram.outputs.linear_features import LinearFeatures
from reprogram.training.augment import Affine
from reprogram.training.backpropagation import Backpropagation
from reprogram.training.loop import Training


@dataclass
class Pair:
    """A published method and ours: ``program(place)`` gives input and output, ``optimiser`` how they are trained."""

    published: type[Published]
    repository: str
    options: str
    program: Callable[[Place], tuple[InputTransformation, OutputMapping]]
    optimiser: Callable[[], Backpropagation] = field(default=lambda: Backpropagation(schedule="steps"))
    epochs: int = 200
    augment: Affine | None = None
    left_out: tuple[str, ...] = ()  # switches of both sides where trajectories are compared

    def training(self, epochs: int, precision: str, batch: int | None = None) -> Training:
        batch = batch or self.published.batch
        return Training(epochs, batch, self.optimiser(), self.augment, precision)


def framed(place: Place) -> Pad:
    return Pad(size=place.side, inner=place.inner / place.side)


PAIRS = {
    "ILM-VP": Pair(IlmVp, "ILM-VP", "input=pad output=iterative", lambda p: (framed(p), IterativeMapping())),
    "BLM": Pair(Blm, "BayesianLM", "input=pad output=bayesian", lambda p: (framed(p), BayesianMapping())),
    "BLM+": Pair(BlmPlus, "BayesianLM", "input=pad output=bayesian_plus", lambda p: (framed(p), BayesianPlusMapping())),
    "SMM": Pair(
        Smm,
        "SMM",
        "input=sample_mask output=iterative",
        lambda p: (SampleMask(size=p.side, seed=p.seed), IterativeMapping()),
        augment=SHIFTS,
        left_out=("still",),
    ),
    "LoR-VP": Pair(
        LorVp,
        "LoR-VP",
        "input=low_rank output=linear_features",
        lambda p: (LowRank(size=p.side, seed=p.seed), LinearFeatures()),
        lambda: Backpropagation("sgd", 0.02, 0.0001, 0.9, "cosine"),
        20,
    ),
    "AutoVP": Pair(
        AutoVp,
        "AutoVP",
        "input=resize output=linear",
        lambda p: (
            Resize(size=p.side, scale=AutoVp.factor(p) * p.inner / p.side, learn_scale="fixed" not in p.switches),
            Linear(),
        ),
        lambda: Backpropagation("adam", 0.001, schedule="steps"),
        left_out=("fixed",),
    ),
}
