"""The stock of building blocks: what may be bought, and which reactions each block can take part in.

``blocks.tsv.gz`` ships with the package: small molecules of the Mcule catalogue as the package ``synspace`` (MIT licence)
distributes them, and common reagents; ``benchmarks/block_table.py`` writes it. A user's own stock is any table with a column of
SMILES, and a name and a price where there are any.
"""

from __future__ import annotations

import gzip
import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from molecules import chemistry
from molecules.counting import counted
from molecules.routes.prints import Prints
from molecules.routes.reactions import Reaction, reactions
from molecules.starts import REASONS, read_row
from reprogram.errors import ConfigError, DataError, nearest
from reprogram.progress import progress
from reprogram.ranges import Checked, NotEmpty
from reprogram.targets.tables import TableOptions, TableRow, rows

FILE = Path(__file__).with_name("blocks.tsv.gz")
SMILES_NAMES = ("smiles", "canonical_smiles", "structure", "molecule", "mol")
NAME_NAMES = ("name", "id", "catalog", "catalogue", "catalog_id", "compound", "vendor_id")
PRICE_NAMES = ("price", "cost", "price_usd", "price_eur")
NAMED = 5  # rows that are named before "and N more"
LARGEST = 100  # heavy atoms of a block
ALIKE = 40  # most similar blocks that are remembered of each


class Block(NamedTuple):
    """A building block. smiles: canonical. price: NaN where it is not known."""

    smiles: str
    name: str = ""
    price: float = math.nan


@dataclass
class Stock:
    """Building blocks by canonical SMILES, and by the reactant slot (a SMARTS) that they fit, in a fixed order.

    notes: which rows of the file are not used, and why.
    """

    blocks: dict[str, Block]
    by_slot: dict[str, list[str]]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.priced = any(not math.isnan(block.price) for block in self.blocks.values())

    def __len__(self) -> int:
        return len(self.blocks)

    def fitting(self, reaction: Reaction, slot: int) -> list[str]:
        """Blocks that can be the reactant number ``slot``."""
        return self.by_slot.get(reaction.slots[slot], [])

    def price(self, smiles: Iterable[str]) -> float:
        """Sum of the prices; NaN where one is not known."""
        return sum(self.blocks[text].price if text in self.blocks else math.nan for text in smiles)

    def alike(self, smiles: str, slot: str) -> list[str]:
        """The blocks of a slot that are most similar to a molecule (counted fragments of two bonds), the nearest first."""
        return self._alike(smiles, slot)

    @lru_cache(maxsize=20_000)  # noqa: B019  # a stock lives as long as its process
    def _alike(self, smiles: str, slot: str) -> list[str]:
        names = self.by_slot.get(slot, [])
        if not names:
            return []
        scores = self._prints.similarity(smiles, self._rows(slot))
        best = np.argpartition(-scores, min(ALIKE, len(names) - 1))[: ALIKE + 1]
        order = sorted(best.tolist(), key=lambda i: (-scores[i], i))
        return [names[i] for i in order if names[i] != smiles][:ALIKE]

    @cached_property
    def _prints(self) -> Prints:
        return Prints(list(self.blocks))

    @lru_cache(maxsize=200)  # noqa: B019  # the same
    def _rows(self, slot: str) -> np.ndarray:
        return np.array([self._prints.row[name] for name in self.by_slot[slot]], dtype=np.int64)

    def __hash__(self) -> int:
        return id(self)


@dataclass
class Blocks(Checked):
    """Where building blocks come from: the stock of this package, or a table of the user's.

    path: any table file with a column of SMILES. smiles_column, name_column, price_column: found by their names where they
    are not given.
    """

    group: ClassVar[str] = "blocks."

    path: NotEmpty | None = None
    smiles_column: NotEmpty | None = None
    name_column: NotEmpty | None = None
    price_column: NotEmpty | None = None

    def read(self) -> Stock:
        """The stock, read once in a process. Raises DataError where it holds no block that any reaction can use."""
        if self.path is None:
            return shipped()
        path = Path(self.path).expanduser()
        changed = path.stat().st_mtime_ns if path.is_file() else 0
        return _own(str(path), changed, self.smiles_column, self.name_column, self.price_column)


def slots() -> list[str]:
    """The different reactant slots of all reactions, as SMARTS, in a fixed order."""
    return sorted({slot for reaction in reactions().values() for slot in reaction.slots})


def slots_digest() -> str:
    """Changes with the slots: a table of blocks that was made for others is not used."""
    return hashlib.sha256("\n".join(slots()).encode()).hexdigest()[:16]


def fitted_slots(smiles: str) -> list[int]:
    """Numbers of the slots that a molecule fits."""
    mol = chemistry.parse(smiles)
    return [] if mol is None else [i for i, s in enumerate(slots()) if mol.HasSubstructMatch(chemistry.smarts(s))]


