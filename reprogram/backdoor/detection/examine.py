"""The tests on one model, label by label, with progress and a journal that an interrupted run goes on from."""

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

from reprogram.backdoor.detection.changes import Change, Group, Mask, Pattern, Warp, smallest_changes
from reprogram.backdoor.detection.data_free import data_free
from reprogram.backdoor.detection.data_limited import data_limited, detection_index
from reprogram.backdoor.detection.masks import Masks, MaskSearch
from reprogram.backdoor.detection.maximum_margin import maximum_margin
from reprogram.backdoor.detection.neural_cleanse import recover
from reprogram.backdoor.detection.reference import FEWEST_LABELS, anomaly
from reprogram.errors import ConfigError, nearest
from reprogram.interfaces import SourceModel
from reprogram.journal import Journal
from reprogram.progress import progress
from reprogram.ranges import Amount, Checked, Count, Range, Side

Examples = tuple[Tensor, Tensor]
DL, DF, NC = "DL-TND", "DF-TND", "Neural Cleanse"
PATTERN, WARP, SOURCES, EVERY, MARGIN = "added pattern", "warp", "mask of one class", "mask of all classes", "maximum margin"
TESTS = {
    "neural_cleanse": NC, "pattern": PATTERN, "warp": WARP, "classes": SOURCES, "margin": MARGIN, "dl_tnd": DL, "df_tnd": DF,
}  # fmt: skip
DEFAULT = ("neural_cleanse", "pattern", "warp", "classes", "margin")


@dataclass(frozen=True)
class Effort(Checked):
    """How hard to look. Labels beyond ``most`` are screened first: the ``suspects`` most suspicious are tested fully,
    beside as many others, drawn by the seed, that say what is usual in this model.

    tests: which; those without ``margin`` and ``df_tnd`` need clean examples. each: clean examples a label.
    seeds: random images of the tests without data, and of ``neural_cleanse`` where there are no examples. search: of masks.
    pattern_steps, warp_steps, class_steps: of the searches for other changes. margin_steps, ascent: of the tests without
    data. screen_steps, screen_side: of the screening of every label, with one seed. side: pixels at which a larger source
    is read; None: its own. at_once: images in one pass.
    """

    tests: tuple[str, ...] = DEFAULT
    each: Count = 5
    seeds: Annotated[int, Range(1, 10_000)] = 20
    search: MaskSearch = field(default_factory=MaskSearch)
    pattern_steps: Count = 35
    warp_steps: Count = 20
    class_steps: Count = 50
    margin_steps: Count = 15
    ascent: Amount = 40
    most: Count = 20
    suspects: Count = 10
    screen_steps: Amount = 3
    screen_side: Side = 64
    side: Side | None = None
    at_once: Count = 500

    def __post_init__(self) -> None:
        for test in self.tests:
            if test not in TESTS:
                raise ConfigError(f"inspection.tests has {test}, which is unknown; {nearest(test, TESTS)}.")


@dataclass
class Figures:
    """Of one model. labels [G] that were tested; values {test: [G]}, larger is more suspicious, NaN where not made;
    triggers {label: image [C, H, W]}: what Neural Cleanse recovered; screened: the gain of every label, or empty.

    whole {test: [1]}: of tests that give the model one value. aims {test: labels [G]}: where a value is not that of the
    label that a Trojan would target, the label it would.
    """

    labels: np.ndarray
    values: dict[str, np.ndarray] = field(default_factory=dict)
    triggers: dict[int, Tensor] = field(default_factory=dict)
    screened: np.ndarray = field(default_factory=lambda: np.empty(0))
    whole: dict[str, np.ndarray] = field(default_factory=dict)
    aims: dict[str, np.ndarray] = field(default_factory=dict)

    def apart(self) -> dict[str, np.ndarray]:
        """{test: how far each label stands above the others}; tests that cannot be compared are left out."""
        found = {}
        for test, values in self.values.items():
            if len(values) >= FEWEST_LABELS and np.isfinite(values).all():
                found[test] = self._apart(test, values)
        return found | (self.whole if found else {})

    def _apart(self, test: str, values: np.ndarray) -> np.ndarray:
        if test in (DL, SOURCES):  # relative to the median already
            return values
        return anomaly(values, FLOOR) if test == DF else values - np.median(values)

    def towards(self, test: str, index: int) -> int:
        """The label that the value at ``index`` speaks of."""
        return int(self.aims.get(test, self.labels)[index])

    def scores(self) -> dict[str, tuple[float, int]]:
        """{test: (how far the most suspicious label stands above the others, that label)}."""
        return {t: (float(v.max()), self.towards(t, int(v.argmax()))) for t, v in self.apart().items()}


