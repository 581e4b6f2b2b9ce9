"""The robustness hook of a run: ``robustness=none|quick|full``, an interrupted full run goes on with ``resume=true``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from reprogram.errors import ConfigError, nearest
from reprogram.hooks import Hook, Run
from reprogram.robustness import text
from reprogram.robustness.checks import Settings
from reprogram.robustness.evaluation import DEPTHS, evaluate
from reprogram.robustness.inheritance import BareSource
from reprogram.robustness.subject import gather, still

if TYPE_CHECKING:
    from reprogram.interfaces import TargetTask
    from reprogram.model import ReprogrammedModel


class RobustnessHook(Hook):
    """depth: what to run; every other key replaces one of the depth's :class:`Settings`."""

    def __init__(self, depth: str = "quick", **changes: Any) -> None:
        if depth not in DEPTHS:
            raise ConfigError(f"robustness.depth={depth} is unknown; {nearest(depth, DEPTHS)}.")
        known = Settings.__dataclass_fields__
        for key in changes:
            if key not in known:
                raise ConfigError(f"There is no option robustness.{key}; {nearest(key, known)}.")
        plain: dict[str, Any] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in changes.items()}
        self.depth, self.settings = depth, replace(DEPTHS[depth], **plain)

    def on_fit_end(self, run: Run, model: ReprogrammedModel, target: TargetTask) -> None:
        for check in target.checks():
            check.on_fit_end(run, model, target)
        if target.info.problem != "classification" or target.info.kind not in ("image", "text"):
            notes = run.result.data.setdefault("robustness", {}).setdefault("notes", [])
            notes.append(f"no attack on pixels or words: the target is {target.info.kind} {target.info.problem}")
        elif target.info.kind == "text":
            self._text(run, model, target)
        else:
            self._images(run, model, target)

    def _text(self, run: Run, model: ReprogrammedModel, target: TargetTask) -> None:
        """Character edits on a model that can only be asked; word swaps too where the source tells what is near."""
        picked = np.sort(np.random.default_rng(run.seed).permutation(len(target.test))[: self.settings.few])
        examples = target.test.subset(picked)
        known = text.common_words(target.train.batch(range(len(target.train))))
        labels = torch.as_tensor(np.asarray(examples.labels)).to(model.device)
        encode = _encoder(model) if model.source.differentiable and model.source.spec.feature_size else None
        with still(model):
            found = text.checks(model, examples.batch(range(len(examples))), labels, encode, known, run.seed)
        for row in found:
            row.add_to(run.result)

    def _images(self, run: Run, model: ReprogrammedModel, target: TargetTask) -> None:
        evaluate(
            model,
            target.test,
            self.depth,
            seed=run.seed,
            settings=self.settings,
            train=gather(target.train, None, model.device)
            if self.settings.universal or self.settings.inheritance
            else None,
            source=BareSource(model.source) if model.source.differentiable and model.source.labels else None,
            result=run.result,
            journal=run.dir / "robustness.jsonl",
            resume=run.resume,
        )


def _encoder(model: ReprogrammedModel) -> Callable[[list[str]], Tensor]:
    def encode(words: list[str]) -> Tensor:
        answer = model.source(words)
        return answer.logits if answer.features is None else answer.features

    return encode
