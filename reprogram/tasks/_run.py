"""What several recipes share: the start of a run, its hooks, and what is told of it at its end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from reprogram.applicability.base import Applicability
from reprogram.artifact import from_pretrained
from reprogram.backdoor.detection.survival import Survival
from reprogram.errors import BudgetSpent, ConfigError
from reprogram.evaluation.compare import Comparison
from reprogram.evaluation.metrics import TITLES
from reprogram.hooks import Hook, Run
from reprogram.interfaces import SourceModel, SourceOutput, TargetInfo, TargetTask, to_tensor_labels
from reprogram.modalities import Candidate
from reprogram.model import ReprogrammedModel
from reprogram.prediction.conformal import keep
from reprogram.progress import console
from reprogram.report.blocks import interval
from reprogram.result import Result
from reprogram.selection.crossval import make_folds, out_of_fold
from reprogram.training.loop import History, peak_memory_mb


def compare_with_labelled(
    model: ReprogrammedModel, target: TargetTask, context: Run, learn: bool = False
) -> dict[str, list[str]]:
    """Columns that say how near the test examples are to the labelled ones, by what the program keeps of these.

    learn: the training examples are the labelled ones. Passes that the source has made already cost nothing.
    """
    unknown = {"outside": ["unknown"] * len(target.test)}
    if learn and not len(target.train):
        return unknown
    try:
        if learn:
            model.applicability = Applicability.of(model, target.train, target.train_rows)
        if model.applicability is None:
            target.notes.append("The program has no sketches of its labelled examples, so 'outside' is unknown.")
            return unknown
        near = model.applicability.nearest_of(model, target.test)
    except BudgetSpent as error:
        target.notes.append(f"The similarity of the test examples to the labelled ones is unknown: {error}")
        return unknown
    context.result.data["applicability"] = near.summary()
    target.notes.extend(filter(None, [near.note()]))
    return near.columns()


def keep_left_out(model: ReprogrammedModel, target: TargetTask, seed: int) -> None:
    """What intervals and prediction sets need is kept with the program: its answers to training examples without their own
    label, exact where the output knows them, else by 10-fold cross-validation of the output on one pass.

    Nothing is kept of a program whose input was trained by steps: it has seen every label.
    """
    if target.info.problem == "multilabel" or model.input.trainable() or not len(target.train):
        return
    logits, labels = model.left_out, target.train.labels
    if logits is None or len(logits) != len(labels):
        try:
            outputs = model.collect(target.train)
        except BudgetSpent as error:
            target.notes.append(f"Intervals and prediction sets of this program are unknown: {error}")
            return
        folds = make_folds(labels, target.info.classes, 10, 1, seed)
        own = Candidate(model.output.name, (model.input.name, {}), (model.output.name, model.output.config()), ())
        tensor = to_tensor_labels(labels)
        here = [SourceOutput(*_on_cpu(o)) for o in outputs]
        held = out_of_fold(own, here, tensor, folds.validation, model.source.spec, target.info)
        logits = held.nan_to_num().sum(0)
        logits[torch.isnan(held).all(0)] = float("nan")
    keep(model, logits, labels)


def _on_cpu(output: SourceOutput) -> tuple[torch.Tensor, torch.Tensor | None, dict[Any, torch.Tensor]]:
    features = None if output.features is None else output.features.cpu()
    return output.logits.cpu(), features, {tap: value.cpu() for tap, value in output.taps.items()}


def show(context: Run, found: Comparison) -> None:
    """The few lines that end a run on the terminal."""
    rows = {"program": found.metrics} | found.baselines
    for name, row in rows.items():
        console.print(f"{name:<20} {TITLES[found.metric]} {interval(row[found.metric])}", markup=False)
    console.print(f"{found.verdict}\nresults in {context.dir}", markup=False)


def spent(model: ReprogrammedModel, started: float) -> dict[str, Any]:
    """What the whole run cost: wall and processor seconds, memory, and the bill of a black-box (query-only) source."""
    return model.source.bill() | {
        "total_seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time(),
        "peak_memory_mb": peak_memory_mb(model.device),
    }


def start(config: DictConfig) -> Run:
    """Seeds, device and an empty result."""
    torch.manual_seed(config.seed)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return Run(
        Path(config.run_dir),
        config.seed,
        Result(config.task.name, config.seed),
        device=choose_device(config.device),
        resume=config.resume,
        config=plain,
    )


def check_answerable(target: TargetTask) -> None:
    """ConfigError for several columns of values: a program answers one value, classes, or several times yes and no."""
    columns = target.info.classes
    if target.info.problem == "regression" and len(columns) > 1:
        raise ConfigError(
            f"target.label_column names {len(columns)} columns of which one at least holds values ({', '.join(columns[:5])}), "
            "and a program answers one value: name one column. (Several columns may hold 0 and 1.)"
        )


def choose_device(name: str) -> str:
    """``auto`` takes a GPU where there is one."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda, but torch sees no GPU here; use device=cpu.")
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"device={name} is unknown; allowed: auto, cpu, cuda")
    return name


