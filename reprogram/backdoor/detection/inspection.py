"""The inspection hook: ``inspection=none|quick|full`` in any run, and what ``task=inspect`` shows in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from reprogram.backdoor.detection.examine import NC, Effort, Examples, Figures, examine
from reprogram.backdoor.detection.masks import MaskSearch
from reprogram.backdoor.detection.query_scan import query_scan
from reprogram.backdoor.detection.reference import FEWEST_LABELS, FEWEST_MODELS, Reference, of_models, shipped
from reprogram.backdoor.detection.verdict import THRESHOLD, TrojanEvidence, verdict
from reprogram.errors import ConfigError, nearest
from reprogram.hooks import Hook, Run
from reprogram.interfaces import SourceModel, TargetTask
from reprogram.modalities import modality
from reprogram.progress import track
from reprogram.ranges import Amount
from reprogram.robustness.depths import refuse_other_depth
from reprogram.robustness.evaluated_model import gather
from reprogram.robustness.findings import Flag, Row
from reprogram.robustness.reading import as_read
from reprogram.robustness.unfrozen import Unfrozen, learn
from reprogram.targets.splits import take

DEPTHS: dict[str, Effort] = {
    "quick": Effort(seeds=2, search=MaskSearch(steps=30), ascent=10, suspects=3, side=64, screen_side=48, screen_steps=2),
    "full": Effort(side=96),
}
SMALL = 32  # pixels: a source of this side or less costs so little that quick looks as hard as full


@dataclass
class Inspected:
    """evidence: one entry a test. figures: label by label. left_out: what could not be done, and why."""

    evidence: list[TrojanEvidence] = field(default_factory=list)
    figures: Figures | None = None
    left_out: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    verdict: str = ""


class Inspection(Hook):
    """depth: ``quick`` or ``full``; every other key replaces one of the depth's :class:`Effort`.

    train: clean reference models that the tool trains itself, on the target's training examples (its classes must be
    the source's labels, and the source must know how to be drawn anew). references: clean sources of the user's, from
    Python. Without either, scores are compared with the small models that ``benchmarks/trojans.py`` trained.
    """

    options_of: ClassVar[type] = Effort

    def __init__(
        self, depth: str = "quick", train: Amount = 0, references: Sequence[SourceModel] = (), **changes: Any
    ) -> None:
        if depth not in DEPTHS:
            raise ConfigError(f"inspection.depth={depth} is unknown; {nearest(depth, DEPTHS)}.")
        known = Effort.__dataclass_fields__
        for key in changes:
            if key not in known:
                raise ConfigError(f"There is no option inspection.{key}; {nearest(key, known)}.")
        if "tests" in changes:
            changes["tests"] = tuple(changes["tests"])
        if isinstance(changes.get("search"), Mapping):
            changes["search"] = replace(DEPTHS[depth].search, **changes["search"])
        refuse_other_depth("inspection", depth, changes, DEPTHS)
        changes = {k: v for k, v in changes.items() if v != getattr(DEPTHS[depth], k)}
        self.depth, self.changes, self.train, self.references = depth, changes, train, list(references)

    def effort(self, source: SourceModel) -> Effort:
        """How many labels, examples and steps this depth spends on the source."""
        small = source.spec.size <= SMALL
        found = replace(DEPTHS["full" if small else self.depth], **self.changes)
        return replace(found, side=min(source.spec.size, found.side or source.spec.size))

    def on_source(self, run: Run, source: SourceModel, target: TargetTask | None) -> None:
        found = self.inspect(source, target, run)
        for row in found.rows:
            row.add_to(run.result)
        run.result.data["inspection"] = {
            "verdict": found.verdict,
            "evidence": [vars(e) for e in found.evidence],
            "left_out": found.left_out,
        }

    def inspect(self, source: SourceModel, target: TargetTask | None, run: Run) -> Inspected:
        """Everything that this source and this data allow; ``target`` helps where its classes are the source's labels."""
        found = Inspected()
        if not modality(source.spec.kind).pixels or source.spec.answers == "none" or len(source.labels) < 2:
            found.left_out.append(f"{source.name} is no image classifier, and nothing else can be inspected")
        elif not source.differentiable:
            self._ask(source, target, run, found)
        else:
            self._look(source, target, run, found)
        found.verdict = verdict(found.evidence, source.labels, found.left_out)
        found.rows.append(Row("trojan_inspection", "inspection", found.verdict, None))
        return found

    def _look(self, source: SourceModel, target: TargetTask | None, run: Run, found: Inspected) -> None:
        effort = self.effort(source)
        examples = _few(source, target, effort, run, found)
        journal = run.dir / "inspection.jsonl"
        if not run.resume:
            journal.unlink(missing_ok=True)
        found.figures = examine(source, examples, effort, run.seed, journal)
        known = self._known(source, target, examples, effort, run, found)
        if len(found.figures.labels) < FEWEST_LABELS:
            found.left_out.append(f"{len(source.labels)} labels are too few to be compared with one another")
        for test, values in found.figures.apart().items():
            self._judge(test, values, known.get(test), source, found)

    def _judge(
        self, test: str, values: np.ndarray, reference: Reference | None, source: SourceModel, found: Inspected
    ) -> None:
        assert found.figures is not None
        index, z, mad = reference.judge(values) if reference else (int(values.argmax()), None, None)
        label, score = found.figures.towards(test, index), float(values[index])
        found.evidence.append(TrojanEvidence(test, label, score, z, mad, reference.about if reference else ""))
        row = Row(f"trojan_{test}", "inspection", f"towards {source.labels[label]}", z, n=len(found.figures.labels))
        row.flags = [Flag("reference", reference.about)] if reference and reference.about else []
        row.more = {"label": source.labels[label], "score": score, "mad": mad, "threshold": THRESHOLD}
        found.rows.append(row)

    def _known(
        self, source: SourceModel, target: TargetTask | None, examples: Examples | None, effort: Effort, run: Run,
        found: Inspected,
    ) -> dict[str, Reference]:  # fmt: skip
        """References: named, trained, or shipped."""
        clean = [*self.references]
        if self.train:
            clean += trained(source, target, self.train, run.seed)
        if clean and len(clean) < FEWEST_MODELS:
            found.left_out.append(
                f"{len(clean)} reference models are too few for a standard deviation (at least {FEWEST_MODELS}); "
                "the shipped ones were used"
            )
        if len(clean) < FEWEST_MODELS:
            return self._shipped(source, examples, found)
        figures = [examine(one, examples, effort, run.seed) for one in track(clean, "inspecting reference models")]
        known = of_models([one.apart() for one in figures])
        alike = found.figures is not None and not len(found.figures.screened)
        alike = alike and all(one.labels == source.labels for one in clean)
        return known if alike else {test: replace(one, values=None) for test, one in known.items()}

    def _shipped(self, source: SourceModel, examples: Examples | None, found: Inspected) -> dict[str, Reference]:
        """The references that come with the toolkit, for models whose labels were all tested, as theirs were."""
        assert found.figures is not None
        if not len(found.figures.screened):
            known = shipped()
            if examples is None:
                known.pop(NC, None)  # theirs was made on examples, not on noise
            return known
        found.left_out.append(
            f"of {len(source.labels):,} labels the most suspicious were picked, which makes them look unusual in any model, "
            "and the shipped references are small models all of whose labels were tested: the scores are shown, not judged "
            "(clean models of this kind as references would judge them)"
        )
        return {}

    def _ask(self, source: SourceModel, target: TargetTask | None, run: Run, found: Inspected) -> None:
        """Only what queries allow."""
        found.left_out.append(f"{source.name} is a black-box model: all tests that need gradients are left out")
        if target is None or not modality(target.info.kind).pixels:
            return
        images, _ = gather(target.train, 32, "cpu", run.seed)
        images = as_read(images, source.spec.channels, source.spec.size)
        share, label = query_scan(lambda x: source(x).logits.argmax(1), images, seed=run.seed)
        row = Row(
            "trojan_query_scan", "inspection", f"random patches, towards {source.labels[label]}", share, n=len(images)
        )
        row.flags = [Flag("not_calibrated", "not calibrated: random patches find a trigger by chance only")]
        found.rows.append(row)


