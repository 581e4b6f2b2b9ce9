"""The same program without its prompt: the plain image or text, the same output mapping, the same training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reprogram.evaluation.baselines.base import Baseline, Bench
from reprogram.evaluation.features import plain_input


@dataclass
class MappingOnly(Baseline):
    """Where the program has no prompt, it is its own mapping-only baseline and nothing is computed again.

    The plain image is read at the source's own resolution; where every answer is paid for, at the program's, so that the
    row is what the first pass of a search has paid for.
    """

    def __call__(self, bench: Bench) -> dict[str, np.ndarray]:
        if bench.model.input.trainable() == 0:
            return {"mapping_only": bench.scores}
        plain = plain_input(bench.target.info)
        if not bench.source.differentiable and hasattr(plain, "size"):
            setattr(plain, "size", getattr(bench.model.input, "size", None))  # noqa: B010  # of images, where there is one
        return {"mapping_only": bench.program_scores(bench.source, plain)}
