"""A Python function as an oracle: from code, or by its importable name."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from molecules.oracles.base import MAXIMISE, Answer, Oracle
from reprogram.errors import SourceError
from reprogram.user_function import user_function

PAUSE = 0.5  # seconds before the first retry


@dataclass
class Function(Oracle):
    """``function(smiles) -> float`` of one canonical SMILES; an exception costs that molecule alone.

    A ``ConnectionError`` is none of the molecule's: after two retries it ends the run, nothing is charged, and a resumed run
    asks again.
    """

    function: Callable[[str], float] | str
    direction: str = MAXIMISE
    name: str = ""

    def __post_init__(self) -> None:
        self._call = user_function(self.function, "oracle.function") if isinstance(self.function, str) else self.function
        self.name = self.name or getattr(self._call, "__name__", "function")

    @property
    def isolated(self) -> bool:
        return True

    def answers(self, smiles: Sequence[str]) -> list[Answer]:
        return [self._answer(text) for text in smiles]

    def _value(self, text: str) -> float:
        for pause in (PAUSE, 2 * PAUSE):
            try:
                return float(self._call(text))
            except ConnectionError:
                time.sleep(pause)
        return float(self._call(text))

    def _answer(self, text: str) -> Answer:
        try:
            value = self._value(text)
        except ConnectionError as error:
            raise SourceError(
                f"The oracle {self.name} cannot reach its service ({error}). Nothing was charged for it; resume=true asks again."
            ) from error
        except (Exception, SystemExit) as error:  # sys.exit() in it would end the run without a word
            return Answer(math.nan, f"{type(error).__name__}: {error}".splitlines()[0])
        return Answer(value) if math.isfinite(value) else Answer(math.nan, f"{self.name} answered {value}")
