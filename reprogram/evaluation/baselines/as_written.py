"""The same program on the strings as written in the file: does it read the thing, or its author's handwriting?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from reprogram.evaluation.baselines.base import Baseline, Bench, NotApplicable
from reprogram.evaluation.metrics import TITLES, evaluate, headline
from reprogram.interfaces import InputTransformation


@dataclass
class AsWritten(Baseline):
    """A check, not a rival: on BBBP as published a language model gains seven points that one canonical spelling takes away.

    leak: difference of the leading metric from which the report speaks of a writing leak.
    """

    leak: float = 0.02

    def __call__(self, bench: Bench) -> dict[str, np.ndarray]:
        if bench.target.info.input_shape is not None:
            return {}  # an image has one spelling
        written = getattr(bench.target, "written", None)
        if written is None:
            raise NotApplicable("the target's strings are read as they are written")
        config = bench.model.input.config()
        if "canonical" in config:
            config["canonical"] = False
        input: InputTransformation = type(bench.model.input)(**config)
        other = replace(bench, target=replace(bench.target, train=written[0], test=written[1]))
        scores = other.program_scores(bench.source, input)
        self._flag(bench, scores)
        return {"as_written": scores}

    def _flag(self, bench: Bench, scores: np.ndarray) -> None:
        info, labels = bench.target.info, np.asarray(bench.target.test.labels)
        metric = headline(info.problem, len(info.classes))
        ours, theirs = (evaluate(s, labels, info.problem)[metric]["value"] for s in (bench.scores, scores))
        if ours is None or theirs is None or abs(ours - theirs) <= self.leak:
            return
        bench.target.notes.append(
            f"Writing leak: {TITLES[metric]} {theirs:.3f} on the strings as written in the file, {ours:.3f} in one "
            "spelling; how a string is written is related to its label, so do not trust results on raw strings."
        )
