"""Any Python function ``images -> answers`` as a black-box (query-only) source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from reprogram.errors import SourceError
from reprogram.sources._asked import AskedSource
from reprogram.sources._labels import read_labels
from reprogram.user_function import user_function

Function = Callable[[np.ndarray], Any]


class CallableSource(AskedSource):
    """function: float32 [B, 3, h, w] in [0, 1] -> [B, S] as ``answers`` says, or the text ``package.module:name``.

    labels: the S class names: a list, a file with one a line, or ``imagenet``. Give ``version`` a new value whenever
    the function changes: cached answers belong to a version. The other options are :class:`AskedSource`'s.
    """

    options_of: ClassVar[type] = AskedSource

    def __init__(
        self, function: Function | str, labels: Sequence[str] | str, version: str = "1", name: str = "", **asked: Any
    ) -> None:
        found = user_function(function, "source.function") if isinstance(function, str) else function
        super().__init__(name or getattr(found, "__name__", "callable"), read_labels(labels), str(version), **asked)
        self._function = found

    def ask(self, images: np.ndarray) -> np.ndarray:
        answers = self._function(images)
        if not isinstance(answers, np.ndarray | list | tuple):
            raise SourceError(
                f"{self.name} answers a {type(answers).__name__}; an array [{len(images)}, S] is expected."
            )
        return self.checked(answers, len(images))
