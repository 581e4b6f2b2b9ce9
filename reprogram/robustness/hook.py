"""The robustness hook of a run: ``robustness=none|quick|full``, an interrupted full run goes on with ``resume=true``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from reprogram.errors import ConfigError, nearest
from reprogram.hooks import Hook, Run
from reprogram.modalities import modality
from reprogram.robustness import text
from reprogram.robustness.before_after import before_after, strengthened, trained_plainly
from reprogram.robustness.checks import Check, Settings
from reprogram.robustness.depths import refuse_other_depth
from reprogram.robustness.evaluation import DEPTHS, evaluate
from reprogram.robustness.inheritance import BareSource
from reprogram.robustness.kept import Kept
from reprogram.robustness.residues import Residues, are_nucleotides
from reprogram.robustness.rows import Row
from reprogram.robustness.subject import Outcome, gather, still
from reprogram.robustness.text import TextAttack
from reprogram.robustness.token_swaps import TokenSwaps
from reprogram.threat import Threat

if TYPE_CHECKING:
    from reprogram.interfaces import SourceModel, TargetTask
    from reprogram.model import ReprogrammedModel


LEARNED = 5  # training examples for each test example that universal perturbations and the linear probe learn from


class RobustnessHook(Hook):
    """depth: what to run; every other key replaces one of the depth's :class:`Settings`."""

    options_of: ClassVar[type] = Settings

    def __init__(self, depth: str = "quick", **changes: Any) -> None:
        if depth not in DEPTHS:
            raise ConfigError(f"robustness.depth={depth} is unknown; {nearest(depth, DEPTHS)}.")
        known = Settings.__dataclass_fields__
        for key in changes:
            if key not in known:
                raise ConfigError(f"There is no option robustness.{key}; {nearest(key, known)}.")
        plain: dict[str, Any] = {k: _plain(v) for k, v in changes.items()}
        refuse_other_depth("robustness", depth, plain, DEPTHS)
        self.depth, self.settings = depth, replace(DEPTHS[depth], **plain)

    def on_source(self, run: Run, source: SourceModel, target: TargetTask | None) -> None:
        """A size that no image of this target can be moved by is refused before anything is trained."""
        if target is not None and modality(target.info.kind).pixels and target.info.input_shape:
            for norm, eps in self.settings.threats.items():
                Threat(norm, eps).fits(target.info.input_shape)

    def on_fit_end(self, run: Run, model: ReprogrammedModel, target: TargetTask) -> None:
        for check in target.checks():
            check.on_fit_end(run, model, target)
        kind = modality(target.info.kind)
        if target.info.problem != "classification" or kind.changes is None:
            notes = run.result.data.setdefault("robustness", {}).setdefault("notes", [])
            notes.append(f"no attack on pixels or words: the target is {target.info.kind} {target.info.problem}")
        elif kind.pixels:
            self._images(run, model, target)
        else:
            self._strings(run, model, target)

    def _strings(self, run: Run, model: ReprogrammedModel, target: TargetTask) -> None:
        """The attacks that fit what the strings are and what the source tells."""
        picked = np.sort(np.random.default_rng(run.seed).permutation(len(target.test))[: self.settings.few])
        examples = target.test.subset(picked)
        labels = torch.as_tensor(np.asarray(examples.labels)).to(model.device)
        texts = examples.batch(range(len(examples)))
        with still(model):
            plan: dict[str, Callable[..., Row]] = {"clean": text.clean}
            plan |= {a.name: partial(text.attacked, a) for a in string_attacks(model, target, run.seed)}
            kept = Kept(run.dir / "robustness.jsonl", self._key(model, texts, labels, run.seed), run.resume)
            for name, check in plan.items():
                outcome = kept.once(name, partial(_outcome, check, model, texts, labels))
                for row in outcome.rows:
                    row.add_to(run.result)

    def _key(self, model: ReprogrammedModel, texts: list[str], labels: Tensor, seed: int) -> str:
        """Hash of what the rows depend on: the program, the strings with their labels, the settings, the seed."""
        digest = hashlib.sha256(f"{asdict(self.settings)} {seed} {texts} {labels.tolist()}".encode())
        for tensor in (*model.input.state_dict().values(), *model.output.state_dict().values()):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def _images(self, run: Run, model: ReprogrammedModel, target: TargetTask) -> None:
        evaluate(
            model,
            target.test,
            self.depth,
            seed=run.seed,
            settings=self.settings,
            train=gather(target.train, LEARNED * self.settings.examples, model.device, run.seed)
            if self.settings.universal or self.settings.inheritance
            else None,
            source=BareSource(model.source) if model.source.differentiable and model.source.labels else None,
            result=run.result,
            journal=run.dir / "robustness.jsonl",
            resume=run.resume,
            more=self._strengthening(run, model, target) if strengthened(run) else (),
        )

    def _strengthening(self, run: Run, model: ReprogrammedModel, target: TargetTask) -> Sequence[Check]:
        """A program that was strengthened is shown beside the same one trained plainly."""
        norm, eps = next(iter(self.settings.threats.items()))
        plain = partial(trained_plainly, run, model, target)
        compare = partial(
            before_after, threat=Threat(norm, eps), steps=self.settings.pgd, count=self.settings.few, plain=plain
        )
        return (Check("strengthening", compare),)


def _outcome(check: Callable[..., Row], *about: Any) -> Outcome:
    return Outcome([check(*about)])


def string_attacks(model: ReprogrammedModel, target: TargetTask, seed: int) -> list[TextAttack]:
    """Sequences: letters for their relatives. Texts: character edits; word and token swaps where the source helps."""
    train = target.train.batch(range(len(target.train)))
    if modality(target.info.kind).changes == "residues":
        return [Residues(seed=seed, nucleotides=are_nucleotides(train))]
    attacks: list[TextAttack] = [text.Characters(seed=seed)]
    source, known = model.source, text.common_words(train)
    if source.differentiable and source.spec.feature_size and len(known) > 1:
        attacks.append(text.neighbour_words(_encoder(model), known, seed))
    vocabulary = source.spec.vocabulary
    if source.differentiable and vocabulary is not None and _reads_strings(model):
        answer = partial(_answer, model)
        attacks.append(TokenSwaps(seed=seed, vocabulary=vocabulary, answer=answer, longest=source.spec.size))
    return attacks


def _reads_strings(model: ReprogrammedModel) -> bool:
    """Does the source read a text exactly as the target wrote it?"""
    return model.input(["a word"]) == [["a word"]] and not model.input.beside(["a word"])


def _answer(model: ReprogrammedModel, view: dict[str, Any]) -> Tensor:
    return model.output([model.ask(view)])


def _encoder(model: ReprogrammedModel) -> Callable[[list[str]], Tensor]:
    def encode(words: list[str]) -> Tensor:
        answer = model.source(words)
        return answer.logits if answer.features is None else answer.features

    return encode


def _plain(value: Any) -> Any:
    """Configuration's own mappings and lists as dict and tuple."""
    if isinstance(value, Mapping):
        return dict(value)
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
