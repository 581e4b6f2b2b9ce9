"""What a baseline is given and what it gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from reprogram.evaluation.features import CachedSource, source_outputs
from reprogram.interfaces import Examples, InputTransformation, OutputMapping, SourceModel, SourceOutput, TargetTask
from reprogram.modalities.batches import to_device
from reprogram.model import ReprogrammedModel, concatenate

if TYPE_CHECKING:
    from reprogram.training.loop import Training


class NotApplicable(Exception):
    """This baseline makes no sense here; its sentence says why and is shown in the report."""


@dataclass
class Bench:
    """One target, one trained program, and everything that baselines share.

    model: the program as trained; its source is the cached one. scores: its test scores [N, T]. training: how it was
    trained, so that a baseline program gets the same care.
    """

    model: ReprogrammedModel
    target: TargetTask
    scores: np.ndarray
    training: Training
    seed: int
    batch_size: int = 32

    @property
    def source(self) -> CachedSource:
        """The model's source, which remembers its answers."""
        assert isinstance(self.model.source, CachedSource)
        return self.model.source

    def plain_features(self, examples: Examples) -> np.ndarray:
        """[N, D] pooled features of the plain input at the source's own resolution, read once for all baselines."""
        if (
            not self.source.differentiable and self.source.spec.feature_size is None
        ):  # asking would cost and show nothing
            raise NotApplicable(f"the source {self.source.name} gives no features")
        outputs = source_outputs(self.source, examples, self.target.info, batch_size=self.batch_size)
        features = outputs[0].features
        if features is None:
            raise NotApplicable(f"the source {self.source.name} gives no features")
        return features.float().cpu().numpy()

    def program_scores(self, source: SourceModel, input: InputTransformation) -> np.ndarray:
        """Test scores of a program with the same output mapping, trained as the program was, on ``source``."""
        from reprogram.training.loop import fit

        output: OutputMapping = type(self.model.output)(**self.model.output.config())
        other = ReprogrammedModel(source, input, output, self.target.info).to(self.model.device)
        if output.reads_pool:
            output.observe_pool(self._pool(other))
        fit(other, self.target.train, self.training, self.seed)
        return other.predict_proba(self.target.test, self.batch_size)


    @torch.no_grad()
    def _pool(self, model: ReprogrammedModel) -> list[SourceOutput]:
        """What the model's source answers for the inputs without labels, one a view."""
        if self.target.pool is None:
            raise NotApplicable("the program has learned from inputs without labels, and they are not here")
        model.eval()
        parts = [model.outputs(to_device(batch, model.device)) for _, batch in self.target.pool.batches()]
        return [concatenate([part[view].detach() for part in parts]) for view in range(len(parts[0]))]


class Baseline(ABC):
    """A dataclass of hyper-parameters with one method. needs_labels: it learns from them."""

    needs_labels: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, bench: Bench) -> dict[str, np.ndarray]:
        """Row name -> test scores [N, T] (see :func:`reprogram.evaluation.metrics.evaluate`).

        Raises NotApplicable.
        """
