"""The three tests on one model, label by label, with progress and a journal that an interrupted run goes on from."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from reprogram.backdoor.detection.data_free import data_free
from reprogram.backdoor.detection.data_limited import data_limited, detection_index
from reprogram.backdoor.detection.masks import Masks, MaskSearch
from reprogram.backdoor.detection.neural_cleanse import recover
from reprogram.backdoor.detection.reference import FEWEST_LABELS, anomaly
from reprogram.interfaces import SourceModel
from reprogram.journal import Journal
from reprogram.progress import progress
from reprogram.ranges import Amount, Checked, Count, Range, Side

Examples = tuple[Tensor, Tensor]
DL, DF, NC = "DL-TND", "DF-TND", "Neural Cleanse"


@dataclass(frozen=True)
class Effort(Checked):
    """How hard to look. Labels beyond ``most`` are screened first: the ``suspects`` most suspicious are tested fully,
    beside as many others, drawn by the seed, that say what is usual in this model.

    each: clean examples a label. seeds: random images of the tests without data. search: of masks. ascent: steps of
    DF-TND. screen_steps, screen_side: of the screening of every label, with one seed. side: pixels at which a larger
    source is read; None: its own. at_once: images in one pass.
    """

    each: Count = 5
    seeds: Annotated[int, Range(1, 10_000)] = 20
    search: MaskSearch = field(default_factory=MaskSearch)
    ascent: Amount = 40
    most: Count = 20
    suspects: Count = 10
    screen_steps: Amount = 3
    screen_side: Side = 64
    side: Side | None = None
    at_once: Count = 500


@dataclass
class Figures:
    """Of one model. labels [G] that were tested; values {test: [G]}, larger is more suspicious, NaN where not made;
    triggers {label: image [C, H, W]}: what Neural Cleanse recovered; screened: the gain of every label, or empty.
    """

    labels: np.ndarray
    values: dict[str, np.ndarray] = field(default_factory=dict)
    triggers: dict[int, Tensor] = field(default_factory=dict)
    screened: np.ndarray = field(default_factory=lambda: np.empty(0))

    def scores(self) -> dict[str, tuple[float, int]]:
        """{test: (how far the most suspicious label stands above the others, that label)}."""
        found = {}
        for test, values in self.values.items():
            if len(values) >= FEWEST_LABELS and np.isfinite(values).all():
                apart = values if test == DL else anomaly(values, FLOOR)  # DL-TND's is relative to the median already
                found[test] = (float(apart.max()), int(self.labels[apart.argmax()]))
        return found


FLOOR = 0.1  # spread among labels that is nothing unusual by itself: of logarithms of sizes, and of logits


def examine(
    source: SourceModel, examples: Examples | None, effort: Effort, seed: int = 0, journal: Path | None = None
) -> Figures:
    """All tests that the data allows. examples: a few clean images [N, C, H, W] a label, with labels [N], or None.

    journal: a file that finished parts are kept in, and read from where it exists.
    """
    work = _Work(source, effort, seed, journal)
    count = len(source.labels)
    figures = Figures(np.arange(count))
    if count > effort.most:
        figures.screened = work.screen(count)
        figures.labels = _suspects(figures.screened, effort.suspects, seed)
    wanted = torch.from_numpy(figures.labels)
    side = effort.side or source.spec.size
    noise = work.noise(effort.seeds, side)
    figures.values[DF] = work.free(wanted, noise)
    if examples is not None:
        figures.values[DL] = work.limited(wanted, *examples)
    images = noise if examples is None else examples[0]
    figures.values[NC], figures.triggers = work.cleanse(wanted, images, named=examples is not None)
    work.close()
    return figures


def _suspects(gains: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The labels with the largest gains, and as many of the others."""
    order = np.argsort(-gains)
    others = np.random.default_rng(seed).permutation(order[count:])[:count]
    return np.concatenate([order[:count], others])


