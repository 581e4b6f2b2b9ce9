"""The robustness hook of a run: ``robustness=none|quick|full``, an interrupted full run goes on with ``resume=true``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional as F

from reprogram.errors import ConfigError, nearest
from reprogram.hooks import Hook, Run
from reprogram.robustness.checks import Settings
from reprogram.robustness.evaluation import DEPTHS, evaluate
from reprogram.robustness.subject import gather

if TYPE_CHECKING:
    from reprogram.interfaces import SourceModel, TargetTask
    from reprogram.model import ReprogrammedModel

SOURCE_SIDE = 128  # pixels at which perturbations are crafted on the bare source, or its own side if that is smaller


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
        if target.info.problem != "classification" or target.info.kind != "image":
            notes = run.result.data.setdefault("robustness", {}).setdefault("notes", [])
            notes.append(f"no attack on pixels: the target is {target.info.kind} {target.info.problem}")
            return
        evaluate(
            model,
            target.test,
            self.depth,
            seed=run.seed,
            settings=self.settings,
            train=gather(target.train, None, model.device) if self.settings.universal else None,
            source=BareSource(model.source) if model.source.differentiable and model.source.labels else None,
            result=run.result,
            journal=run.dir / "robustness.jsonl",
            resume=run.resume,
        )


class BareSource(nn.Module):
    """A source without any program: target images, resized and coloured as it reads them, to its own labels."""

    def __init__(self, source: SourceModel) -> None:
        super().__init__()
        self.source = source

    def forward(self, images: Tensor) -> Tensor:
        spec = self.source.spec
        side = min(spec.size, SOURCE_SIDE)
        x = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        if x.shape[1] == 1 and spec.channels > 1:
            x = x.expand(-1, spec.channels, -1, -1)
        return self.source(x).logits
