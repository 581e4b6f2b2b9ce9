"""One call evaluates: any torch classifier, its examples, and a depth in one word."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError, nearest
from reprogram.progress import progress
from reprogram.result import Result
from reprogram.robustness import checks
from reprogram.robustness.checks import Check, Settings
from reprogram.robustness.kept import Kept
from reprogram.robustness.subject import Subject, gather, still
from reprogram.threat import Threat

DEPTHS: dict[str, Settings] = {
    "quick": Settings(),
    "full": Settings(
        examples=200,
        few=32,
        threats={"linf": 8 / 255, "l2": 0.5, "l1": 12.0},
        pgd=20,
        apgd=20,
        targeted=10,
        square=100,
        jumps=5,
        universal=3,
        transfer=True,
        draws=3,
        curve=(0.25, 0.5, 2.0, 4.0),
        clever=3,
        smooth=6,
        bounds=4,
        semantic=9,
        corruptions=(1, 2, 3, 4, 5),
        inheritance=True,
    ),
}


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
    more: Sequence[Check] = (),
) -> Result:
    """Attack, certify and estimate ``model``: images [B, C, H, W] in [0, 1] -> logits [B, T].

    data: (images, labels), :class:`~reprogram.interfaces.Examples`, or batches of (images, labels).
    depth: ``none``, ``quick`` (about a minute) or ``full``; ``settings`` replaces what the depth stands for.
    train: other examples that may be learned from (universal perturbation). source: the bare source as images ->
    logits over its own labels (transfer). result: rows are added to it. journal: a file that keeps what is finished,
    so that an interrupted evaluation goes on with ``resume``. more: checks that run after those of the depth.

    Returns the result; its rows are in ``result.data["robustness"]["rows"]``. Raises ConfigError or DataError.
    """
    result = Result("evaluate", seed) if result is None else result
    if depth != "none" and depth not in DEPTHS:
        raise ConfigError(f"robustness depth={depth!r} is unknown; {nearest(depth, ('none', *DEPTHS))}.")
    if depth == "none":
        return result
    settings = replace(DEPTHS[depth]) if settings is None else settings
    device = _device(model)
    images, labels = gather(data, settings.examples, device, seed)
    for norm, eps in settings.threats.items():
        Threat(norm, eps).fits(images.shape[1:])
    with still(model):
        start = time.perf_counter()
        subject = Subject.of(model, images, labels, seed, settings.batch_size, train=train, source=source)
        plan = [Check("clean", checks.clean), *checks.attacks(subject, settings)]
        plan += [*checks.measurements(subject, settings), *more]
        _run(plan, subject, result, Kept(journal, _key(subject, depth, settings), resume))
    _summary(result, subject, depth, settings, time.perf_counter() - start)
    return result


def _run(plan: list[Check], subject: Subject, result: Result, kept: Kept) -> None:
    with progress("robustness", len(plan)) as bar:
        for check in plan:
            outcome = kept.once(check.name, partial(check.run, subject))
            subject.take(outcome)
            for row in outcome.rows:
                row.add_to(result)
            bar.advance(note=check.name)


def _key(subject: Subject, depth: str, settings: Settings) -> str:
    """Hash of what the rows depend on: the model's answers, the examples, the settings, the seed.

    A model that answers differently each time is told by its weights instead.
    """
    digest = hashlib.sha256(f"{depth} {asdict(settings)} {subject.seed}".encode())
    weights = [] if subject.module is None else list(subject.module.state_dict().values())
    told = weights if subject.random else [subject.clean, subject.logits(subject.images[:16])]
    for tensor in (subject.images, subject.labels, *told):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _summary(result: Result, subject: Subject, depth: str, settings: Settings, seconds: float) -> None:
    block = result.data.setdefault("robustness", {})
    block["depth"] = depth
    block["settings"] = asdict(settings)
    block["seconds"] = round(seconds, 1)
    block["notes"] = subject.notes
    block["flags"] = sorted({flag for row in block.get("rows", []) for flag in row["flags"]})


def _device(model: Any) -> torch.device:
    if isinstance(model, nn.Module):
        for tensor in (*model.parameters(), *model.buffers()):
            return tensor.device
    return torch.device("cpu")
