"""The parts of published methods and of ours on the same numbers: prompts, mappings, and the steps of a search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _peer_black_box import stepper
from _peer_code import Checkout
from _peer_heads import AutoVp, LorVp
from _peer_methods import Blm, BlmPlus, IlmVp, Place, Published, Smm, Through
from _peer_pairs import PAIRS
from torch import Tensor, nn
from torch.nn import functional as F

from reprogram.inputs.low_rank import LowRank
from reprogram.inputs.pad import Pad
from reprogram.inputs.resize import Resize
from reprogram.inputs.sample_mask import SampleMask
from reprogram.interfaces import InputTransformation, OutputMapping, SourceOutput, SourceSpec, TargetInfo
from reprogram.outputs.bayesian import BayesianMapping
from reprogram.outputs.bayesian_plus import BayesianPlusMapping
from reprogram.outputs.iterative import IterativeMapping
from reprogram.training.spsa_gc import SpsaGc

SIDE, INNER, SOURCES, CLASSES = 96, 56, 60, 10
SPEC = SourceSpec("image", SIDE, tuple(str(i) for i in range(SOURCES)), feature_size=1280)
INFO = TargetInfo("agreement", "image", "classification", tuple("0123456789"))


class Parts:
    """A published method's parts alone, without its network."""

    def __init__(self, code: Checkout, seed: int) -> None:
        self.code, self.seed = code, seed
        torch.manual_seed(seed)
        self.images = torch.rand(4, 3, INNER, INNER)
        self.wide = torch.rand(4, 3, SIDE, SIDE)

    def theirs(self, method: type[Published]) -> Published:
        made = method.__new__(method)
        nn.Module.__init__(made)
        made.place = Place(self.code, SIDE, INNER, 1, torch.device("cpu"), self.seed)
        made.seen = []
        made.build()
        return made

    def ours(self, part: Any) -> Any:
        assert isinstance(part, InputTransformation | OutputMapping)
        part.build(SPEC, INFO)
        return part


def frame(parts: Parts) -> float:
    """Largest difference of pixels: the frame of ILM-VP and BLM against input=pad, with the same random values."""
    differences = []
    for method in (IlmVp, Blm):
        theirs, ours = parts.theirs(method).prompt, parts.ours(Pad(size=SIDE, inner=INNER / SIDE))
        theirs.normalize = None
        with torch.no_grad():
            theirs.program.normal_()
            ours.delta.copy_(theirs.program[:, ours._frame])
            differences.append(float((theirs(parts.images) - ours(parts.images)[0]).abs().max()))
    return max(differences)


def drawn(seed: int, each: int) -> tuple[Tensor, Tensor]:
    """Source logits [10·each, S] that know something of their labels."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(CLASSES).repeat(each)
    means = 1.5 * torch.randn(CLASSES, SOURCES, generator=rng)
    return means[labels] + torch.randn(len(labels), SOURCES, generator=rng), labels


def ours_from(mapping: Any, logits: Tensor, labels: Tensor) -> Any:
    mapping.observe([SourceOutput(logits)], labels)
    mapping.refresh()
    return mapping


def same_classes(parts: Parts, each: int, draws: int = 50) -> float:
    """Share of target labels that get the same source label from ILM-VP's counting and from output=iterative."""
    theirs, same = parts.theirs(IlmVp), []
    for draw in range(draws):
        logits, labels = drawn(1000 * parts.seed + draw, each)
        theirs.remap(Through(), lambda x: x, [(logits, labels)])
        ours = ours_from(parts.ours(IterativeMapping()), logits, labels)
        same.append(float((theirs.sequence == ours.index[:, 0]).float().mean()))
    return float(np.mean(same))


def weights(parts: Parts, method: type[Published], make: Callable[[], OutputMapping]) -> float:
    """Largest difference of a weight of BLM's (BLM+'s) matrix."""
    theirs = parts.theirs(method)
    logits, labels = drawn(parts.seed, 16)
    theirs.remap(Through(), lambda x: x, [(logits, labels)])
    return float((theirs.matrix - ours_from(parts.ours(make()), logits, labels).weight).abs().max())  # type: ignore[operator]


@torch.no_grad()
def sample_mask(parts: Parts) -> float:
    """Largest difference of the pattern times its mask, with the same weights in the mask's network."""
    theirs, ours = parts.theirs(Smm).prompt, parts.ours(SampleMask(size=SIDE))
    theirs.program.normal_()
    ours.delta.copy_(theirs.program)
    state = theirs.priority.state_dict()
    ours.mask.load_state_dict(dict(zip(ours.mask.state_dict(), state.values(), strict=True)))
    theirs.eval(), ours.eval()
    return float((theirs(parts.wide) - parts.wide - ours.delta * ours.up(ours.mask(parts.wide))).abs().max())