FLOOR = 0.1  # spread among labels that is nothing unusual by itself: of logits
MARGIN_SEEDS = 6  # random images of ``margin``
FEWEST_RIGHT = 2  # examples of a class: one alone is moved by a small mask in any model


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
    noise = work.noise(max(effort.seeds, MARGIN_SEEDS), side)
    if "margin" in effort.tests:
        figures.values[MARGIN] = work.margin(wanted, noise[:MARGIN_SEEDS])
    if "df_tnd" in effort.tests:
        figures.values[DF] = work.free(wanted, noise[: effort.seeds])
    if examples is not None and "dl_tnd" in effort.tests:
        figures.values[DL] = work.limited(wanted, *examples)
    if "neural_cleanse" in effort.tests or "classes" in effort.tests:
        images = noise[: effort.seeds] if examples is None else examples[0]
        figures.values[NC], figures.triggers = work.cleanse(wanted, images, named=examples is not None)
    if examples is not None:
        _changes(work, figures, wanted, examples)
    work.close()
    return figures


def _changes(work: _Work, figures: Figures, wanted: Tensor, examples: Examples) -> None:
    """The tests by the smallest changes of clean examples."""
    effort = work.effort
    if "pattern" in effort.tests:
        figures.values[PATTERN] = work.change(PATTERN, wanted, examples, Pattern, effort.pattern_steps)
    if "warp" in effort.tests:
        figures.values[WARP] = work.change(WARP, wanted, examples, Warp, effort.warp_steps)
    if "classes" in effort.tests:
        usual = float(np.median(figures.values[NC]))
        values, aims = work.classes(wanted, examples)
        figures.values[SOURCES], figures.aims[SOURCES] = values[1:] - usual, aims[1:]
        figures.whole[EVERY], figures.aims[EVERY] = values[:1] - usual, aims[:1]


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

    def margin(self, wanted: Tensor, seeds: Tensor) -> np.ndarray:
        """Largest margins, relative to the usual one: logits have no unit."""

        def make(labels: Tensor) -> dict[str, Any]:
            return {"margins": maximum_margin(self.logits, seeds, labels, self.effort.margin_steps).cpu().tolist()}

        margins = np.concatenate([part["margins"] for part in self.chunks(MARGIN, wanted, len(seeds), make)])
        return margins / max(float(np.median(np.abs(margins))), 1e-12)

    def change(self, name: str, wanted: Tensor, examples: Examples, kind: type[Change], steps: int) -> np.ndarray:
        """Minus the logarithm of the smallest change of all other examples to each label."""
        images, labels = examples

        def make(some: Tensor) -> dict[str, Any]:
            groups = [Group(torch.nonzero(labels.cpu() != k).squeeze(1), k) for k in some.tolist()]
            found = smallest_changes(self.logits, images, labels, groups, kind, steps, self.seed)
            return {"sizes": found.sizes.cpu().tolist()}

        sizes = np.concatenate([part["sizes"] for part in self.chunks(name, wanted, len(images), make)])
        return -np.log(sizes + 1e-4)

    def classes(self, wanted: Tensor, examples: Examples) -> tuple[np.ndarray, np.ndarray]:
        """The same for masks that take all examples off their labels, and then those of each label; and where they take them.

        Only examples that are read rightly count: the others are off their labels already.
        """
        images, labels = examples

        def make() -> dict[str, Any]:
            with torch.no_grad():
                right = (self.logits(images).argmax(1) == labels).cpu()
            rows = [torch.nonzero(right).squeeze(1)]
            rows += [torch.nonzero(right & (labels.cpu() == k)).squeeze(1) for k in wanted.tolist()]
            groups = [Group(some if len(some) >= FEWEST_RIGHT else some[:0]) for some in rows]
            found = smallest_changes(self.logits, images, labels, groups, Mask, self.effort.class_steps, self.seed)
            return {"sizes": found.sizes.cpu().tolist(), "aims": found.aims.cpu().tolist()}

        found = self.part(SOURCES, make)
        return -np.log(np.array(found["sizes"]) + 1e-4), np.array(found["aims"])

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
