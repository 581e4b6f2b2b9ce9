"""A program that is served: loaded once with its limits and its detector, warmed up, and asked by many threads in turn.

Programs of one frozen source share it in memory: a program is kilobytes, a source is not.
"""

from __future__ import annotations

import hashlib
import json
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprogram.applicability.base import Applicability
from reprogram.artifact import describe_program, from_pretrained
from reprogram.errors import ReprogramError
from reprogram.interfaces import SourceModel
from reprogram.modalities import modality
from reprogram.model import ReprogrammedModel
from reprogram.prediction.answers import FATAL, answers
from reprogram.serving.detector import FILE as DETECTOR_FILE
from reprogram.serving.detector import Detector
from reprogram.serving.hardening import abstained, certify, vote
from reprogram.serving.reading import ReadTensor, TensorReader
from reprogram.serving.wishes import Limits, RefusedRequest, Wishes
from reprogram.typecheck import check_arguments

_sources: weakref.WeakValueDictionary[str, SourceModel] = weakref.WeakValueDictionary()
_loading = threading.Lock()
_turn = threading.RLock()  # one pass at a time: two side by side would only share the cores and double the memory


@dataclass(eq=False)
class ServedProgram:
    """digest: names this program and its source; another one answers otherwise. wishes: what a request gets that asks
    for nothing."""

    model: ReprogrammedModel
    digest: str
    wishes: Wishes
    reader: TensorReader
    detector: Detector | None = None

    @classmethod
    def load(
        cls,
        folder: Path | str,
        wishes: Wishes | None = None,
        limits: Limits | None = None,
        detector: Path | None = None,
        device: str = "cpu",
    ) -> ServedProgram:
        """A program folder, or a Hub id. detector: its file. Raises ReprogramError in one sentence."""
        described = describe_program(folder)
        wanted = described["source"]
        digest = digest_of(described)
        key = json.dumps([wanted["loader"], wanted["options"], wanted["fingerprint"], device], sort_keys=True)
        with _loading:
            model = from_pretrained(folder, source=_sources.get(key), device=device)
            if wanted["loader"] is not None:
                _sources[key] = model.source
        model.eval()
        found = None if detector is None else Detector.load(detector, digest)
        served = cls(model, digest, wishes or Wishes(), TensorReader(model, limits or Limits()), found)
        served.check(served.wishes)
        return served

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return self.model.target.classes

    @property
    def values(self) -> bool:
        """Does it answer values, not classes?"""
        return self.model.target.problem == "regression"

    def warm_up(self) -> None:
        """One answer, so that the first request does not pay for what is made once."""
        shape = self.model.target.input_shape
        blank: Any = "CC"  # a string of every kind
        if shape is not None and self.reader.images:
            blank = np.full(shape, 0.5, np.float32)
        elif shape is not None:
            blank = np.sin(np.linspace(0, 9, shape[0] * shape[2], dtype=np.float32)).reshape(shape[0], shape[2])
        self.answer([blank], self.wishes.confidence)

    def check(self, wishes: Wishes) -> None:
        """Raises RefusedRequest for what this program cannot do, before anything is read."""
        kind, classes = self.model.target.kind, self.model.target.problem == "classification"
        if wishes.certify != "none" and not (classes and self.reader.images):
            raise RefusedRequest(f"certify={wishes.certify} is for classes of images; this program has {kind} inputs.")
        if wishes.vote and not classes:
            raise RefusedRequest(f"vote={wishes.vote} is for classes; this program answers {self.model.target.problem}.")
        if wishes.vote and not _votes(kind):
            raise RefusedRequest(f"vote={wishes.vote}: no change keeps the meaning of {kind} inputs for certain.")
        if wishes.detect and self.detector is None:
            raise RefusedRequest(
                "detect=true needs a threshold from labelled examples: serve the program with target=… (task=serve)."
            )

    def answer(self, contents: Sequence[Any], confidence: float) -> dict[str, list[Any]]:
        """Columns of :func:`reprogram.prediction.answers.answers` for inputs that were read, in order. An input that makes
        the model fail has its reason in ``problem`` and fails no other."""
        with _turn:
            try:
                return answers(self.model, contents, [""] * len(contents), confidence)
            except FATAL:
                raise
            except Exception as error:
                if len(contents) == 1:
                    return answers(self.model, [None], [_reason(error)], confidence)
        parts = [self.answer([content], confidence) for content in contents]
        return {name: [cell for part in parts for cell in part[name]] for name in parts[0]}

    def harden(self, found: ReadTensor, wishes: Wishes) -> dict[str, list[Any]]:
        """What was asked for beside the answer: name -> [N], None for inputs that could not be read."""
        good = found.good
        if wishes.certify != "none" and len(good) * wishes.samples > self.reader.limits.samples:
            raise RefusedRequest(
                f"{len(good):,} certificates of {wishes.samples:,} samples are more than the {self.reader.limits.samples:,} "
                "passes that a request may ask for; send fewer inputs, or ask for fewer samples."
            )
        cells: dict[str, list[Any]] = {}
        if wishes.certify != "none":
            certified = {i: certify(self.logits, found.contents[i], wishes, i) for i in good}
            cells["certified"] = [
                None if i not in certified else "" if abstained(certified[i]) else self.classes[certified[i].label]
                for i in range(len(found))
            ]
            cells["radius"] = [certified[i].cohen if i in certified else None for i in range(len(found))]
        if wishes.vote:
            votes = {i: self._voted(found.contents[i], wishes, i) for i in good}
            cells["voted"] = [votes[i][0] if i in votes else None for i in range(len(found))]
            cells["votes"] = [votes[i][1] if i in votes else None for i in range(len(found))]
        if wishes.detect and self.detector is not None:
            scores: list[Any] = [None] * len(found)
            for i in good:
                scores[i] = self._suspicion(self.detector, found.contents[i])
            cells["suspicion"] = scores
            cells["suspicious"] = [None if s is None else "yes" if s > self.detector.threshold else "no" for s in scores]
        return cells

    def logits(self, images: Tensor) -> Tensor:
        """[B, T] of one pass, when it is this thread's turn."""
        with _turn, torch.no_grad():
            return self.model(images.to(self.model.device)).float().cpu()

    def _voted(self, content: Any, wishes: Wishes, row: int) -> tuple[str | None, float | None]:
        try:
            with _turn:
                return vote(self.model, content, wishes, row, self.classes)
        except RefusedRequest:
            raise
        except ReprogramError:
            return None, None

    def _suspicion(self, detector: Detector, content: Any) -> float | None:
        """None for an input that the model fails on."""
        try:
            with _turn:
                return float(detector.suspicion(self.model, [content])[0])
        except FATAL:
            raise
        except Exception:
            return None

    def labelled_similarity(self) -> np.ndarray:
        """Similarity of each kept labelled example to the nearest other one: what honest inputs look like. [] if unknown."""
        known: Applicability | None = self.model.applicability
        if known is None or len(known.sketches) < 2:
            return np.zeros(0)
        alike = np.asarray(known.measure.alike(known.sketches, known.sketches), float)
        np.fill_diagonal(alike, -np.inf)
        return np.sort(alike.max(1))

    def describe(self) -> dict[str, Any]:
        """What the model's metadata says of it, as JSON values."""
        target, known, detector = self.model.target, self.model.applicability, self.detector
        kept = self.model.conformal
        return {
            "program": self.digest,
            "source": self.model.source.name,
            "kind": target.kind,
            "problem": target.problem,
            "classes": list(target.classes),
            "outside_level": None if known is None else known.level,
            "examples_of_intervals": None if kept is None else kept.examples,
            "detector": None if detector is None else detector.describe(),
            "defaults": vars(self.wishes),
            "limits": vars(self.reader.limits),
        }


def digest_of(described: Mapping[str, Any]) -> str:
    """Names a program and its source. described: its program.json."""
    return hashlib.sha256(f"{described['source']['fingerprint']}:{described['tensors']['sha256']}".encode()).hexdigest()[:16]


def from_settings(folder: str, options: Mapping[str, Any], home: Path) -> ServedProgram:
    """A program with ``parameters.extra`` of its model-settings.json, and the detector that lies beside that file in ``home``.
    Raises ReprogramError in one sentence."""
    where = f"parameters.extra of the model in {folder}"
    limits = Limits(**check_arguments(Limits, dict(options.get("limits") or {}), where))
    wishes = Wishes().changed(options.get("defaults"))
    return ServedProgram.load(folder, wishes, limits, home / DETECTOR_FILE, options.get("device") or "cpu")


def _votes(kind: str) -> bool:
    from reprogram.modalities.base import Modality

    return type(modality(kind)).variants is not Modality.variants


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
