"""The robustness hook of a run: ``robustness=none|quick|full``; an interrupted full run goes on with ``resume=true``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from reprogram.errors import ConfigError, nearest
from reprogram.frozen import still
from reprogram.hooks import Hook, Run
from reprogram.modalities import modality
from reprogram.ranges import Count, Positive
from reprogram.robustness.checks._relearning import RelearningCheck
from reprogram.robustness.checks.attack import AttackCheck
from reprogram.robustness.checks.base import Check, Scope
from reprogram.robustness.checks.inheritance import BareSource
from reprogram.robustness.checks.strengthening import StrengtheningCheck, strengthened, trained_plainly
from reprogram.robustness.checks.text_attack import CleanStrings
from reprogram.robustness.evaluated_model import gather
from reprogram.robustness.evaluation import evaluate, run
from reprogram.robustness.plan import DEPTHS, Settings
from reprogram.robustness.relearn import Relearner
from reprogram.robustness.result_cache import ResultCache
from reprogram.robustness.text_attacks.base import EvaluatedStrings
from reprogram.threat import Threat

if TYPE_CHECKING:
    from reprogram.interfaces import SourceModel, TargetTask
    from reprogram.model import ReprogrammedModel


LEARNED = 5  # training examples for each test example that universal perturbations and the linear probe learn from


class RobustnessHook(Hook):
    """What ``conf/robustness/DEPTH.yaml`` says; see :class:`~reprogram.robustness.plan.Settings`.

    threats: eps by norm; null leaves a norm out. checks: by name; null leaves a check out. also: names of ``conf/check``
    that run beside those of the depth, with the options of their files.
    """

    def __init__(
        self,
        depth: str,
        examples: Count,
        few: Count,
        threats: dict[str, Positive | None],
        batch_size: Count = 64,
        checks: dict[str, Check | None] | None = None,
        also: Sequence[str] = (),
    ) -> None:
        if depth not in DEPTHS:
            raise ConfigError(f"robustness.depth={depth} is unknown; {nearest(depth, DEPTHS)}.")
        if (depth == "full") != ("linear_bounds" in (checks or {})):
            other = "quick" if depth == "full" else "full"
            raise ConfigError(f"robustness.depth={depth} conflicts with the settings of {other}; write robustness={depth}.")
        for name, check in (checks or {}).items():
            if not (check is None or isinstance(check, Check)):
                raise ConfigError(f"robustness.checks.{name}={check} is not a check; null leaves it out.")
        known = {norm: eps for norm, eps in threats.items() if eps is not None}
        every = dict(checks or {}) | {name: _check(name) for name in also}
        last = {name: every.pop(name) for name in ("worst_case",) if name in every}  # compares those before it
        self.depth, self.settings = depth, Settings(examples, few, known, batch_size, every | last)

    def on_source(self, run: Run, source: SourceModel, target: TargetTask | None) -> None:
        """A size that no image of this target can be moved by is refused before anything is trained."""
        if target is not None and modality(target.info.kind).pixels and target.info.input_shape:
            for norm, eps in self.settings.threats.items():
                Threat(norm, eps).fits(target.info.input_shape)

    def on_fit_end(self, run: Run, model: ReprogrammedModel, target: TargetTask) -> None:
        for of_target in target.checks():
            of_target.on_fit_end(run, model, target)
        relearner = Relearner(model, target)
        for check in (c for c in self.settings.checks.values() if isinstance(c, RelearningCheck)):
            check.relearner = relearner  # type: ignore[misc]  # of this one
        kind = modality(target.info.kind)
        if target.info.problem != "classification" or kind.changes is None:
            notes = run.result.data.setdefault("robustness", {}).setdefault("notes", [])
            notes.append(f"no attack on pixels or words: the target is {target.info.kind} {target.info.problem}")
        elif kind.pixels:
            self._images(run, model, target)
        else:
            self._strings(run, model, target, kind.changes)

    def _strings(self, context: Run, model: ReprogrammedModel, target: TargetTask, changes: str) -> None:
        """The attacks that fit what the strings are and what the source reveals."""
        picked = np.sort(np.random.default_rng(context.seed).permutation(len(target.test))[: self.settings.few])
        examples = target.test.subset(picked)
        labels = torch.as_tensor(np.asarray(examples.labels)).to(model.device)
        train = target.train.batch(range(len(target.train)))
        found = EvaluatedStrings(model, examples.batch(range(len(examples))), labels, train, context.seed)
        plan = [(CleanStrings(), Scope("clean", len(labels), self.settings.threats))]
        with still(model):
            cache = ResultCache(context.dir / "robustness.jsonl", self._key(found), context.resume)
            run([*plan, *self.settings.plan(found, changes)], found, context.result, cache)

    def _key(self, found: EvaluatedStrings) -> str:
        """Hash of what the rows depend on: the program, the strings with their labels, the settings, the seed."""
        about = f"{self.settings.to_json()} {found.seed} {found.texts} {found.labels.tolist()}"
        digest, model = hashlib.sha256(about.encode()), found.program
        for tensor in (*model.input.state_dict().values(), *model.output.state_dict().values()):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def _images(self, run: Run, model: ReprogrammedModel, target: TargetTask) -> None:
        learned = {"train"} & {source for check in self.settings.checks.values() for source in _takes(check)}
        evaluate(
            model,
            target.test,
            self.depth,
            seed=run.seed,
            settings=self.settings,
            train=gather(target.train, LEARNED * self.settings.examples, model.device, run.seed) if learned else None,
            source=BareSource(model.source) if model.source.differentiable and model.source.labels else None,
            result=run.result,
            journal=run.dir / "robustness.jsonl",
            resume=run.resume,
            more=self._strengthening(run, model, target) if strengthened(run) else (),
        )

    def _strengthening(self, run: Run, model: ReprogrammedModel, target: TargetTask) -> list[tuple[str, Check]]:
        """A program that was strengthened is shown beside the same one trained plainly."""
        pgd = self.settings.checks.get("pgd")
        steps = pgd.steps if isinstance(pgd, AttackCheck) else 20
        return [("strengthening", StrengtheningCheck(steps=steps, plain=partial(trained_plainly, run, model, target)))]


def _takes(check: Check | None) -> set[str]:
    return set() if check is None else set(check.takes)


def _check(name: str) -> Check:
    """A check by its file in ``conf/check``."""
    from hydra.utils import instantiate

    from reprogram.configuration import option

    made: Any = instantiate(option("check", name))
    assert isinstance(made, Check)
    return made