@torch.no_grad()
def low_rank(parts: Parts) -> float:
    """Largest difference of the pattern B·A."""
    theirs, ours = parts.theirs(LorVp).prompt, parts.ours(LowRank(size=SIDE))
    theirs.left_bar.normal_()
    ours.columns.copy_(theirs.left_bar), ours.rows.copy_(theirs.right_bar)
    return float((theirs(parts.wide) - parts.wide - ours.columns @ ours.rows).abs().max())


@torch.no_grad()
def scaled(parts: Parts) -> float:
    """Mean difference of pixels: a smooth image at scale 1.5 in AutoVP's frame against input=resize."""
    theirs = parts.theirs(AutoVp)
    ours = parts.ours(Resize(size=SIDE, scale=AutoVp.factor(theirs.place) * INNER / SIDE))
    smooth = F.interpolate(parts.images[..., ::8, ::8], size=(INNER, INNER), mode="bicubic").clamp(0, 1)
    theirs.prompt.normalization = None
    theirs.prompt.delta.normal_()
    ours.delta.copy_(theirs.prompt.delta)
    return float((theirs.prompt(*theirs.scale(smooth)) - ours(smooth)[0]).abs().mean())


class SameDraws(SpsaGc):
    """Ours with the perturbations that BlackVIP draws."""

    def deltas(self, dimension: int) -> Tensor:
        found = []
        for _ in range(self.pairs):
            size = (torch.rand(dimension) + 1) / 2
            found.append(torch.where(torch.bernoulli(torch.ones(dimension, 1) / 2)[:, 0].bool(), -size, size))
        return torch.stack(found)


def search(parts: Parts, steps: int = 20) -> float:
    """Largest difference of a parameter after 20 steps of SPSA-GC on a small network, from the same draws."""
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    start = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    images, labels = torch.randn(32, 6), torch.randint(0, 3, (32,))
    step = stepper(parts.code, model, model, torch.device("cpu"))
    torch.manual_seed(parts.seed)
    for _ in range(steps):
        step(images, labels)
    theirs = nn.utils.parameters_to_vector(model.parameters()).detach().clone()

    def losses(candidates: Tensor) -> Tensor:
        found = []
        for one in candidates:
            nn.utils.vector_to_parameters(one, model.parameters())
            found.append(F.cross_entropy(model(images), labels))
        return torch.stack(found).detach()

    ours = SameDraws(gain=0.01, probe=0.01)
    ours.velocity, ours.sizes = torch.zeros(()), []
    torch.manual_seed(parts.seed)
    vector = start
    for index in range(steps):
        vector, _ = ours.move(losses, vector, index)
    return float((vector.detach() - theirs).abs().max())


def rates(parts: Parts, images: int = 160) -> float:
    """Largest difference of a step's learning rate in the authors' whole run, as a share of it."""
    worst = 0.0
    for pair in PAIRS.values():
        theirs = parts.theirs(pair.published)
        theirs.place.epochs, theirs.place.batches = pair.epochs, -(-images // pair.published.batch)
        optimisers, ours = theirs.optimisers(), pair.optimiser()
        schedulers, ours.total_steps = theirs.schedulers(optimisers), pair.epochs * theirs.place.batches
        for step in range(ours.total_steps):
            for one in optimisers:
                one.step()
                worst = max(worst, abs(one.param_groups[0]["lr"] / ours.rate(step) - 1))
            theirs.after_step()
            if (step + 1) % theirs.place.batches == 0:
                for schedule in schedulers:
                    schedule.step()
    return worst


def agreement(code: Checkout, seeds: list[int]) -> list[dict[str, Any]]:
    """Every comparison: what it is, and its worst value over ``seeds``."""
    checks: list[tuple[str, str, Callable[[Parts], float], bool]] = [
        ("ILM-VP, BLM: prompted image, largest difference", "input=pad", frame, True),
        ("ILM-VP: same source class, 1,000 examples a class", "output=iterative", lambda p: same_classes(p, 1000), False),
        ("ILM-VP: same source class, 16 examples a class", "output=iterative", lambda p: same_classes(p, 16), False),
        ("BLM: weight, largest difference", "output=bayesian", lambda p: weights(p, Blm, BayesianMapping), True),
        ("BLM+: weight, largest difference", "output=bayesian_plus", lambda p: weights(p, BlmPlus, BayesianPlusMapping), True),
        ("SMM: pattern x mask, largest difference", "input=sample_mask", sample_mask, True),
        ("LoR-VP: pattern, largest difference", "input=low_rank", low_rank, True),
        ("AutoVP: prompted image at scale 1.5, mean difference", "input=resize", scaled, True),
        ("the six above: learning rate of a step, largest difference as a share", "training.optimiser", rates, True),
        ("BlackVIP: parameter after 20 steps, largest difference", "training=spsa_gc", search, True),
    ]
    parts = [Parts(code, seed) for seed in seeds]
    rows = []
    for what, option, check, largest in checks:
        values = [check(part) for part in parts]
        rows.append({"what": what, "option": option, "value": max(values) if largest else min(values)})
    return rows
