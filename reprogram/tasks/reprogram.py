"""The main job: load a frozen source, find a program for a target, evaluate it, keep it."""

from __future__ import annotations

import time
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from reprogram.artifact import save_pretrained
from reprogram.errors import ConfigError
from reprogram.evaluation.compare import check_baselines, compare
from reprogram.evaluation.features import shared_answers
from reprogram.evaluation.label_mapping import label_mapping
from reprogram.evaluation.verdict import search_outcome
from reprogram.interfaces import TargetTask
from reprogram.ledger import EVALUATION
from reprogram.report.predictions import write_predictions
from reprogram.report.report import build
from reprogram.robustness.factsheet import write as write_factsheet
from reprogram.tasks._labels import labels_to_check, left_out_of, transductive, untested
from reprogram.tasks._program import choose_program, load_sources, named_parts, train_named
from reprogram.tasks._run import (
    check_answerable,
    compare_with_labelled,
    describe,
    keep_left_out,
    load_hooks,
    show,
    spent,
    start,
)
from reprogram.training.distributed import processes
from reprogram.training.loop import Training

OPTIONS: dict[str, Any] = {"task.baselines": list[str] | None}


def run(config: DictConfig) -> float | None:
    """One run, top to bottom. Returns what a sweep may optimise: a cross-validated value, never a test value."""
    started = time.perf_counter()
    check_baselines(config.task.baselines)
    context = start(config)
    sources = load_sources(config, context.device)
    target: TargetTask = instantiate(config.target)
    check_answerable(target)
    hooks = load_hooks(config)
    for hook in hooks:
        hook.on_source(context, sources[0], target)
    before = [source.fingerprint() for source in sources]
    training: Training = instantiate(config.training)
    if named_parts(config):
        program = train_named(config, sources[0], target, training, context, hooks)
    else:
        program = choose_program(config, sources, target, training, context)
    model = program.model
    if [source.fingerprint() for source in sources] != before:
        raise ConfigError(f"The source {model.source.name} changed during training; it must stay frozen.")
    if not processes().main:
        return None
    if target.pool is not None:
        target.notes.extend(target.pool.told())
    context.sections |= labels_to_check(context, target, left_out_of(model, program.left_out))
    if not len(target.test):
        untested(context, model, target, program.history, started)
        return program.validation
    with model.source.counted_as(EVALUATION):
        with shared_answers(model):
            found = compare(model, target, training, config.task.baselines, context.seed)
            found.verdict = transductive(target) + found.verdict + search_outcome(program.history.search)
            mapping = label_mapping(model, target)
            near = compare_with_labelled(model, target, context, learn=True)
            keep_left_out(model, target, context.seed)
        describe(context.result, model, target, program.history)
        context.result.data |= found.to_json() | {"mapping": mapping}
        save_pretrained(model, context.dir / "program", found.metrics)
        context.result.data.setdefault("robustness", {}).setdefault("rows", [])  # promised, also where none was asked for
        for hook in hooks:
            hook.on_fit_end(context, model, target)
    context.result.data["cost"] |= spent(model, started)
    write_predictions(context.dir, target, found.scores, near)
    build(context, model, target, found).write(context.dir)
    write_factsheet(context.dir / "program", context.result)
    context.result.write(context.dir)
    show(context, found)
    return program.validation
