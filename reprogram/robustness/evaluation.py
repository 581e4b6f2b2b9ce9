"""One call evaluates: any torch classifier, its examples, and a depth in one word."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError, nearest
from reprogram.frozen import still
from reprogram.progress import progress
from reprogram.result import Result
from reprogram.robustness.checks.base import Check, Scope
from reprogram.robustness.checks.clean import Clean
from reprogram.robustness.diagnose import diagnose
from reprogram.robustness.evaluated_model import EvaluatedModel, gather
from reprogram.robustness.findings import Outcome
from reprogram.robustness.plan import DEPTHS, Settings
from reprogram.robustness.plan import settings as settings_of
from reprogram.robustness.result_cache import ResultCache
from reprogram.threat import Threat


def evaluate(
    model: Any,
    data: Any,
    depth: str = "quick",
    *,
    seed: int = 0,
    settings: Settings | None = None,
    train: tuple[Tensor, Tensor] | None = None,
    source: Any = None,
    result: Result | None = None,
    journal: Path | None = None,
    resume: bool = False,
    more: Sequence[tuple[str, Check]] = (),
) -> Result:
    """Attack, certify and estimate ``model``: images [B, C, H, W] in [0, 1] -> logits [B, T].

    data: (images, labels), :class:`~reprogram.interfaces.Examples`, or batches of (images, labels).
    depth: ``none``, ``quick`` (about a minute) or ``full``; ``settings`` (``robustness.settings("quick", examples=50)``)
    replaces what the depth stands for. train: other examples that may be learned from (universal perturbation). source:
    the bare source as images -> logits over its own labels (transfer). result: rows are added to it. journal: a file
    that keeps what is finished, so that an interrupted evaluation goes on with ``resume``. more: named checks that run
    after those of the depth.

    Returns the result; its rows are in ``result.data["robustness"]["rows"]``. Raises ConfigError or DataError.
    """
    result = Result("evaluate", seed) if result is None else result
    if depth != "none" and depth not in DEPTHS:
        raise ConfigError(f"robustness depth={depth!r} is unknown; {nearest(depth, ('none', *DEPTHS))}.")
    if depth == "none":
        return result
    settings = settings_of(depth) if settings is None else settings
    device = _device(model)
    images, labels = gather(data, settings.examples, device, seed)
    for norm, eps in settings.threats.items():
        Threat(norm, eps).fits(images.shape[1:], f"robustness.threats.{norm}")
    with still(model):
        start = time.perf_counter()
        found = diagnose(model, images, labels, seed, settings.batch_size, train=train, source=source)
        plan = [(Clean(), Scope("clean", len(labels), settings.threats)), *settings.plan(found, "pixels")]
        few = min(settings.few, settings.examples)
        plan += [(check, Scope(name, few, settings.threats)) for name, check in more]
        run(plan, found, result, ResultCache(journal, _key(found, depth, settings), resume))
    block = result.data.setdefault("robustness", {})
    block |= {"depth": depth, "settings": settings.to_json(), "seconds": round(time.perf_counter() - start, 1)}
    block["notes"] = found.notes
    block["flags"] = sorted({flag["text"] for row in block.get("rows", []) for flag in row["flags"]})
    return result


def run(plan: Iterable[tuple[Check, Scope]], model: Any, result: Result, cache: ResultCache) -> None:
    """Every check that is not finished yet; what it finds is remembered for those after it, and its rows are added."""
    plan = list(plan)
    with progress("robustness", len(plan)) as bar:
        for check, scope in plan:
            name = f"{scope.name} {scope.threat.norm}" if scope.threat else scope.name
            outcome: Outcome = cache.once(name, partial(check.run, model, scope))
            if isinstance(model, EvaluatedModel):
                model.take(outcome)
            for row in outcome.rows:
                row.add_to(result)
            bar.advance(note=name)


def _key(model: EvaluatedModel, depth: str, settings: Settings) -> str:
    """Hash of what the rows depend on: the model's answers, the examples, the settings, the seed.

    A model that answers differently each time is recognised by its weights instead.
    """
    digest = hashlib.sha256(f"{depth} {settings.to_json()} {model.seed}".encode())
    weights = [] if model.module is None else list(model.module.state_dict().values())
    told = weights if model.random else [model.clean, model.logits(model.images[:16])]
    for tensor in (model.images, model.labels, *told):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _device(model: Any) -> torch.device:
    if isinstance(model, nn.Module):
        for tensor in (*model.parameters(), *model.buffers()):
            return tensor.device
    return torch.device("cpu")
