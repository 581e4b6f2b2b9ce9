"""Which program a run uses: the one whose parts are named, or the one that cross-validation chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hydra.utils import instantiate
from markupsafe import Markup
from omegaconf import DictConfig

from reprogram.errors import ConfigError
from reprogram.evaluation.features import CachedSource
from reprogram.evaluation.point_metrics import main_metric
from reprogram.hooks import Hook, Run
from reprogram.interfaces import SourceModel, TargetTask
from reprogram.labels.reading import read_pool
from reprogram.modalities import modality
from reprogram.model import ReprogrammedModel
from reprogram.report import blocks
from reprogram.selection.candidates import make_input, make_output
from reprogram.selection.choose import Choice, choose
from reprogram.training.loop import History, Training


@dataclass
class FoundProgram:
    """A trained program. validation: its cross-validated value, which a sweep may optimise (never a test value).
    left_out: [N, T] what it says of each training example without its own label, where that is known."""

    model: ReprogrammedModel
    history: History = field(default_factory=History)
    validation: float | None = None
    left_out: np.ndarray | None = None


def named_parts(config: DictConfig) -> bool:
    """True when ``input=`` or ``output=`` names a part of the program; else ``program=auto`` chooses."""
    return config.get("input") is not None or config.get("output") is not None


def load_sources(config: DictConfig, device: str) -> list[SourceModel]:
    """The source, and those that ``source=[a,b]`` names beside it."""
    return [instantiate(source).to(device) for source in (config.source, *config.sources)]


def train_named(
    config: DictConfig, source: SourceModel, target: TargetTask, training: Training, run: Run, hooks: Sequence[Hook]
) -> FoundProgram:
    """The named program; a part that is not named is the plain input, or the closed-form ridge over taps."""
    plain = modality(target.info.kind).plain_input
    before = make_input((plain, {})) if config.get("input") is None else instantiate(config.input)
    behind = make_output(("ridge_taps", {})) if config.get("output") is None else instantiate(config.output)
    model = ReprogrammedModel(source, before, behind, target.info).to(run.device)
    if behind.reads_pool and target.pool is not None:
        reader = type(before)(**before.config())
        behind.observe_pool(read_pool(source, target.pool, target.info, reader, behind.taps())[0])
    history = training.fit(model, target.train, run, hooks)
    target.notes.extend(history.notes)
    return FoundProgram(model, history, _last_value(history))


def _last_value(history: History) -> float | None:
    """Training accuracy, or minus the training loss, of the last epoch."""
    last = history.epochs[-1] if history.epochs else {}
    return last.get("accuracy", -last["loss"] if last else None)


def choose_program(
    config: DictConfig, sources: list[SourceModel], target: TargetTask, training: Training, run: Run
) -> FoundProgram:
    """``program=auto``: the search, its table for the report, and the forecast in ``result.json``."""
    if training.adversarial:
        raise ConfigError(
            "training.adversarial needs a program that is trained by steps: name one by input= and output="
        )
    cached: list[SourceModel] = [CachedSource(source) for source in sources]  # candidates share strings and sizes
    found = choose(cached, target, instantiate(config.auto), run)
    found.model.source = sources[found.candidate.source]
    metric = main_metric(target.info).__name__
    run.result.data["auto"] = {
        "chosen": found.candidate.name,
        "forecast": None if found.estimate is None else {"metric": metric} | vars(found.estimate),
        "rows": found.rows,
        "prompt_trials": [vars(trial) for trial in found.forecasts],
        "seconds": found.seconds,
    }
    run.sections["How the program was chosen"] = report(found, metric)
    target.notes.extend(found.notes)
    if found.estimate is None:
        return FoundProgram(found.model, History(seconds=found.seconds, examples=0, ended=found.notes[0]))
    history = History(seconds=found.seconds, examples=0, ended="chosen by cross-validation on the training labels")
    return FoundProgram(found.model, history, found.estimate.value, found.left_out)


def report(found: Choice, metric: str) -> list[Markup]:
    """What was tried, skipped and why, and what the choice is expected to reach."""
    forecast = found.estimate
    if forecast is None:
        return [blocks.note(" ".join(found.notes))]
    text = (
        f"Chosen by cross-validated squared error on the training labels. Expected {metric} on new data: "
        f"{forecast.value:.3f}; with {forecast.level:.0%} probability a test set gives {forecast.low:.3f} to "
        f"{forecast.high:.3f}. Corrected for the choice among candidates and for the labels that folds hold out "
        f"(without the corrections {forecast.naive:.3f})."
    )
    body: list[list[Any]] = [
        [r["candidate"], r["status"], r.get("passes"), r.get("squared_error"), r.get(metric), r["why"]]
        for r in found.rows
    ]
    head = ["candidate", "", "passes", "squared error", metric.replace("_", " "), "why"]
    own = [i for i, row in enumerate(found.rows) if row["status"] == "chosen"]
    return [blocks.note(text), blocks.table(head, body, own=own)]