def write_shipped(found: dict[str, list[int]], path: Path = FILE) -> None:
    """The file of :func:`shipped`: SMILES, and the numbers of the slots as two digits to the base 36 each."""
    lines = [f"# {slots_digest()}", *(f"{s}\t{''.join(_two(i) for i in fits)}" for s, fits in sorted(found.items()))]
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(("\n".join(lines) + "\n").encode())


def _two(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    return digits[number // 36] + digits[number % 36]


@lru_cache(maxsize=1)
def shipped() -> Stock:
    """The stock of this package."""
    head, *lines = gzip.decompress(FILE.read_bytes()).decode().splitlines()
    if head != f"# {slots_digest()}":
        raise DataError(f"{FILE} was made for other reactions; python benchmarks/block_table.py makes it again.")
    names = slots()
    by_slot: dict[str, list[str]] = defaultdict(list)
    blocks: dict[str, Block] = {}
    for line in lines:
        smiles, _, fits = line.partition("\t")
        blocks[smiles] = Block(smiles)
        for at in range(0, len(fits), 2):
            by_slot[names[int(fits[at : at + 2], 36)]].append(smiles)
    return Stock(blocks, dict(by_slot))


@lru_cache(maxsize=4)
def _own(path: str, changed: int, smiles: str | None, name: str | None, price: str | None) -> Stock:
    """A user's stock, row by row. changed: when the file was, so that a new one is read."""
    table = rows(path, TableOptions(), key="blocks.path")
    columns = _columns(table.header, path, smiles, name, price)
    blocks: dict[str, Block] = {}
    left_out: dict[str, list[int]] = defaultdict(list)
    by_slot: dict[str, list[str]] = defaultdict(list)
    names = slots()
    with progress("reading blocks") as bar:
        for row in table:
            block, reason = _block(row, columns)
            fits = fitted_slots(block.smiles) if block else []
            if block is None or not fits or block.smiles in blocks:
                reason = reason or ("takes part in no reaction" if not fits else "repeats an earlier row")
                left_out[reason].append(row.number)
                continue
            if reason:
                left_out[reason].append(row.number)
            blocks[block.smiles] = block
            for i in fits:
                by_slot[names[i]].append(block.smiles)
            bar.advance()
    notes = [f"blocks.path={path}: {_rows(numbers)}: {reason}." for reason, numbers in left_out.items()]
    if not blocks:
        raise DataError(f"blocks.path={path} has no block that can be used. " + " ".join(notes[:3]))
    return Stock(blocks, dict(by_slot), notes)


def _rows(numbers: list[int]) -> str:
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return f"{counted(len(numbers), 'row')} ({', '.join(map(str, numbers[:NAMED]))}{more})"


def _block(row: TableRow, columns: tuple[str, str | None, str | None]) -> tuple[Block | None, str]:
    """The block of a row, and what is wrong with the row."""
    if row.problem:
        return None, row.problem
    smiles, dropped, _ = read_row(f"row {row.number}", row.cells[columns[0]].strip())
    if smiles is None:
        return None, f"not used, {REASONS.get(dropped, dropped)}"
    mol = chemistry.parse(smiles)
    if mol is None or mol.GetNumHeavyAtoms() > LARGEST:
        return None, f"not used, more than {LARGEST} heavy atoms"
    name = row.cells[columns[1]].strip() if columns[1] else ""
    price, problem = math.nan, ""
    cell = row.cells[columns[2]].strip() if columns[2] else ""
    if cell:
        try:
            price = float(cell)
        except ValueError:
            problem = "used without a price, which is no number"
        if price < 0 or math.isinf(price):
            price, problem = math.nan, "used without a price, which must be 0 or more"
    return Block(smiles, name, price), problem


def _columns(
    header: list[str], path: str, smiles: str | None, name: str | None, price: str | None
) -> tuple[str, str | None, str | None]:
    """The columns of SMILES, names and prices."""
    given = {"smiles_column": smiles, "name_column": name, "price_column": price}
    for key, column in given.items():
        if column is not None and column not in header:
            raise DataError(f"blocks.{key}={column}: {path} has no such column; {nearest(column, header)}.")
    found = smiles or _first(header, SMILES_NAMES)
    if found is None:
        raise ConfigError(f"blocks.path={path} has no column named 'smiles'; give blocks.smiles_column, {nearest('', header)}.")
    return found, name or _first(header, NAME_NAMES), price or _first(header, PRICE_NAMES)


def _first(header: list[str], names: Iterable[str]) -> str | None:
    known = {column.strip().lower(): column for column in reversed(header)}
    return next(_matching(names, known), None)


def _matching(names: Iterable[str], known: dict[str, str]) -> Iterator[str]:
    return (known[name] for name in names if name in known)
