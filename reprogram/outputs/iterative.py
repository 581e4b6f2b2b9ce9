"""Each target label gets its most frequent source label, chosen anew every epoch (ILM)."""

from __future__ import annotations

from dataclasses import dataclass

from reprogram.outputs._counts import OneToOne


@dataclass(eq=False)
class IterativeMapping(OneToOne):
    """Greedy one-to-one assignment from counts of top answers (Chen et al. 2023, ILM-VP, arXiv 2211.11635).

    Counts come from the training pass of the epoch before, or from the step itself where one step sees every example;
    published code spends a second pass over the data on them.

    seed: target labels without an example get unused source labels by lot.
    """
