"""The same program on the same architecture with random weights: what is left when nothing was learned before."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from reprogram.evaluation.baselines.base import Baseline, Bench, NotApplicable
from reprogram.interfaces import InputTransformation, SourceModel

LARGEST = 500_000_000  # parameters of a source that is copied for this


@dataclass
class RandomSource(Baseline):
    """A program that is as good on random weights does not use what the source knows."""

    needs_labels: ClassVar[bool] = False

    def __call__(self, bench: Bench) -> dict[str, np.ndarray]:
        source = bench.source.source
        if not source.differentiable:
            raise NotApplicable(f"the weights of the source {source.name} are not accessible")
        if source.parameter_count() > LARGEST:
            raise NotApplicable(f"the source {source.name} is too large for a second copy in memory")
        input: InputTransformation = type(bench.model.input)(**bench.model.input.config())
        return {"random_source": bench.program_scores(untrained(source, bench.seed), input)}


def untrained(source: SourceModel, seed: int) -> SourceModel:
    """The source's own untrained copy where it offers one (``with_random_weights``), else :func:`redrawn`."""
    offered = getattr(source, "with_random_weights", None)
    device = next((p.device for p in source.parameters()), torch.device("cpu"))
    return (redrawn(source, seed) if offered is None else offered(seed)).to(device)


def redrawn(source: SourceModel, seed: int) -> SourceModel:
    """A copy whose matrices are redrawn from a normal of their own spread and whose vectors are shuffled.

    Scales stay those of the architecture, so activations neither vanish nor explode; what was learned is gone
    (cf. the randomisation tests of Adebayo et al. 2018, arXiv 1810.03292).
    """
    other = copy.deepcopy(source)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.ndim >= 2:
                spread = parameter.std().cpu()
                parameter.copy_((torch.randn(parameter.shape, generator=generator) * spread).to(parameter.dtype))
            else:
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
    other.freeze()
    return other
