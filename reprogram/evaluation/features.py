"""What a frozen source answers, computed once and shared: by baselines, cross-validation and the final test.

A source never changes, so the same view always has the same answer, whichever program asks for it. The cache is keyed by
the content of the view, not by who made it: a plain pass at 224 pixels is free after a program that reads 224 pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reprogram.inputs import __name__ as INPUTS
from reprogram.interfaces import (
    Examples,
    InputTransformation,
    OutputMapping,
    SourceModel,
    SourceOutput,
    Tap,
    TargetInfo,
)
from reprogram.modalities import modality
from reprogram.modalities.batches import device_type, digests, take
from reprogram.model import ReprogrammedModel, pick
from reprogram.registry import find


class CachedSource(SourceModel):
    """A source that remembers its answer to each input, taps included, up to ``limit_mb`` megabytes; then it only asks.

    Inputs are known by their content, one by one, so batches may be cut and shuffled as you like. Answers with gradients
    are never kept. Everything else (name, fingerprint, parameters) is the source's own.
    """

    def __init__(self, source: SourceModel, limit_mb: float = 256.0) -> None:
        super().__init__()
        self.source = source
        self.name, self.spec, self.differentiable = source.name, source.spec, source.differentiable
        self.queries_each = source.queries_each
        self.loading_notes = source.loading_notes
        self.limit, self.bytes = int(limit_mb * 2**20), 0
        self.asked = self.spared = 0  # inputs that the source had to read, and that it did not
        self._kept: dict[bytes, SourceOutput] = {}

    def answer(self, source_input: Any, taps: Sequence[Tap] = ()) -> SourceOutput:
        learning = torch.is_grad_enabled() and self.differentiable
        keys = None if learning or _is_rounded(source_input) else digests(source_input)
        if keys is None:
            return self.source(source_input, taps)
        new = [i for i, key in enumerate(keys) if not self._knows(key, taps)]
        self.asked += len(new)
        self.spared += len(keys) - len(new)
        if len(new) == len(keys):
            fresh = self.source(source_input, taps)
            self._keep(keys, fresh)
            return fresh
        rows = [self._kept.get(key) for key in keys]
        if new:
            fresh = self.source(take(source_input, new), taps)
            self._keep([keys[i] for i in new], fresh)
            for place, i in enumerate(new):
                rows[i] = pick([fresh], torch.tensor(place, device=fresh.logits.device))[0]
        return _stack([row for row in rows if row is not None], taps)

    def _knows(self, key: bytes, taps: Sequence[Tap]) -> bool:
        known = self._kept.get(key)
        return known is not None and all(tap in known.taps for tap in taps)

    def _keep(self, keys: list[bytes], fresh: SourceOutput) -> None:
        fresh = fresh.detach()
        size = _bytes(fresh) // max(len(keys), 1)
        for key, i in zip(keys, torch.arange(len(keys), device=fresh.logits.device), strict=True):
            if self.bytes + size > self.limit:
                return
            row = pick([fresh], i)[0]
            if key in self._kept:
                row.taps = self._kept[key].taps | row.taps
            self._kept[key] = row
            self.bytes += size

    def fingerprint(self) -> str:
        return self.source.fingerprint()

    def weights_fingerprint(self) -> str:
        return self.source.weights_fingerprint()

    def parameter_count(self) -> int:
        return self.source.parameter_count()

    def counted_as(self, kind: str) -> AbstractContextManager[None]:
        return self.source.counted_as(kind)

    def holding_back(self, queries: int) -> AbstractContextManager[None]:
        return self.source.holding_back(queries)

    def affordable(self, kind: str | None = "training") -> float:
        return self.source.affordable(kind)

    def price(self, source_inputs: Iterable[Any]) -> int:
        return self.source.price(source_inputs)

    def bill(self) -> dict[str, Any]:
        return self.source.bill()


def _is_rounded(source_input: Any) -> bool:
    """Would the answer be computed under autocast, as in gradient steps? Only full precision is remembered."""
    return torch.is_autocast_enabled(device_type(source_input)) or torch.is_autocast_enabled("cpu")


def _stack(rows: list[SourceOutput], taps: Sequence[Tap]) -> SourceOutput:
    """Single answers as one batch."""
    features = [row.features for row in rows if row.features is not None]
    return SourceOutput(
        torch.stack([row.logits for row in rows]),
        torch.stack(features) if features else None,
        {tap: torch.stack([row.taps[tap] for row in rows]) for tap in taps},
    )


@contextmanager
def shared_answers(model: ReprogrammedModel, limit_mb: float = 256.0) -> Iterator[CachedSource]:
    """Within this block the model's source remembers its answers; afterwards the model has its own source again."""
    source = model.source
    model.source = cached = CachedSource(source, limit_mb)
    try:
        yield cached
    finally:
        model.source = source


def _bytes(output: SourceOutput) -> int:
    tensors = (output.logits, output.features, *output.taps.values())
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


@dataclass(eq=False)
class SourceAnswers(OutputMapping):
    """No mapping: the source's own answers are what is wanted. ``read``: the taps to ask for."""

    read: tuple[Tap, ...] = ()

    def taps(self) -> tuple[Tap, ...]:
        return self.read

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        return outputs[0].logits


def plain_input(target: TargetInfo) -> InputTransformation:
    """The input transformation without parameters of this kind of target, still to be built."""
    method: type[InputTransformation] = find(INPUTS, modality(target.kind).plain_input, InputTransformation)
    return method()


def source_outputs(
    source: SourceModel,
    examples: Examples,
    target: TargetInfo,
    input: InputTransformation | None = None,
    taps: Sequence[Tap] = (),
    batch_size: int = 32,
) -> list[SourceOutput]:
    """Source outputs of all examples, one a view of ``input`` (None: the plain input at the source's resolution).

    With a :class:`CachedSource` only what has not been read yet costs a pass.
    """
    model = ReprogrammedModel(source, input or plain_input(target), SourceAnswers(tuple(taps)), target, build=input is None)
    return model.collect(examples, batch_size, "reading the source")
