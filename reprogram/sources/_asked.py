"""Black-box (query-only) sources: no weights, no gradients, no inner layers, and every query counts.

A subclass says how one batch of images is asked (:meth:`AskedSource.ask`); this class counts, caches and journals
through a :class:`~reprogram.ledger.Ledger` and turns whatever the service answers into log-probabilities.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from reprogram.errors import ConfigError, SourceError, nearest
from reprogram.interfaces import SourceModel, SourceOutput, SourceSpec, Tap
from reprogram.ledger import TRAINING, AnswerStore, Budget, Charge, Ledger, content_key
from reprogram.ranges import Count, NotNegative, Range, Side

ANSWERS = ("logits", "probabilities", "top_k", "label")


class AskedSource(SourceModel):
    """Pixels in [0, 1], [B, C, h, w] -> log-probabilities (or the service's own logits) [B, S]; never a gradient.

    answers: what the service gives: ``logits``, ``probabilities`` (sum to one), ``top_k`` (the best few, zero for the
        rest; what is missing is spread evenly over the others), or ``label`` (one-hot).
    decimals: how many the service rounds to (None: not at all); a probability below half a unit is taken as half a unit.
    votes, vote_noise: for ``label``: the decision is asked for ``votes`` copies of an image with noise of this standard
        deviation in pixels, and their shares are taken as probabilities (randomised smoothing, arXiv 1902.02918). Every
        copy is a query. The noise is the same for every image, so an image asked twice is free the second time.
    budget: see :class:`~reprogram.ledger.Budget`. journal: this run's folder of answers and of what they cost; None keeps
        them in memory. cache: another such folder, whose answers are free; runs may share it, and write to it.
    batch, workers: most images in one request, and how many requests at a time.
    known_as: what names the model in the cache and the fingerprint, when ``name`` also says where it runs today.
    """

    differentiable = False
    named_in_programs = False  # a stranger's program must not choose whom this machine asks, nor what it calls

    def __init__(
        self,
        name: str,
        labels: Sequence[str],
        version: str,
        size: Side = 224,
        channels: Annotated[int, Range(1, 4)] = 3,
        answers: str = "probabilities",
        decimals: Annotated[int, Range(0, 15)] | None = None,
        votes: Annotated[int, Range(1, 100_000)] = 8,
        vote_noise: NotNegative = 0.1,
        budget: Budget | None = None,
        journal: str | Path | None = None,
        cache: str | Path | None = None,
        batch: Count = 32,
        workers: Annotated[int, Range(1, 1000)] = 1,
        known_as: str = "",
    ) -> None:
        super().__init__()
        if answers not in ANSWERS:
            raise ConfigError(f"source.answers={answers} is not known; {nearest(answers, ANSWERS)}")
        for key, value in (("batch", batch), ("workers", workers), ("votes", votes)):
            if value < 1:
                raise ConfigError(f"source.{key}={value} must be at least 1.")
        self.name, self.version, self.answers = name, version, answers
        self.known_as = known_as or name
        self.floor = None if decimals is None else 0.5 * 10.0**-decimals
        self.votes, self.vote_noise = votes, vote_noise
        self.queries_each = votes if answers == "label" else 1
        self.spec = SourceSpec(
            kind="image",
            size=size,
            labels=tuple(labels),
            channels=channels,
            answers="logits" if answers == "logits" else "log_probabilities",
        )
        identity = {"service": self.known_as, "version": version, "labels": len(labels), "answers": answers}
        own = None if journal is None else Path(journal)
        shared = None if cache is None or _same(own, Path(cache)) else Path(cache)
        self.ledger = Ledger(
            self.request,
            content_key,
            budget,
            store=None if own is None else AnswerStore(own, identity, len(labels), owner=True),
            cache=None if shared is None else AnswerStore(shared, identity, len(labels)),
            batch=batch,
            workers=workers,
            failed=None,
            whole=True,
            metered=True,
        )
        self._kind = TRAINING
        self.freeze()

    @abstractmethod
    def ask(self, images: np.ndarray) -> np.ndarray:
        """One request: float32 [B, C, h, w] -> [B, S] as ``answers`` says; a row with NaN is an image without an answer."""

    def request(self, images: list[np.ndarray], charge: Charge) -> np.ndarray:
        """One request as the ledger makes it. Whoever tries again by itself tells ``charge`` of each attempt."""
        charge.sending()
        values = self.ask(np.stack(images))
        charge.replied()
        return values

    @contextmanager
    def counted_as(self, kind: str) -> Iterator[None]:
        before, self._kind = self._kind, kind
        try:
            yield
        finally:
            self._kind = before

    def holding_back(self, queries: int) -> AbstractContextManager[None]:
        return self.ledger.holding_back(queries)

    def affordable(self, kind: str | None = TRAINING) -> float:
        return self.ledger.remaining(kind or self._kind)

    def price(self, source_inputs: Iterable[Tensor]) -> int:
        return self.ledger.price(image for batch in source_inputs for image in self._questions(batch).numpy())

    def bill(self) -> dict[str, Any]:
        return self.ledger.bill()

    def answer(self, source_input: Tensor, taps: Sequence[Tap] = ()) -> SourceOutput:
        if taps:
            raise SourceError(f"{self.name} is a black-box model: it has no layer '{taps[0].layer}' to read.")
        values = self._ask(self._questions(source_input))
        if self.answers == "label":
            shares = values.unflatten(0, (self.votes, len(source_input))).mean(0)
            values = (self.votes * shares + 1 / len(self.labels)) / (self.votes + 1)
        logits = values if self.answers == "logits" else logarithms(values, self.floor)
        return SourceOutput(logits.to(source_input.device))

    def _questions(self, source_input: Tensor) -> Tensor:
        """What is sent for [B, 3, h, w]: the images; for ``label`` votes · B of them, the images themselves first."""
        images = source_input.detach().float().cpu()
        if self.answers != "label":
            return images
        generator = torch.Generator().manual_seed(0)
        noise = self.vote_noise * torch.randn((self.votes, 1, *images.shape[1:]), generator=generator)
        noise[0] = 0
        return (images + noise).clamp(0, 1).flatten(0, 1)

    def _ask(self, images: Tensor) -> Tensor:
        """[B, S] from the ledger; an image without an answer counts as undecided, most of a batch as an error."""
        rows = self.ledger(list(images.numpy()), self._kind)
        missing = [image for image, row in zip(images.numpy(), rows, strict=True) if row is None]
        if len(missing) > len(rows) / 2:
            keys = {content_key(image) for image in missing}
            reason = self.ledger.reasons[next(iter(keys))]
            self.ledger.ask_again(keys)  # it is the service that fails, not the images
            raise SourceError(f"{self.name} has no answer for {len(missing)} of {len(rows)} images: {reason}.")
        undecided = np.full(len(self.labels), 0.0 if self.answers == "logits" else 1 / len(self.labels), np.float32)
        values = np.stack([undecided if row is None else np.asarray(row, np.float32) for row in rows])
        return torch.from_numpy(values)

    def checked(self, values: Any, images: int) -> np.ndarray:
        """A request's answers as float32 [B, S] probabilities or logits. Raises SourceError when they cannot be."""
        try:
            values = np.asarray(values, np.float32)
        except (ValueError, TypeError, OverflowError) as error:
            raise SourceError(f"{self.name} answers what are not numbers: {error}.") from error
        wanted = (images, len(self.labels))
        if values.ndim != 2 or len(values) != images:
            raise SourceError(
                f"{self.name} answers the shape {values.shape} for {images} images; {wanted} is expected."
            )
        if values.shape[1] != len(self.labels):
            raise SourceError(
                f"{self.name} answers {values.shape[1]} values an image, but source.labels names {len(self.labels)} "
                "classes; give the service's own class list."
            )
        if self.answers == "logits":
            return values
        whole = values[np.isfinite(values).all(1)]
        if whole.size and (whole.min() < -1e-4 or whole.max() > 1 + 1e-4):
            raise SourceError(
                f"{self.name} answers values from {whole.min():.3g} to {whole.max():.3g}, not probabilities; "
                "try source.answers=logits."
            )
        sums = whole.sum(1)
        slack = 1e-3 + (self.floor or 0) * len(self.labels)  # rounding every class by half a unit explains as much
        wrong = np.abs(sums - 1) > slack if self.answers == "probabilities" else sums > 1 + slack
        if wrong.any():
            raise SourceError(
                f"{self.name} answers probabilities that sum to {sums[wrong][0]:.4g}, not 1; "
                "try source.answers=top_k, or source.decimals if they are rounded."
            )
        if self.answers == "top_k":
            missing = values == 0
            left = np.clip(1 - values.sum(1), 0, 1) / np.maximum(missing.sum(1), 1)
            values = np.where(missing, left[:, None], values)
        return values

    def fingerprint(self) -> str:
        """SHA-256 of the service's name, version and class list: all that can be known of it."""
        known = json.dumps([self.known_as, self.version, list(self.labels)])
        return hashlib.sha256(known.encode()).hexdigest()


def _same(own: Path | None, other: Path) -> bool:
    return own is not None and own.resolve() == other.resolve()


def logarithms(probabilities: Tensor, floor: float | None) -> Tensor:
    """[B, S] logarithms. Rounded probabilities are at least ``floor``; of others the smallest say much (1e-15 is far more
    likely than 1e-25), so they are kept, and an exact zero is taken as the smallest that its answer has."""
    if floor is not None:
        return probabilities.clamp_min(floor).log()
    least = probabilities.masked_fill(probabilities <= 0, torch.inf).min(1, keepdim=True).values
    return probabilities.clamp_min(1e-38).maximum(least).log()
