"""A local copy of a black-box (query-only) model: AReS (Zhang et al. 2026), with its two results kept apart.

One query for each training input and view; a linear head on a frozen local encoder learns the answers; the copy is
reprogrammed with gradients. Then either the copy serves (no further queries), or its program goes over to the service,
where the output mapping is fitted again. There it must beat its start on labels that it did not use, else the start is
kept (:mod:`reprogram.training.hold_out_selection`); the program may then be polished with real queries.

What an independent reproduction found is kept here: Kullback-Leibler divergence (cross-entropy and squared error are
worse), features read once, and selection inside the training inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from reprogram.errors import BudgetSpent, ConfigError
from reprogram.hooks import Hook, Run
from reprogram.interfaces import Examples, SourceModel, SourceOutput, SourceSpec, Tap
from reprogram.model import ReprogrammedModel
from reprogram.ranges import Amount, Count, Positive
from reprogram.training.base import Optimiser
from reprogram.training.hold_out_selection import HoldOutSelection
from reprogram.training.loop import History, Training

SERVE = ("service", "copy")


class DistilledModel(SourceModel):
    """The local encoder's features under a head that answers as the service does: log-probabilities [B, S]."""

    def __init__(self, encoder: SourceModel, head: nn.Linear, service: SourceModel) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.name = f"{encoder.name} distilled from {service.name}"
        self.spec = SourceSpec("image", service.spec.size, service.labels, answers="log_probabilities")
        self._service = [service]  # in a list: no submodule
        self.freeze()

    def answer(self, source_input: Any, taps: Sequence[Tap] = ()) -> SourceOutput:
        return SourceOutput(self.head(_features(self.encoder, source_input)).log_softmax(1))

    def bill(self) -> dict[str, Any]:
        return self._service[0].bill()

    def origin(self) -> dict[str, Any] | None:
        return None  # its head is kept beside the run, not in any package


@dataclass
class DistilledSurrogate(Training):
    """Training through a local copy; the fields of :class:`Training` rule how the copy is reprogrammed.

    local: the frozen encoder; another model than the one that is asked. serve: who predicts in the end, ``service`` or
    ``copy``. distil_epochs, distil_rate: AdamW on the head. polish: a zeroth-order strategy that goes on at the service
    for ``polish_epochs``, or None.
    """

    local: SourceModel | None = None
    serve: str = "service"
    distil_epochs: Amount = 100
    distil_rate: Positive = 1e-3
    polish: Optimiser | None = None
    polish_epochs: Amount = 0
    polish_batch_size: Count = 16
    agreement: float = field(default=0.0, init=False)  # share of training inputs where copy and service agree

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.local is None or self.local.spec.feature_size is None:
            raise ConfigError("training.local must be a source with features, such as efficientnet_lite1.")
        if self.serve not in SERVE:
            raise ConfigError(f"training.serve={self.serve} is unknown; allowed: {', '.join(SERVE)}")

    def train(self, model: ReprogrammedModel, examples: Examples, run: Run, hooks: Sequence[Hook] = ()) -> History:
        service = model.source
        if service.differentiable:
            raise ConfigError("training=distilled_surrogate is for a black-box (query-only) source, such as source=remote.")
        assert self.local is not None
        if getattr(service, "version", None) == self.local.fingerprint()[:16]:
            raise ConfigError("training.local is the same model as the black box; give another one.")
        selection = HoldOutSelection(model, examples, run.seed)
        selection.judge(0)  # asks the service once for each training input
        surrogate = self.distilled(model, examples, run)
        model.source = surrogate
        try:
            searched = examples if self.serve == "copy" else examples.subset(selection.searched)
            history = super().train(model, searched, run, hooks)
        finally:
            model.source = service
        save_file(
            {"weight": surrogate.head.weight.detach(), "bias": surrogate.head.bias.detach()},
            run.dir / "surrogate.safetensors",
        )
        if self.serve == "copy":
            model.source = surrogate
            return history
        try:
            selection.judge(len(history.epochs) or 1)  # the copy's prompt, the mapping fitted to the service's answers
        except BudgetSpent as error:
            history.ended = f"{error} The program of the copy was not transferred."
        history.search = selection.finish()
        return self.polished(model, examples, run, hooks, history)

    def distilled(self, model: ReprogrammedModel, examples: Examples, run: Run) -> DistilledModel:
        """Fit the head to the service's answers, KL(service ‖ copy), all views together, in full batches."""
        local = self.local
        assert local is not None
        answers = model.collect(examples, self.batch_size, "asking the service")
        local.to(model.device)
        with model.batches(examples, self.batch_size, "reading the local encoder") as batches:
            features = torch.cat([torch.stack([_features(local, v) for v in model.input(b)]) for b in batches], 1)
        features = features.flatten(0, 1)  # [views * N, D], ordered as the answers
        wanted = torch.cat([a.logits for a in answers]).log_softmax(1)
        head = nn.Linear(features.shape[1], wanted.shape[1]).to(model.device)
        generator = torch.Generator().manual_seed(run.seed)
        with torch.no_grad():
            head.weight.copy_(0.01 * torch.randn(head.weight.shape, generator=generator))
            head.bias.zero_()
        optimiser = torch.optim.AdamW(head.parameters(), self.distil_rate)
        for _ in range(self.distil_epochs):
            order = torch.randperm(len(features), generator=generator)
            for rows in order.split(64):
                loss = F.kl_div(
                    head(features[rows]).log_softmax(1), wanted[rows], log_target=True, reduction="batchmean"
                )
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        with torch.no_grad():
            self.agreement = float((head(features).argmax(1) == wanted.argmax(1)).float().mean())
        return DistilledModel(local, head, model.source)

    def polished(
        self, model: ReprogrammedModel, examples: Examples, run: Run, hooks: Sequence[Hook], history: History
    ) -> History:
        """Go on with real queries, from whichever program the selection kept."""
        if self.polish is None or not self.polish_epochs:
            return history
        polishing = Training(self.polish_epochs, self.polish_batch_size, self.polish, self.augment, "float32")
        polished = polishing.train(model, examples, replace(run, dir=run.dir / "polish"), hooks)  # its own checkpoint
        history.epochs += polished.epochs
        history.seconds += polished.seconds
        history.ended, history.search = polished.ended, polished.search
        return history


def _features(encoder: SourceModel, source_input: Tensor) -> Tensor:
    features = encoder(source_input).features
    assert features is not None  # checked when the training was configured
    return features
