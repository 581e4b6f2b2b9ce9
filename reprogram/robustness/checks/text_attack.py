"""Robust accuracy of a program that reads strings, under one attack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from reprogram.errors import ConfigError
from reprogram.progress import progress
from reprogram.robustness.checks.base import FEW, Check, Examples, Scope, class_of
from reprogram.robustness.findings import Outcome, share_row
from reprogram.robustness.losses import wrong
from reprogram.robustness.text_attacks.base import EvaluatedStrings, TextAttack, ask_texts


@dataclass
class TextAttackCheck(Check):
    """attack: an attack with its options (``_partial_: true``); what it needs of the program it takes by itself."""

    examples: Examples = FEW
    attack: Callable[..., TextAttack] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        class_of(self.attack, TextAttack, "reprogram.robustness.text_attacks.characters.Characters")  # type: ignore[type-abstract]
        self._options: dict[str, Any] = dict(getattr(self.attack, "keywords", {}))
        if self._options.get("most", 1) < 1:
            raise ConfigError(f"most={self._options['most']} of a text attack must be at least 1.")

    @property
    def method(self) -> type[TextAttack]:
        """The class of the attack."""
        return cast(type[TextAttack], getattr(self.attack, "func", self.attack))

    def suits(self, changes: str) -> bool:
        return self.method.changes == changes

    def run(self, model: EvaluatedStrings, scope: Scope) -> Outcome:
        """What the attack leaves of the accuracy, and what it asked and changed; nothing where it does not apply."""
        attack = self.method.on(model, **self._options)
        if attack is None:
            return Outcome()
        texts, labels = model.texts[: scope.count], model.labels[: scope.count]
        with progress(f"robustness: {scope.name}", len(texts)) as bar:
            found = attack(model.program, texts, labels, bar.advance)
        row = share_row(scope.name, "attack", attack.constraint, ~found.broken, queries=float(found.queries.mean()))
        row.more["words_changed"] = float(found.changed[found.broken].mean()) if bool(found.broken.any()) else None
        row.more |= {"access": attack.access, "family": attack.changes, "size": attack.most}
        return Outcome([row])


@dataclass
class CleanStrings(Check):
    """Accuracy of the strings as they are."""

    kind: ClassVar[str] = "estimate"

    def run(self, model: EvaluatedStrings, scope: Scope) -> Outcome:
        right = ~wrong(ask_texts(model.program, model.texts), model.labels).cpu()
        return Outcome([share_row(scope.name, "estimate", "none", right)])