class _Work:
    """One model, chunk by chunk; a chunk that the journal knows is not computed again."""

    def __init__(self, source: SourceModel, effort: Effort, seed: int, journal: Path | None) -> None:
        self.source, self.effort, self.seed = source, effort, seed
        self.device = next(source.parameters()).device
        self.journal = Journal(journal) if journal is not None else None
        rows = self.journal.read() if self.journal is not None else []
        self.known = {row["part"]: row["found"] for row in rows}

    def close(self) -> None:
        if self.journal is not None:
            self.journal.close()

    def part(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if name not in self.known:
            self.known[name] = make()
            if self.journal is not None:
                self.journal.append([{"part": name, "found": self.known[name]}])
        return self.known[name]

    def chunks(
        self, name: str, wanted: Tensor, images: int, make: Callable[[Tensor], dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """``make`` of a few labels at a time, as many as ``at_once`` images allow."""
        found = []
        with progress(f"inspecting: {name}", len(wanted)) as bar:
            for labels in wanted.split(max(1, self.effort.at_once // images)):
                key = f"{name} {labels[0].item()}-{labels[-1].item()}"
                found.append(self.part(key, partial(make, labels)))
                bar.advance(len(labels))
        return found

    def noise(self, count: int, side: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.rand((count, self.source.spec.channels, side, side), generator=generator).to(self.device)

    def logits(self, images: Tensor) -> Tensor:
        return self.source(images).logits

    def screen(self, count: int) -> np.ndarray:
        """DF-TND for every label, short and small: a sieve, not a test."""
        seeds = self.noise(1, min(self.effort.screen_side, self.source.spec.size))

        def make(labels: Tensor) -> dict[str, Any]:
            return {"gains": self._gains(labels, seeds, self.effort.screen_steps)}

        found = self.chunks("screening", torch.arange(count), 1, make)
        return np.concatenate([part["gains"] for part in found])

    def free(self, wanted: Tensor, seeds: Tensor) -> np.ndarray:
        def make(labels: Tensor) -> dict[str, Any]:
            return {"gains": self._gains(labels, seeds, self.effort.ascent)}

        return np.concatenate([part["gains"] for part in self.chunks(DF, wanted, len(seeds), make)])

    def _gains(self, labels: Tensor, seeds: Tensor, steps: int) -> list[float]:
        return data_free(self.logits, seeds, labels, steps).cpu().tolist()

    def limited(self, wanted: Tensor, images: Tensor, labels: Tensor) -> np.ndarray:
        def make(some: Tensor) -> dict[str, Any]:
            found = data_limited(self.logits, images, labels, some.to(self.device), self.effort.search, self.seed)
            return {"similarity": found.similarity.cpu().tolist(), "sizes": found.sizes.cpu().tolist()}

        parts = self.chunks(DL, wanted, len(images), make)
        similarity, sizes = (np.concatenate([part[key] for part in parts]) for key in ("similarity", "sizes"))
        return detection_index(similarity, sizes)

    def cleanse(self, wanted: Tensor, images: Tensor, named: bool) -> tuple[np.ndarray, dict[int, Tensor]]:
        """Minus the logarithm of each label's mask size, and every recovered trigger."""

        def make(some: Tensor) -> dict[str, Any]:
            found = recover(self.logits, images, some.to(self.device), self.effort.search, self.seed)
            return {"sizes": found.sizes.cpu().tolist(), "triggers": [_packed(t) for t in _shown(found.triggers)]}

        name = NC if named else f"{NC} from noise"
        parts = self.chunks(name, wanted, len(images), make)
        sizes = np.concatenate([part["sizes"] for part in parts])
        pictures = [_unpacked(text) for part in parts for text in part["triggers"]]
        return -np.log(sizes + 1e-4), dict(zip(wanted.tolist(), pictures, strict=True))


def _shown(found: Masks) -> Tensor:
    """[G, C, H, W]: the pattern where the mask is, grey elsewhere."""
    mask, pattern = found.masks[:, 0], found.patterns[:, 0]
    return mask * pattern + (1 - mask) * 0.5


def _packed(image: Tensor) -> dict[str, Any]:
    pixels = (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return {"shape": list(pixels.shape), "pixels": base64.b64encode(pixels.numpy().tobytes()).decode()}


def _unpacked(packed: dict[str, Any]) -> Tensor:
    values = np.frombuffer(base64.b64decode(packed["pixels"]), dtype=np.uint8).reshape(packed["shape"])
    return torch.from_numpy(values.copy()).float() / 255
