"""Candidates with their features, read once: parts of 5,000 rows are kept in the campaign's folder, so a run that was stopped
goes on where it was and the next round begins at once."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from molecules.campaign.features import VERSION, MoleculeFeatures
from molecules.campaign.tables import CandidateTable
from reprogram.errors import DataError
from reprogram.files import read_bytes
from reprogram.locks import own_file
from reprogram.progress import progress
from reprogram.result import write_atomically
from reprogram.targets.tables import TableRow

PART = 5000  # rows of the file
LARGEST_PART = 256 << 20  # bytes


@dataclass
class Candidates:
    """Molecules that can be made or bought. smiles [N]: canonical. rows [N]: of the file. unreadable: row -> reason."""

    smiles: list[str]
    rows: list[int]
    features: MoleculeFeatures
    unreadable: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.smiles)


def read_candidates(table: CandidateTable, folder: Path) -> Candidates:
    """All candidates. folder: where finished parts are kept; those of another file are replaced."""
    home = folder / f"candidates_{_digest(table)}"
    for other in folder.glob("candidates_*"):
        if other != home and re.fullmatch(r"candidates_[0-9a-f]{16}", other.name) and not other.is_symlink():
            shutil.rmtree(other)
    parts: list[Candidates] = []
    stream = iter(table.rows)
    with progress("reading candidates") as bar:
        for number in range(10**9):
            chunk = list(islice(stream, PART))
            if not chunk:
                break
            part = _kept(home, number)
            if part is None:
                part = _featurised(table, chunk, bar.advance)
                _keep(home, number, part)
            else:
                bar.advance(len(part))
            parts.append(part)
    if not any(len(part) for part in parts):
        why = next((reason for part in parts for reason in part.unreadable.values()), "it has no rows")
        raise DataError(f"candidates={table.path} has no molecule that can be read: rows {why}.")
    whole = Candidates([], [], MoleculeFeatures.joined([part.features for part in parts]))
    for part in parts:
        whole.smiles += part.smiles
        whole.rows += part.rows
        whole.unreadable |= part.unreadable
    return whole


def _digest(table: CandidateTable) -> str:
    """Changes with the file, and with what is read of it."""
    found, options = table.path.stat(), table.options
    told = [str(table.path.resolve()), found.st_size, found.st_mtime_ns, table.column, VERSION, PART]
    told += [options.delimiter, options.encoding, options.sheet]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _featurised(table: CandidateTable, chunk: Sequence[TableRow], advance: Callable[[int], None]) -> Candidates:
    smiles, rows, unreadable = list[str](), list[int](), dict[int, str]()
    for row in chunk:
        text, problem = table.read(row)
        if problem:
            unreadable[row.number] = problem
        else:
            smiles.append(text)
            rows.append(row.number)
    features = []
    for i in range(0, max(len(smiles), 1), 500):
        features.append(MoleculeFeatures.of(smiles[i : i + 500]))
        advance(len(smiles[i : i + 500]))
    return Candidates(smiles, rows, MoleculeFeatures.joined(features), unreadable)


def _keep(home: Path, number: int, part: Candidates) -> None:
    data = part.features.to_bytes()
    told = {"smiles": part.smiles, "rows": part.rows, "unreadable": list(part.unreadable.items())}
    told |= {"sha256": hashlib.sha256(data).hexdigest()}
    write_atomically(home / f"{number:05}.npz", data)
    write_atomically(home / f"{number:05}.json", json.dumps(told))


def _kept(home: Path, number: int) -> Candidates | None:
    """A part that was finished before; None where it was not, or is damaged."""
    names, rows = home / f"{number:05}.json", home / f"{number:05}.npz"
    if not own_file(names) or not own_file(rows):
        return None
    try:
        told = json.loads(read_bytes(names, LARGEST_PART, DataError))
        data = read_bytes(rows, LARGEST_PART, DataError)
        if hashlib.sha256(data).hexdigest() != told["sha256"]:
            return None
        features = MoleculeFeatures.from_bytes(data)
        part = Candidates(
            [str(s) for s in told["smiles"]],
            [int(n) for n in told["rows"]],
            features,
            {int(n): str(why) for n, why in told["unreadable"]},
        )
    except (DataError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return part if len(part.smiles) == len(part.rows) == len(features) else None


def cells_of(table: CandidateTable, wanted: list[int]) -> dict[int, dict[str, str]]:
    """The user's own columns of a few rows."""
    numbers: set[int] = set(wanted)
    return {row.number: {name: row.cells[name] for name in table.own} for row in _until(table, numbers)}


def _until(table: CandidateTable, numbers: set[int]) -> Iterator[TableRow]:
    left = len(numbers)
    for row in table.rows:
        if row.number in numbers:
            yield row
            left -= 1
        if not left:
            return
