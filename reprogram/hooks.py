"""Hooks look at a run from outside and may add rows to its result: robustness checks, logging, checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprogram.run_folder import digest

if TYPE_CHECKING:
    from reprogram.interfaces import SourceModel, TargetTask
    from reprogram.model import ReprogrammedModel
    from reprogram.result import Result


@dataclass
class Run:
    """What a hook sees of a run.

    dir: the run folder. resume: go on from what the folder holds. pictures: name -> PNG bytes, shown in the report.
    sections: more sections of the report, title -> blocks (:mod:`reprogram.report.blocks`).
    """

    dir: Path
    seed: int
    result: Result
    device: str = "cpu"
    resume: bool = False
    pictures: dict[str, bytes] = field(default_factory=dict)
    sections: dict[str, list[Any]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> str:
        """What a checkpoint of this run belongs to: a digest of everything in ``config`` that changes the result."""
        return digest(self.config)


class Hook:
    """Override what you need."""

    def on_source(self, run: Run, source: SourceModel, target: TargetTask | None) -> None:
        """Before anything is trained."""

    def on_epoch_end(self, run: Run, model: ReprogrammedModel, epoch: int, metrics: dict[str, float]) -> None:
        """After each pass over the training examples."""

    def on_fit_end(self, run: Run, model: ReprogrammedModel, target: TargetTask) -> None:
        """The program is final; test examples may be used to measure, never to choose."""
