"""A kept program on new data: load it, score it, check it; nothing is trained and nothing is chosen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from reprogram.artifact import describe_program
from reprogram.errors import ConfigError
from reprogram.evaluation.compare import Comparison, compare
from reprogram.evaluation.features import shared_answers
from reprogram.evaluation.metrics import TITLES
from reprogram.evaluation.new_data import fitted
from reprogram.interfaces import TargetTask
from reprogram.ranges import NotEmpty
from reprogram.report.predictions import write_predictions
from reprogram.report.report import build
from reprogram.sources.reading import reading_notes
from reprogram.targets.unlabelled import Input, open_inputs
from reprogram.tasks._run import (
    compare_with_labelled,
    describe,
    load_hooks,
    load_kept,
    show,
    spent,
    start,
    whole_target,
)
from reprogram.training.loop import History

OPTIONS: dict[str, Any] = {"task.examples": Literal["test", "all"], "program": NotEmpty}


def run(config: DictConfig) -> None:
    """One run, top to bottom."""
    started = time.perf_counter()
    if not config.get("program") or config.program == "auto":
        raise ConfigError("task=evaluate needs a kept program: program=RUN_FOLDER/program, or a Hub id.")
    context = start(config)
    kept = describe_program(config.program)
    model = load_kept(config, kept, context.device)
    target = fitted(whole_target(config, model.target), model.target, config.task.examples)
    target.notes.extend(reading_notes(model.source, model.input, target.test, "test", refuse=False))
    hooks = load_hooks(config)
    for hook in hooks:
        hook.on_source(context, model.source, target)
    with shared_answers(model):
        found = compare(model, target, instantiate(config.training), [], context.seed)
        near = compare_with_labelled(model, target, context)
    found.verdict = verdict(found, kept, target, str(config.program))
    describe(context.result, model, target, History())
    context.result.data |= found.to_json() | {"kept": {"folder": str(config.program), "metrics": kept["metrics"]}}
    context.result.data.setdefault("robustness", {}).setdefault("rows", [])  # promised, also where none was asked for
    for hook in hooks:
        hook.on_fit_end(context, model, target)
    context.result.data["cost"] |= spent(model, started)
    write_predictions(context.dir, target, found.scores, near, unread(config))
    build(context, model, target, found).write(context.dir)
    context.result.write(context.dir)
    show(context, found)


def unread(config: DictConfig) -> list[Input]:
    """Rows of the user's table that cannot be read, with the reason; nobody can say whether a split would have tested them."""
    target: Any = OmegaConf.to_container(config.target, resolve=True)
    if target.get("path") in (None, "???") or not hasattr(get_object(target["_target_"]), "inputs"):
        return []
    return [row for row in open_inputs(target | {"path": target.get("test_path") or target["path"]}) if row.problem]


def verdict(found: Comparison, kept: dict[str, Any], target: TargetTask, program: str) -> str:
    """What the program reaches here, beside what it reached in the original run."""
    now, before = found.metrics[found.metric], kept["metrics"].get(found.metric)
    sentence = (
        f"{Path(program).name} reaches {TITLES[found.metric]} {_figure(now)} "
        f"on {len(target.test):,} examples of {target.info.name}"
    )
    if before is None:
        return sentence + "."
    sentence = f"{sentence}; it reached {_figure(before)} in the original run"
    if None in (now["low"], now["high"], before["low"], before["high"]):
        return sentence + "."
    apart = now["high"] < before["low"] or now["low"] > before["high"]
    return f"{sentence}, {'and the intervals are apart' if apart else 'and the intervals overlap'}."


def _figure(metric: Mapping[str, Any]) -> str:
    """A value with its interval, where there is one."""
    if metric["value"] is None:
        return "a value that this test set does not define"
    if metric["low"] is None or metric["high"] is None:
        return f"{metric['value']:.3f}"
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"
