"""What a modality says. Methods are named, never imported: the modality stands below them."""

from __future__ import annotations

import html
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from reprogram.interfaces import SourceSpec, TargetInfo

Config = dict[str, Any]
Named = tuple[str, Config]  # a method and its options
LARGEST_SIDE = 20_000  # pixels of a target image


@dataclass(frozen=True)
class Candidate:
    """A program that needs no training in front of the source, for ``program=auto`` to score.

    atoms: inputs of one pass or few, whose views in this order are the views of ``input``; candidates that share an atom
    share its passes. kind: ``program`` or ``baseline`` (what a user would run instead, expressed as a program). tags:
    ``preferred`` (see :class:`reprogram.selection.rule.Rule`), ``trained``, ``pool`` (learns also from inputs without
    labels).
    """

    name: str
    input: Named
    output: Named
    atoms: tuple[Named, ...]
    kind: str = "program"
    source: int = 0
    tags: tuple[str, ...] = field(default=())

    def keys(self) -> list[str]:
        """One key an atom; equal keys are the same pass."""
        return [f"{self.source}:{json.dumps(atom, sort_keys=True)}" for atom in self.atoms]


@dataclass(frozen=True)
class Tokenization:
    """A way in which strings fall into tokens.

    split: string -> its tokens; joined they are the string, or another way to write it. longer: tokens of more than one
    character that belong to the vocabulary. names: what tokens mean in English, where they mean something.
    """

    split: Callable[[str], list[str]]
    longer: Callable[[], list[str]] = list
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TableFile:
    """A kind of text file that is read as a table.

    endings: of its files. column: of the inputs. records: (path, encoding, key of the path) -> (row number, cells), the
    header first; see :mod:`reprogram.targets.tables.formats`.
    """

    endings: tuple[str, ...]
    column: str
    records: Callable[[Path, str, str], Iterator[tuple[int, list[str]]]]


class Modality(ABC):
    """One kind of inputs, as a target has them or as a source reads them (``TargetInfo.kind``, ``SourceSpec.kind``).

    batch: what a batch is, ``images`` (float [B, C, H, W] in [0, 1]), ``strings`` (list[str]) or another word of the
        modality's own; a program answers any target whose batches are what it was made for.
    pixels: a batch is pixels in [0, 1] that an attack may move, a trigger may cover and a picture may show.
    plain_input: the input transformation of a program that names none.
    normalise: how values read from a source of this kind are brought to one scale (``l2`` or ``standard``).
    prompts: trained inputs that ``program=auto`` gives a short trial.
    changes: what an attack on such an input changes, ``pixels``, ``words``, ``residues``, or None where no general attack
        keeps the meaning.
    libraries: packages that figures depend on, whose versions a report shows.
    longest: characters of a string that a strict check of inputs lets pass.
    simplifies: :meth:`simplified` makes something of an input.
    """

    batch: ClassVar[str]
    pixels: ClassVar[bool] = False
    plain_input: ClassVar[str]
    normalise: ClassVar[str] = "standard"
    prompts: ClassVar[tuple[Named, ...]] = ()
    changes: ClassVar[str | None] = None
    libraries: ClassVar[tuple[str, ...]] = ()
    longest: ClassVar[int] = 20_000
    simplifies: ClassVar[bool] = False

    @abstractmethod
    def candidates(
        self, spec: SourceSpec, target: TargetInfo, source: int = 0, hints: Mapping[str, Any] | None = None
    ) -> list[Candidate]:
        """Programs that ``program=auto`` scores, cheapest first.

        source: place of the source among several. hints: what the user said about the inputs (``photographs``). The
        list is short on purpose: with 150 candidates, taking the best cross-validated one costs about 2 points.
        """

    def shape_problem(self, shape: Sequence[Any]) -> str:
        """Empty where ``shape``, from a program of a stranger, can be ``TargetInfo.input_shape``; else what it must be."""
        whole = len(shape) == 3 and all(type(side) is int and 0 < side <= LARGEST_SIDE for side in shape)
        return "" if whole and shape[0] <= 4 else "[channels, height, width]"

    def default_layers(self, spec: SourceSpec) -> tuple[str, ...]:
        """Taps ``layer@pooling`` that closed-form outputs read of a source of this kind, first to last."""
        return tuple(f"{layer}@mean" for layer in spec.taps if layer != "head")

    def writers(self, input_column: str) -> Mapping[str, Any]:
        """Formats of ``task.out`` that only this kind of input has: suffix -> function of (path, column names, rows).

        input_column: the column of the inputs in these rows. The default has none.
        """
        return {}

    def table_files(self) -> Mapping[str, TableFile]:
        """Kinds of files that only this kind of input comes in. The default has none."""
        return {}

    def tokenizations(self) -> Mapping[str, Tokenization]:
        """Ways in which its strings fall into tokens, by the names that options use. The default has none."""
        return {}

    def variants(self, item: Any, count: int, seed: int) -> list[Any]:
        """``count`` changed copies of one input that mean the same, to vote. The default knows no harmless change."""
        return []

    def simplified(self, item: Any) -> dict[str, list[Any]]:
        """Copies of one input without its finest detail, by how it was removed: an honest input keeps its answer, an attack
        often does not."""
        return {}

    def pool_view(self, spec: SourceSpec, photographs: bool) -> tuple[Named, int]:
        """(the input that reads a pool of inputs without labels, how many of its views in a row show the same thing)."""
        return (self.plain_input, {}), 1

    def shown(self, item: Any, side: int = 224) -> str:
        """Safe HTML in which a person recognises one input, about ``side`` pixels wide: here its text.

        item: a string; for images pixels [C, H, W].
        """
        return f'<div class="text">{html.escape(str(item))}</div>'
