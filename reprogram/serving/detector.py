"""How much an input looks like an attack: how far its answer moves when its finest detail goes, and how far each layer of the
frozen model is from what it saw in labelled examples.

Attacks rest on detail that simplifying removes: feature squeezing (Xu et al. 2018, arXiv 1704.01155), for words as in ONION (Qi
et al. 2021, arXiv 2011.10369). And what they push through the last layer is unlike the labelled examples in others: deep
k-nearest neighbours (Papernot & McDaniel 2018, arXiv 1803.04765). Each score becomes the share of honest examples that have a
larger one, and both groups of shares are summed as logarithms (Fisher). Nothing is learned from attacks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from reprogram.applicability.features import WIDEST, projection
from reprogram.errors import ArtifactError, DataError
from reprogram.interfaces import SourceOutput
from reprogram.modalities import modality
from reprogram.prediction.answers import as_examples, read

if TYPE_CHECKING:
    from reprogram.model import ReprogrammedModel

FILE = "detector.safetensors"  # beside model-settings.json
LARGEST = 256 << 20  # bytes of that file
NEIGHBOURS = 3  # labelled examples whose mean similarity counts
NOTE = "a hint, no defence: an attack that knows the score can avoid it, and few triggers are found"
FEWEST = 12  # examples: a third to compare with, a third for the shares, a third for the threshold


@dataclass(frozen=True)
class Detector:
    """An input is suspicious above ``threshold``.

    known: [M, 256] of each layer, examples to compare with. levels: [K, S] of S honest examples, sorted, for each of K scores:
    of the simplified copies ``copies``, then of the layers. false_alarms: share of further honest inputs that are flagged,
    calibrated on so many ``examples``.
    """

    copies: tuple[str, ...]
    known: tuple[np.ndarray, ...]
    levels: np.ndarray
    threshold: float
    false_alarms: float
    examples: int

    @classmethod
    def calibrated(cls, model: ReprogrammedModel, examples: Sequence[Any], level: float = 0.05) -> Detector:
        """The lowest threshold that flags at most a share ``level`` of further examples, counted as in conformal prediction.

        examples: trusted ones that the program was not fitted to; with 3n of them at least 1 / (n + 1) is flagged. Not those
        that it was fitted to: its answers to them are too certain, and a trigger may be among them. Raises DataError for kinds
        of inputs that cannot be simplified, and for too few examples.
        """
        if not detects(model):
            raise DataError(f"There is no way to simplify {model.target.kind} inputs, so none can be found suspicious.")
        if len(examples) < FEWEST:
            raise DataError(f"A detector needs {FEWEST} examples that the program was not fitted to; found {len(examples)}.")
        mixed = [examples[place] for place in np.random.RandomState(0).permutation(len(examples))]  # classes may take turns
        third = len(mixed) // 3
        layers = tuple(_layers(model, mixed[:third])[1])
        copies, scores = _scores(model, mixed[third:], layers)
        half = (len(mixed) - third) // 2
        levels = np.sort(scores[:, :half], 1)
        sums = np.sort(cls(copies, layers, levels, math.inf, 0.0, 0)._summed(scores[:, half:]))
        rank = min(math.ceil((len(sums) + 1) * (1 - level) - 1e-9), len(sums))
        return cls(copies, layers, levels, float(sums[rank - 1]), 1 - rank / (len(sums) + 1), len(sums))

    def suspicion(self, model: ReprogrammedModel, contents: Sequence[Any]) -> np.ndarray:
        """[N] from 0; about 1 for honest inputs."""
        copies, scores = _scores(model, contents, self.known)
        if copies != self.copies:
            raise DataError("The detector was made for other copies of inputs; serve the program with target=… again.")
        return self._summed(scores)

    def _summed(self, scores: np.ndarray) -> np.ndarray:
        """[K, N] -> [N]: mean of -log shares, copies and layers counting alike."""
        pairs = zip(self.levels, scores, strict=True)
        above = np.stack([len(honest) - np.searchsorted(honest, row, "left") for honest, row in pairs])
        told = -np.log((above + 1) / (self.levels.shape[1] + 1))
        parts = [part.mean(0) for part in (told[: len(self.copies)], told[len(self.copies) :]) if len(part)]
        return np.mean(parts, 0)

    def describe(self) -> dict[str, Any]:
        """For the metadata."""
        numbers = {"threshold": self.threshold, "false_alarms": self.false_alarms, "examples": self.examples}
        return numbers | {"note": NOTE}

    def save(self, file: Path, program: str) -> None:
        """As tensors alone. program: the digest of the one that it was calibrated for."""
        from safetensors.numpy import save

        tensors = {f"known.{place}": layer for place, layer in enumerate(self.known)} | {"levels": self.levels}
        told = self.describe() | {"copies": list(self.copies), "program": program}
        file.write_bytes(save(tensors, {"detector": json.dumps(told)}))

    @classmethod
    def load(cls, file: Path, program: str) -> Detector | None:
        """None where there is no such file, or it was made for another program. Raises ArtifactError."""
        from safetensors import SafetensorError, safe_open

        if not file.exists():
            return None
        try:
            if file.stat().st_size > LARGEST:
                raise ValueError
            with safe_open(file, "numpy") as opened:
                told = json.loads(opened.metadata()["detector"])
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no dict
            levels = tensors.pop("levels")
            layers = tuple(tensors[f"known.{place}"] for place in range(len(tensors)))
            numbers = [float(told["threshold"]), float(told["false_alarms"]), int(told["examples"])]
            copies = tuple(map(str, told["copies"]))
            right = levels.ndim == 2 and len(levels) == len(copies) + len(layers) and levels.shape[1] > 0
            right = right and all(layer.ndim == 2 and len(layer) for layer in layers)
            if not right or not all(np.isfinite(part).all() for part in (levels, *layers, numbers)):
                raise ValueError
        except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            raise ArtifactError(f"{file} is no detector; task=serve with target=… writes one.") from error
        return cls(copies, layers, levels, numbers[0], numbers[1], int(numbers[2])) if told.get("program") == program else None


def detects(model: ReprogrammedModel) -> bool:
    """Can inputs of this kind be simplified?"""
    return modality(model.target.kind).simplifies


def _scores(
    model: ReprogrammedModel, contents: Sequence[Any], known: Sequence[np.ndarray]
) -> tuple[tuple[str, ...], np.ndarray]:
    """(names of the copies, scores [K, N]): movement of the answer for each kind of copy, distance for each layer."""
    plain, layers = _layers(model, contents)
    kind = modality(model.target.kind)
    copied = [kind.simplified(content) for content in contents]
    names = tuple(dict.fromkeys(name for some in copied for name in some))
    rows = []
    for name in names:
        owner = [place for place, some in enumerate(copied) for _ in some.get(name, ())]
        moved = read(model, [copy for some in copied for copy in some.get(name, ())], compare=False).scores
        score = np.zeros(len(contents))
        np.maximum.at(score, owner, np.nan_to_num(_apart(model.target.problem, plain[owner], moved)))
        rows.append(score)
    for layer, seen in zip(layers, known, strict=True):
        alike = layer.astype(np.float32) @ seen.astype(np.float32).T
        rows.append(1 - np.sort(alike, 1)[:, -NEIGHBOURS:].mean(1))
    return names, np.stack(rows)


def _layers(model: ReprogrammedModel, contents: Sequence[Any]) -> tuple[np.ndarray, list[np.ndarray]]:
    """(answers [N, T], the directions [N, 256 or fewer] of each layer of each view) of one pass."""
    scores, parts = [], []
    with model.batches(as_examples(contents), 32, "looking for signs of attacks") as batches:
        for batch in batches:
            outputs = model.outputs(batch)
            scores.append(model.probabilities(model.decide(outputs).float()).cpu().numpy())
            parts.append([_direction(value) for output in outputs for value in _read(output)])
    return np.concatenate(scores), [np.concatenate(layer) for layer in zip(*parts, strict=True)]


def _read(output: SourceOutput) -> list[Tensor]:
    found = list(output.taps.values())
    if output.features is not None and output.features.shape[1]:
        found.append(output.features)
    return found or [output.logits]


def _direction(values: Tensor) -> np.ndarray:
    rows = F.normalize(values.float().cpu().flatten(1), dim=1)
    if rows.shape[1] > WIDEST:
        rows = F.normalize(rows @ projection(rows.shape[1]), dim=1)
    return rows.half().numpy()


def _apart(problem: str, plain: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """[N] how far answers are apart: values by their difference, probabilities by their Kullback-Leibler divergence."""
    if problem == "regression":
        return np.abs(plain - moved).sum(1)
    found = plain * (np.log(plain + 1e-9) - np.log(moved + 1e-9))
    if problem == "multilabel":
        found += (1 - plain) * (np.log(1 - plain + 1e-9) - np.log(1 - moved + 1e-9))
    return found.sum(1)