def load_hooks(config: DictConfig) -> list[Hook]:
    """Hooks of the configuration: inspection of the source, robustness checks, a known trigger, loggers."""
    groups = [g for g in ("inspection", "robustness", "logger") if "_target_" in (config.get(g) or {})]
    trigger = instantiate(config.trigger) if "_target_" in (config.get("trigger") or {}) else None
    return [*(instantiate(config[group]) for group in groups), *([Survival(trigger)] if trigger else [])]


def describe(result: Result, model: ReprogrammedModel, target: TargetTask, history: History) -> None:
    """Source, target, program and cost, as ``result.json`` promises them."""
    tensors = model.program()
    result.data |= {
        "source": {
            "name": model.source.name,
            "fingerprint": model.source.fingerprint(),
            "parameters": model.source.parameter_count(),
        },
        "target": {
            "name": target.info.name,
            "kind": target.info.kind,
            "problem": target.info.problem,
            "classes": list(target.info.classes),
            "train_labels": len(target.train),
            "test_size": len(target.test),
            "split": target.split,
            "notes": target.notes,
        },
        "program": {
            "input": model.input.name,
            "output": model.output.name,
            "parameters": sum(t.numel() for t in tensors.values()),
            "trained": model.input.trainable() + model.output.trainable(),
            "bytes": sum(t.numel() * t.element_size() for t in tensors.values()),
        },
        "history": history.epochs,
        **({"search": history.search} if history.search else {}),
        "cost": {
            "train_seconds": history.seconds,
            "training_precision": history.precision,
            "examples_per_second": history.examples_per_second,
            "peak_memory_mb": peak_memory_mb(model.device),
            "ended": history.ended,
        },
    }


def whole_target(config: DictConfig, program: TargetInfo | None = None) -> TargetTask:
    """New data needs no few-label drawing: ``shots`` and ``labels`` are set aside. What would be found in the data is as it
    was for the program: whole numbers are values, white is the same value."""
    wanted = config.target.copy()
    values = program is not None and program.problem == "regression"
    learned = {"problem": "regression" if values else None, "white": program.white if program is not None else None}
    for key, value in learned.items():
        if value is not None and wanted.get(key) == "auto":
            OmegaConf.update(wanted, key, value)
    for key in ("shots", "labels"):
        if key in wanted:
            OmegaConf.update(wanted, key, None)
    return instantiate(wanted)


def load_kept(config: DictConfig, kept: dict[str, Any], device: str) -> ReprogrammedModel:
    """The program of ``program=``, whose ``program.json`` is ``kept``."""
    return from_pretrained(config.program, source=_source(config, kept), device=device)


def chosen_by_user(key: str) -> bool:
    """Was a group or one of its options given on the command line?"""
    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return any(text.lstrip("+~").partition("=")[0].split(".")[0] == key for text in given)


def _source(config: DictConfig, kept: dict[str, Any]) -> SourceModel | None:
    """The source that the user names, or that the program cannot name itself; else None: the program's own."""
    if kept["source"]["loader"] is None or chosen_by_user("source"):
        return instantiate(config.source)
    return None
