"""What an optimiser strategy sees: one batch as a problem over the program's free parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from reprogram.interfaces import OutputMapping, SourceOutput
from reprogram.modalities.batches import is_tensor, join
from reprogram.model import ReprogrammedModel, concatenate, pick
from reprogram.ranges import Checked
from reprogram.training.distributed import Alone

Loss = Callable[[Tensor, Tensor], Tensor]  # (target logits [B, T], labels) -> scalar


@dataclass
class BatchLoss:
    """One batch: its loss as a function of the program.

    inputs: target batch, or None when ``cached`` holds what the source answers for it (nothing in front is trained).
    observe: called with the outputs of each training pass (statistics-based mappings).
    """

    model: ReprogrammedModel
    labels: Tensor
    loss_function: Loss
    inputs: Any = None
    cached: list[SourceOutput] | None = None
    observe: Callable[[list[SourceOutput], Tensor], None] | None = None
    share: float = 1.0  # of the global batch that this process holds
    group: Alone = field(default_factory=Alone)
    adversarial: Any = None  # a loss (model, inputs, labels) -> scalar that replaces the plain one
    last_logits: Tensor | None = None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Free parameters of the program; the source has none."""
        return trainable(self.model)

    def loss(self) -> Tensor:
        """Differentiable loss at the current parameters, from one pass; also feeds ``observe``."""
        if self.adversarial is not None:
            return self.adversarial(self.model, self.inputs, self.labels) * self.share
        outputs = self.cached if self.cached is not None else self.model.outputs(self.inputs)
        if self.observe is not None:
            self.observe([o.detach() for o in outputs], self.labels)
        logits = self.model.output(outputs)
        self.last_logits = logits.detach()
        return self.loss_function(logits, self.labels) * self.share

    def reduce_gradients(self) -> None:
        """After ``backward``: add up the gradients of all processes."""
        self.group.sum_gradients(self.parameters)

    @torch.no_grad()
    def losses(self, candidates: Tensor) -> Tensor:
        """[q, d] parameter vectors -> [q] losses in float32, all of them in one request to the source."""
        start = parameters_to_vector(self.parameters).clone()
        views: list[list[Any]] = []
        try:
            for candidate in candidates:
                vector_to_parameters(candidate, self.parameters)
                views.append([] if self.cached is not None else self.model.input(self.inputs))
            answers = self._answers(views)
            values: list[Tensor] = []
            for candidate, outputs in zip(candidates, answers, strict=True):
                vector_to_parameters(candidate, self.parameters)
                logits = self.model.output(outputs).float()
                if not values:  # the first candidate is where the search stands, or near it
                    self.last_logits = logits
                values.append(self.loss_function(logits, self.labels))
            return torch.stack(values).float()
        finally:
            vector_to_parameters(start, self.parameters)

    def _answers(self, views: list[list[Any]]) -> list[list[SourceOutput]]:
        if self.cached is not None:
            return [self.cached] * len(views)
        per_view = []
        for position in range(len(views[0])):
            same = [candidate[position] for candidate in views]
            if not is_tensor(same[0]):  # strings, or embeddings of them, of different lengths
                per_view.append([self.model.ask(view) for view in same])
                continue
            whole = self.model.ask(join(same))
            size = len(same[0])
            rows = [torch.arange(i * size, (i + 1) * size) for i in range(len(same))]
            per_view.append([pick([whole], r)[0] for r in rows])
        return [[per_view[v][i] for v in range(len(per_view))] for i in range(len(views))]


def fit_mapping(output: OutputMapping, outputs: list[SourceOutput], labels: Tensor) -> None:
    """Fit an output mapping from a cached pass, if it learns that way."""
    if output.closed_form:
        output.fit(outputs, labels)
    if output.statistics:
        output.observe(outputs, labels)
        output.refresh()


def loss_for(problem: str) -> Loss:
    """Cross-entropy, masked binary cross-entropy (NaN labels do not count) or squared error, in float32."""
    if problem == "classification":
        return lambda logits, labels: F.cross_entropy(logits.float(), labels)
    if problem == "multilabel":
        return _masked_binary
    return lambda values, labels: F.mse_loss(values.float().squeeze(-1), labels.squeeze(-1))


def _masked_binary(logits: Tensor, labels: Tensor) -> Tensor:
    known = ~torch.isnan(labels)
    loss = F.binary_cross_entropy_with_logits(logits.float(), labels.nan_to_num(), reduction="none")
    return (loss * known).sum() / known.sum().clamp(min=1)


def trainable(model: ReprogrammedModel) -> list[nn.Parameter]:
    """The program's parameters that a strategy may change."""
    return [p for p in (*model.input.parameters(), *model.output.parameters()) if p.requires_grad]


@dataclass
class Optimiser(Checked, ABC):
    """A strategy: how one batch moves the program. Subclasses are dataclasses of hyper-parameters."""

    group: ClassVar[str] = "training.optimiser."

    sees_losses_only: ClassVar[bool] = False  # its steps can make things worse unseen: a HoldOutSelection watches over them
    total_steps: int = field(default=1, init=False, repr=False)

    def start(self, model: ReprogrammedModel, total_steps: int, seed: int) -> None:
        """Before the first step (and before :meth:`load_state_dict` on resuming)."""
        self.total_steps = max(1, total_steps)

    @abstractmethod
    def step(self, problem: BatchLoss, step: int) -> float:
        """Change the program's parameters in place; returns the loss before the change."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and lists that bring the strategy back bit for bit."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What :meth:`state_dict` gave."""


@torch.no_grad()
def batch_of_outputs(parts: list[list[SourceOutput]]) -> list[SourceOutput]:
    """Batches of outputs, as one pass over all examples."""
    return [concatenate([part[view] for part in parts]) for view in range(len(parts[0]))]