def _few(source: SourceModel, target: TargetTask | None, effort: Effort, run: Run, found: Inspected) -> Examples | None:
    """``each`` clean examples of every label of the source; None where the target has other classes."""
    info = target.info if target is not None else None
    if target is None or info is None or not modality(info.kind).pixels or len(info.classes) != len(source.labels):
        found.left_out.append(
            f"most tests need a few clean examples of the source's own {len(source.labels):,} labels: only those without data "
            f"were made, and {NC} ran on noise, which is shown and not judged"
        )
        return None
    labels = np.asarray(target.train.labels)
    rows = take(labels, dict.fromkeys(range(len(info.classes)), effort.each), np.random.default_rng(run.seed))
    missing = [info.classes[k] for k, some in enumerate(rows) if not len(some)]
    if missing:
        found.left_out.append(f"the clean set has no example of {', '.join(missing)}, which weakens the tests")
    images, few = gather(target.train.subset(np.concatenate(rows)), None, run.device)
    return as_read(images, source.spec.channels, effort.side or source.spec.size), few


def trained(
    source: SourceModel, target: TargetTask | None, count: int, seed: int, epochs: int = 5
) -> list[SourceModel]:
    """Clean models of the source's architecture, trained from scratch on the target's training examples."""
    anew = getattr(source, "with_random_weights", None)
    if anew is None or target is None or len(target.info.classes) != len(source.labels):
        raise ConfigError(
            f"inspection.train={count} needs a source that can be drawn anew and training examples of its own "
            f"{len(source.labels):,} labels."
        )
    images, labels = gather(target.train, None)
    images = as_read(images, source.spec.channels, source.spec.size)
    found = []
    for number in track(range(count), "training reference models"):
        model = Unfrozen(anew(seed + number + 1))
        learn(model, images, labels, epochs, 1e-2, seed + number + 1)
        found.append(model.frozen())
    return found
