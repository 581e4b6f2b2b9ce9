"""``program=auto``: cross-validate cheap candidates, train prompts only where a short trial shows a gain, refit the best."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from reprogram.errors import BudgetSpent, ConfigError, SourceError
from reprogram.evaluation.features import source_outputs
from reprogram.evaluation.point_metrics import main_metric
from reprogram.full_precision import full_precision
from reprogram.hooks import Run
from reprogram.interfaces import SourceModel, SourceOutput, Tap, TargetTask, to_tensor_labels
from reprogram.modalities import Candidate, modality
from reprogram.modalities.base import Named
from reprogram.model import ReprogrammedModel
from reprogram.progress import progress
from reprogram.ranges import Checked, Range
from reprogram.selection.bias import corrected
from reprogram.selection.by_names import program_by_names, too_few_to_choose
from reprogram.selection.candidates import join, make_input, make_output
from reprogram.selection.choice import Choice
from reprogram.selection.costs import PassCosts, check_budget
from reprogram.selection.crossval import (
    Folds,
    averaged,
    learn,
    make_folds,
    out_of_fold,
    own_share,
    probabilities,
    squared_error,
)
from reprogram.selection.failures import FAILURES, failed
from reprogram.selection.maps import FOREIGN, Maps, train_map, unread_share, untrained
from reprogram.selection.pool import PoolPasses
from reprogram.selection.race import PromptTrial, forecast, prompted, train_candidate
from reprogram.selection.rule import Rule
from reprogram.sources.reading import reading_notes
from reprogram.training import checkpoint

FAR = 3.0  # standard errors behind after one fold that end a candidate


@dataclass
class Auto(Checked):
    """Settings of the search.

    minutes: wall time of the search (the refit and the report come after it). folds, repeats: of the cross-validation;
    fewer where time is short. photographs: mirror images are the same thing (None: colour images are photographs).
    prompts: also race trained prompts. ensemble: also average the best few programs.
    """

    group: ClassVar[str] = "auto."

    minutes: Annotated[float, Range(0, 10_000, open=True)] = 3.0
    folds: Annotated[int, Range(2, 1000)] = 10
    repeats: Annotated[int, Range(1, 1000)] = 1
    photographs: bool | None = None
    prompts: bool = True
    ensemble: Annotated[int, Range(1, 100)] = 3

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise ConfigError(f"auto.minutes={self.minutes} must be above 0.")
        if self.folds < 2 or self.repeats < 1:
            raise ConfigError(f"auto.folds={self.folds} must be at least 2 and auto.repeats={self.repeats} at least 1.")


def choose(sources: list[SourceModel], target: TargetTask, settings: Auto, run: Run) -> Choice:
    """Search, choose, refit on all labels. Test examples are never touched. Raises SourceError where nothing works."""
    if too_few_to_choose(target.train.labels):
        return program_by_names(sources, target, {"photographs": settings.photographs}, run.seed)
    return _Search(sources, target, settings, run).run()


class _Search:
    def __init__(self, sources: list[SourceModel], target: TargetTask, settings: Auto, context: Run) -> None:
        self.sources, self.target, self.settings, self.context = sources, target, settings, context
        self.modality = modality(target.info.kind)
        self.labels = to_tensor_labels(target.train.labels)
        self.started = time.monotonic()
        self.rows: dict[str, dict[str, Any]] = {}
        self.cut: set[str] = set()  # candidates that the clock kept from being fully scored
        self.scored: dict[str, Tensor] = {}  # candidate -> held-out logits [F, N, T]
        self.pool: dict[str, list[SourceOutput]] = {}
        self.notes: list[str] = []
        self.reading: dict[str, list[str]] = {}  # notes on what the source cannot read through an atom
        self.forecasts: list[PromptTrial] = []
        self.passes = PassCosts()
        self.pool_passes = PoolPasses(sources, target)
        self.foreign = [i for i, s in enumerate(sources) if s.differentiable and unread_share(s, target) > FOREIGN]
        self.folder = context.dir / "checkpoint" / "auto"
        self.recipe = checkpoint.recipe_of(context.recipe, target.train.labels)

    def left(self) -> float:
        return self.settings.minutes * 60 - (time.monotonic() - self.started)

    def run(self) -> Choice:
        hints = {"photographs": self.settings.photographs}
        listed = self.pool_passes.candidates(self.settings.photographs)  # first: they are never short of time
        listed += [
            candidate
            for index, source in enumerate(self.sources)
            for candidate in self.modality.candidates(source.spec, self.target.info, index, hints)
        ]
        known = {(c.source, c.name) for c in listed}
        starts = [candidate for index in self.foreign for candidate in untrained(self.target, index)]
        listed += [c for c in starts if (c.source, c.name) not in known]
        self.taps = self.union_of_taps(listed)
        folds = self.folds()
        self.restore()
        self.score_all(listed, folds)
        listed += self.race_maps(folds)
        if not self.scored:
            reasons = "; ".join(f"{name}: {row['why']}" for name, row in self.rows.items())
            raise SourceError(f"No candidate program could be fitted ({reasons}).")
        listed += self.ensembles(listed)
        listed += self.race(folds)
        self.tell_of_time()
        return self.finish(listed)

    def tell_of_time(self) -> None:
        """A choice that the clock cut short may come out otherwise on a slower or busier machine."""
        if self.cut:
            self.notes.append(
                f"auto.minutes={self.settings.minutes:g} ended before {len(self.cut)} of {len(self.rows)} candidates were "
                "fully scored; a faster machine or more minutes may choose another program."
            )

    def folds(self) -> Folds:
        labels = self.target.train.labels
        settings, names = self.settings, self.target.info.classes
        found = make_folds(labels, names, settings.folds, settings.repeats, self.context.seed)
        if found.note:
            self.notes.append(found.note)
        if not found.validation:
            raise SourceError("The labels cannot be cross-validated: no class has two examples.")
        self.validation = found.validation
        return found

    def union_of_taps(self, listed: list[Candidate]) -> list[tuple[Tap, ...]]:
        """Every pass of a source reads what any candidate wants of it, so that all share it."""
        wanted: list[dict[Tap, None]] = [{} for _ in self.sources]
        for candidate in listed:
            output = make_output(candidate.output)
            output.build(self.sources[candidate.source].spec, self.target.info)
            wanted[candidate.source].update(dict.fromkeys(output.taps()))
        return [tuple(taps) for taps in wanted]

    def outputs(self, candidate: Candidate) -> list[SourceOutput]:
        """Cached source outputs of all training examples, one a view. Raises BudgetSpent before anything is paid for a
        candidate that the budget cannot pay for as a whole."""
        source, info = self.sources[candidate.source], self.target.info
        new = self.unread(candidate)
        readers = {key: make_input(atom) for key, atom in new.items()}
        for reader in readers.values():
            reader.build(source.spec, info)
        check_budget(source, self.target, candidate, list(readers.values()))
        for key, reader in readers.items():
            self.reading[key] = reading_notes(source, reader, self.target.train)
            with self.passes.measured(candidate.source, new[key]):
                self.pool[key] = source_outputs(source, self.target.train, info, reader, self.taps[candidate.source])
        return [output for key in candidate.keys() for output in self.pool[key]]  # noqa: SIM118

    def unread(self, candidate: Candidate) -> dict[str, Named]:
        """The passes of a candidate that no other has made yet."""
        return {k: atom for k, atom in zip(candidate.keys(), candidate.atoms, strict=True) if k not in self.pool}

    def score_all(self, listed: list[Candidate], folds: Folds) -> None:
        """One fold each; then all folds for those that are not far behind."""
        with progress("choosing a program", 2 * len(listed)) as bar:
            for first in (True, False):
                for candidate in listed:
                    self.score(candidate, folds.validation[:1] if first else folds.validation)
                    bar.advance(note=candidate.name)
                if first:
                    self.drop_far_behind({self.label(c) for c in listed if "preferred" in c.tags})

    def score(self, candidate: Candidate, folds: list[np.ndarray]) -> None:
        name = self.label(candidate)
        row = self.rows.setdefault(name, {"kind": candidate.kind, "status": "scored", "why": "", "seconds": 0.0})
        done = self.scored.get(name)
        if row["status"] != "scored" or (done is not None and len(done) >= len(folds)):
            return
        needed = self.expected(candidate, row, len(folds))
        if self.scored and self.left() < needed:
            self.cut.add(name)
            why = f"about {needed:.0f} s did not fit into the {max(self.left(), 0):.0f} s left"
            row |= {"why": why} | ({} if done is not None else {"status": "skipped"})
            return
        started = time.monotonic()
        try:
            outputs = self.outputs(candidate)
            observed = self.pool_passes.observed(candidate)
            read = time.monotonic()
            spec = self.sources[candidate.source].spec
            logits = out_of_fold(candidate, outputs, self.labels, folds, spec, self.target.info, observed)
        except BudgetSpent as error:
            row |= {"status": "skipped", "why": str(error)}
            return
        except FAILURES as error:
            row |= failed(error)
            return
        row["fold_seconds"] = (time.monotonic() - read) / len(folds)
        row["seconds"] += time.monotonic() - started
        row["passes"] = len(outputs)
        self.scored[name] = logits
        self.save()

    def expected(self, candidate: Candidate, row: dict[str, Any], folds: Annotated[int, Range(2, 1000)]) -> float:
        """Seconds that scoring will take, by the passes and the fold measured so far (0 where nothing is known)."""
        new = self.unread(candidate)
        return self.passes.expected(candidate.source, list(new.values())) + row.get("fold_seconds", 0.0) * folds

    def drop_far_behind(self, kept: set[str]) -> None:
        errors = {name: self.errors(logits) for name, logits in self.scored.items()}
        if not errors:
            return
        best = min(errors.values(), key=lambda e: float(np.nanmean(e)))
        for name, error in errors.items():
            behind = error - best
            spread = np.nanstd(behind) / max(1.0, np.sqrt(np.isfinite(behind).sum()))
            if name not in kept and np.nanmean(behind) > FAR * spread + 1e-9:
                self.rows[name] |= {"status": "dropped", "why": "far behind after one fold"}

    def errors(self, logits: Tensor) -> np.ndarray:
        """[N] squared error; NaN for examples that no fold held out."""
        predicted = probabilities(logits, self.labels, self.target.info)
        error = squared_error(predicted, self.labels, self.target.info)
        seen = ~torch.isnan(logits[..., 0]).all(0)
        return torch.where(seen, error, torch.tensor(float("nan"))).numpy()

    def label(self, candidate: Candidate) -> str:
        return candidate.name if len(self.sources) == 1 else f"{self.sources[candidate.source].name}: {candidate.name}"

    def finalists(self) -> list[str]:
        full = max(len(logits) for name, logits in self.scored.items() if self.rows[name]["status"] == "scored")
        return [n for n, x in self.scored.items() if self.rows[n]["status"] == "scored" and len(x) == full]

    def ensembles(self, listed: list[Candidate]) -> list[Candidate]:
        """The mean of the best few programs of one source, as one more candidate; it costs no pass and no fit."""
        ranked = sorted(self.finalists(), key=lambda name: float(np.nanmean(self.errors(self.scored[name]))))
        by_name = {self.label(c): c for c in listed}
        single = [by_name[name] for name in ranked]
        single = [c for c in single if c.output[0] != "ensemble" and not {"pool", "trained"} & set(c.tags)]
        if not single:
            return []
        best = [candidate for candidate in single if candidate.source == single[0].source]
        members = best[: self.settings.ensemble]
        joined = join(members) if len(members) > 1 else None
        if joined is None:
            return []
        try:
            passes = len(self.outputs(joined))
        except FAILURES:
            return []
        names = [self.label(c) for c in members]
        self.scored[self.label(joined)] = averaged([self.scored[n] for n in names], self.labels, self.target.info)
        self.rows[self.label(joined)] = {
            "kind": "program",
            "status": "scored",
            "why": "mean of " + ", ".join(names),
            "passes": passes,
        }
        return [joined]

    def race_maps(self, folds: Folds) -> list[Candidate]:
        """Learned maps of tokens enter where a source has none for the strings."""
        entered = []
        for index in self.foreign:
            found = Maps(self.sources[index], index, self.target, folds, self.context.seed, self.left).run(self.label)
            self.rows, self.scored, self.cut = self.rows | found.rows, self.scored | found.scored, self.cut | found.cut
            entered += found.candidates
        return entered

    def race(self, folds: Folds) -> list[Candidate]:
        """A trained prompt enters only where a few steps of it lower the held-out error."""
        source = self.sources[0]
        if not self.settings.prompts or not source.differentiable:
            return []
        entered = []
        for prompt in self.modality.prompts:
            name = f"trained {prompt[0]}"
            cost = self.prompt_seconds(prompt)
            if self.left() < 1.5 * cost:
                self.cut.add(name)
                why = f"a trial of about {cost:.0f} s did not fit into the time left"
                self.rows[name] = {"kind": "program", "status": "skipped", "why": why}
                continue
            try:
                found = forecast(prompt, source, self.target, folds.validation[0], self.context.seed, self.folder)
            except FAILURES as error:  # such as a source that does not read the size of the trial
                self.rows[name] = {"kind": "program"} | failed(error)
                continue
            self.forecasts.append(found)
            gain = f"a trial changed the held-out squared error from {found.before:.3f} to {found.after:.3f}"
            self.rows[name] = {"kind": "program", "status": "skipped", "why": f"{gain}: no gain predicted"}
            whole = 2 * found.seconds * len(folds.validation)  # twice the epochs, in every fold
            if found.helps and self.left() > whole:
                entered.append(self.train_prompt(prompt, folds, gain))
            elif found.helps:
                self.cut.add(name)
                self.rows[name]["why"] = f"{gain}, but {whole:.0f} s of training did not fit into the time left"
        return entered

    def prompt_seconds(self, prompt: Named) -> float:
        """Five epochs forward and back cost about fifteen passes at the prompt's size, and three more judge it."""
        if self.forecasts:
            return self.forecasts[-1].seconds
        return 18 * self.passes.expected(0, [prompt]) + 2

    def train_prompt(self, prompt: Any, folds: Folds, gain: str) -> Candidate:
        candidate = prompted(prompt)
        logits = torch.full((len(folds.validation), len(self.labels), len(self.target.info.classes)), float("nan"))
        for index, mask in enumerate(folds.validation):
            model = train_candidate(candidate, self.sources[0], self.target, np.flatnonzero(~mask), self.context)
            held = np.flatnonzero(mask)
            logits[index, torch.from_numpy(held)] = model.logits(self.target.train.subset(held))
        self.scored[candidate.name] = logits
        self.rows[candidate.name] = {"kind": "program", "status": "scored", "why": gain, "passes": 1}
        return candidate

    def finish(self, listed: list[Candidate]) -> Choice:
        by_name = {self.label(c): c for c in listed}
        names = self.finalists()
        for name in self.scored.keys() - set(names):
            if self.rows[name]["status"] == "scored":
                self.rows[name]["status"] = "skipped"
        errors = np.stack([self.errors(self.scored[n]) for n in names])
        seen = np.isfinite(errors).all(0)
        errors = errors[:, seen]
        predicted = np.stack([probabilities(self.scored[n], self.labels, self.target.info).numpy() for n in names])
        labels = self.target.train.labels[seen]
        metric = main_metric(self.target.info)
        for name, error, p in zip(names, errors, predicted[:, seen], strict=True):
            self.rows[name] |= {"squared_error": float(error.mean()), metric.__name__: metric(labels, p)}
        rule = Rule(
            tuple(self.rows[name].get("passes", 0) for name in names),
            tuple("preferred" in by_name[n].tags and by_name[n].source not in self.foreign for n in names),
        )
        taken = rule(errors)
        winner = names[taken]
        if rule.preferred[taken] and errors.mean(1).argmin() != taken:
            self.rows[winner]["why"] = "does best on targets of this kind, and no other was clearly better on this one"
        self.rows[winner]["status"] = "chosen"
        fewer = own_share(self.target.train.labels, self.validation[: len(self.scored[names[0]])])
        estimate = corrected(errors, predicted[:, seen], labels, metric, rule, self.context.seed, fewer=fewer)
        self.left_out = np.where(seen[:, None], predicted[taken], np.nan)
        model = self.refit(candidate := by_name[winner])
        rows = [{"candidate": name} | row for name, row in self.rows.items()]
        self.notes += dict.fromkeys(n for key in candidate.keys() for n in self.reading.get(key, ()))  # noqa: SIM118
        seconds = time.monotonic() - self.started
        return Choice(model, candidate, estimate, rows, self.notes, self.forecasts, seconds, self.left_out)

    def refit(self, candidate: Candidate) -> ReprogrammedModel:
        """The winner on all labels."""
        source = self.sources[candidate.source]
        if "map" in candidate.tags:
            return train_map(candidate, source, self.target, np.arange(len(self.labels)), self.context.seed)
        if "trained" in candidate.tags:
            return train_candidate(candidate, source, self.target, np.arange(len(self.labels)), self.context)
        before, behind = make_input(candidate.input), self.pool_passes.observed(candidate)
        before.build(source.spec, self.target.info)
        if behind is None:
            behind = make_output(candidate.output)
            behind.build(source.spec, self.target.info)
        model = ReprogrammedModel(source, before, behind, self.target.info, build=False)
        with full_precision(model.device):
            learn(model.output, self.outputs(candidate), self.labels, self.target.info.problem, self.context.seed)
        if model.output.left_out is not None:  # exact, where folds are an estimate
            self.left_out = model.probabilities(model.output.left_out.float().cpu()).numpy()
        model.settle()
        return model.eval()

    def save(self) -> None:
        state = {"scored": self.scored, "rows": self.rows, "cut": sorted(self.cut)}
        checkpoint.save(self.folder, state | {"spent": time.monotonic() - self.started}, self.recipe)

    def restore(self) -> None:
        """What an interrupted search scored already counts, with the time that it took."""
        state = checkpoint.load(self.folder, self.recipe) if self.context.resume else None
        if state is not None:
            with checkpoint.understood(self.folder):
                self.scored, self.rows, self.cut = state["scored"], state["rows"], set(state["cut"])
                self.started -= float(state["spent"])
