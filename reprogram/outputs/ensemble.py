"""Several mappings on one source, their probabilities averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError
from reprogram.interfaces import OutputMapping, SourceOutput, SourceSpec, Tap, TargetInfo
from reprogram.plain import plain
from reprogram.registry import find
from reprogram.typecheck import check_arguments


@dataclass(eq=False)
class Ensemble(OutputMapping):
    """Mean of the members' probabilities (regression: values), each member reading some of the views.

    members: ``{"name": method, "config": {…}, "views": [positions]}``; empty ``views`` reads all of them.
    """

    members: tuple[dict[str, Any], ...] = ()

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if not self.members:
            raise ConfigError(f"output={self.name} needs members: a list of {{name, config, views}}.")
        self.problem = target.problem
        self.parts: Any = nn.ModuleList()
        self.views = [[int(v) for v in member.get("views", ())] for member in self.members]
        for member in self.members:
            name = str(member.get("name", ""))
            if name == self.name:
                raise ConfigError("An ensemble cannot be a member of an ensemble.")
            method = find("reprogram.outputs", name, OutputMapping)
            options = plain(member.get("config", {}))
            part = method(**check_arguments(method, options, f"member {name} of output=ensemble"))
            part.build(spec, target)
            self.parts.append(part)

    @property
    def statistics(self) -> bool:  # type: ignore[override]  # an ensemble learns as its members do
        """Does any member count during training?"""
        return any(part.statistics for part in self.parts)

    @property
    def closed_form(self) -> bool:  # type: ignore[override]
        """Is any member fitted in closed form?"""
        return any(part.closed_form for part in self.parts)

    @property
    def reads_pool(self) -> bool:  # type: ignore[override]
        """Does any member read a pool of inputs without labels?"""
        return any(find("reprogram.outputs", str(m.get("name")), OutputMapping).reads_pool for m in self.members)

    def config(self) -> dict[str, Any]:
        """Members as they are now: a closed form writes the width that it was fitted at into its configuration."""
        members = [
            {"name": part.name, "config": part.config(), "views": views}
            for part, views in zip(self.parts, self.views, strict=True)
        ]
        return {"members": members}

    def taps(self) -> tuple[Tap, ...]:
        return tuple(dict.fromkeys(tap for part in self.parts for tap in part.taps()))

    def _each(self, outputs: list[SourceOutput]) -> list[tuple[OutputMapping, list[SourceOutput]]]:
        pairs = []
        for part, views in zip(self.parts, self.views, strict=True):
            if views and max(views) >= len(outputs):
                raise ConfigError(f"output.members reads view {max(views)}, but the input makes {len(outputs)} views.")
            pairs.append((part, [outputs[v] for v in views] if views else outputs))
        return pairs

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        answers = torch.stack([part(seen) for part, seen in self._each(outputs)])
        if self.problem == "regression":
            return answers.mean(0)
        if self.problem == "multilabel":
            return torch.logit(answers.sigmoid().mean(0), eps=1e-6)
        return answers.log_softmax(-1).logsumexp(0) - torch.tensor(float(len(self.parts))).log()

    def observe(self, outputs: list[SourceOutput], labels: Tensor) -> None:
        for part, seen in self._each(outputs):
            if part.statistics:
                part.observe(seen, labels)

    def refresh(self) -> None:
        for part in self.parts:
            if part.statistics:
                part.refresh()

    def fit(self, outputs: list[SourceOutput], labels: Tensor) -> None:
        for part, seen in self._each(outputs):
            if part.closed_form:
                part.fit(seen, labels)

    def observe_pool(self, outputs: list[SourceOutput]) -> None:
        for part, seen in self._each(outputs):
            if part.reads_pool:
                part.observe_pool(seen)
