"""What a frozen source answers, computed once and shared: by baselines, cross-validation and the final test.

A source never changes, so the same view always has the same answer, whichever program asks for it. The cache is keyed by
the content of the view, not by who made it: a plain pass at 224 pixels is free after a program that reads 224 pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reprogram.inputs.none import NoPrompt
from reprogram.interfaces import (
    Examples,
    InputTransformation,
    OutputMapping,
    SourceModel,
    SourceOutput,
    Tap,
    TargetInfo,
)
from reprogram.model import ReprogrammedModel


class CachedSource(SourceModel):
    """A source that remembers its answers, taps included, up to ``limit_mb`` megabytes; then it only asks.

    Answers with gradients are never kept. Everything else (name, fingerprint, parameters) is the source's own.
    """

    def __init__(self, source: SourceModel, limit_mb: float = 256.0) -> None:
        super().__init__()
        self.source = source
        self.name, self.spec, self.differentiable = source.name, source.spec, source.differentiable
        self.limit, self.bytes = int(limit_mb * 2**20), 0
        self.asked = self.spared = 0  # inputs that the source had to read, and that it did not
        self._kept: dict[bytes, SourceOutput] = {}

    def answer(self, source_input: Any, taps: Sequence[Tap] = ()) -> SourceOutput:
        key = None if torch.is_grad_enabled() and self.differentiable else digest(source_input)
        known = self._kept.get(key) if key is not None else None
        if known is not None and all(tap in known.taps for tap in taps):
            self.spared += len(known.logits)
            return SourceOutput(known.logits, known.features, {tap: known.taps[tap] for tap in taps})
        wanted = tuple(dict.fromkeys((*taps, *(known.taps if known is not None else ()))))
        fresh = self.source(source_input, wanted)
        self.asked += len(fresh.logits)
        if key is not None:
            self._keep(key, known, fresh)
        return SourceOutput(fresh.logits, fresh.features, {tap: fresh.taps[tap] for tap in taps})

    def _keep(self, key: bytes, known: SourceOutput | None, fresh: SourceOutput) -> None:
        fresh = fresh.detach()
        size = _bytes(fresh) - (_bytes(known) if known is not None else 0)
        if self.bytes + size <= self.limit:
            self._kept[key] = fresh
            self.bytes += size

    def fingerprint(self) -> str:
        return self.source.fingerprint()

    def parameter_count(self) -> int:
        return self.source.parameter_count()

    def counted_as(self, kind: str) -> AbstractContextManager[None]:
        return self.source.counted_as(kind)

    def bill(self) -> dict[str, Any]:
        return self.source.bill()


@contextmanager
def shared_answers(model: ReprogrammedModel, limit_mb: float = 256.0) -> Iterator[CachedSource]:
    """Within this block the model's source remembers its answers; afterwards the model has its own source again."""
    source = model.source
    model.source = cached = CachedSource(source, limit_mb)
    try:
        yield cached
    finally:
        model.source = source


def digest(source_input: Any) -> bytes | None:
    """Content of a prepared source input (pixels or strings); None for what is cheaper to ask than to hash."""
    if isinstance(source_input, Tensor):
        raw = source_input.detach().cpu().contiguous()
        head = f"{tuple(raw.shape)}:{raw.dtype}".encode()
        return hashlib.sha1(raw.view(torch.uint8).numpy().data, usedforsecurity=False).digest() + head
    if isinstance(source_input, list) and all(isinstance(text, str) for text in source_input):
        text = "".join(f"{len(text)}:{text}" for text in source_input)
        return hashlib.sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return None


def _bytes(output: SourceOutput) -> int:
    tensors = (output.logits, output.features, *output.taps.values())
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


@dataclass(eq=False)
class Reading(OutputMapping):
    """No mapping: the source's own answers are what is wanted. ``read``: the taps to ask for."""

    read: tuple[Tap, ...] = ()

    def taps(self) -> tuple[Tap, ...]:
        return self.read

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        return outputs[0].logits


def source_outputs(
    source: SourceModel,
    examples: Examples,
    target: TargetInfo,
    input: InputTransformation | None = None,
    taps: Sequence[Tap] = (),
    precision: torch.dtype = torch.float32,
    batch_size: int = 64,
) -> list[SourceOutput]:
    """Source outputs of all examples, one a view of ``input`` (None: the plain input at the source's resolution).

    With a :class:`CachedSource` only what has not been read yet costs a pass (batches must start at the same examples).
    """
    model = ReprogrammedModel(source, input or NoPrompt(), Reading(tuple(taps)), target, build=input is None)
    model.precision = precision
    return model.collect(examples, batch_size, "reading the source")
