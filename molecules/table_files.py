"""Files of molecules as tables: ``.smi`` and ``.sdf``, read as text. Nothing is parsed as a molecule here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reprogram.errors import DataError
from reprogram.modalities.base import TableFile
from reprogram.targets.tables.formats import LONGEST_BLOCK, Records
from reprogram.targets.tables.text_files import plain_lines

NAMELESS = "-"  # the first line of a mol block without a name
PROPERTIES_FROM = 1000  # records of an SDF file that its columns are taken from


def smi(path: Path, encoding: str, key: str) -> Records:
    """SMILES, then a name, a line: columns ``smiles`` and ``name``. A first line that says ``smiles`` is a header."""
    yield 0, ["smiles", "name"]
    for row, line in enumerate(plain_lines(path, encoding, key), 1):
        parts = line.split(None, 1)
        if not parts or (row == 1 and parts[0].lower().lstrip("#") in ("smiles", "structure", "canonical_smiles")):
            continue
        yield row, [parts[0], parts[1].strip() if len(parts) > 1 else ""]


def sdf(path: Path, encoding: str, key: str) -> Records:
    """Columns ``structure`` (the mol block), ``name`` (its first line) and one a property."""
    names: dict[str, None] = {}
    for row, _, properties in _blocks(path, encoding, key):
        names |= dict.fromkeys(properties)
        if row >= PROPERTIES_FROM:
            break
    names = {name: None for name in names if name not in ("structure", "name")}
    yield 0, ["structure", "name", *names]
    for row, block, properties in _blocks(path, encoding, key):
        title, _, rest = block.partition("\n")
        whole = f"{title.strip() or NAMELESS}\n{rest}"  # cells are stripped, and an empty first line of a block counts
        yield row, [whole, title.strip(), *(properties.get(name, "") for name in names)]


def _blocks(path: Path, encoding: str, key: str) -> Iterator[tuple[int, str, dict[str, str]]]:
    """(record, mol block, properties) of an SDF file."""
    row, lines = 1, list[str]()
    for line in plain_lines(path, encoding, key):
        if line.startswith("$$$$"):
            yield row, *_parsed(lines)
            row, lines = row + 1, []
            continue
        if len(lines) >= LONGEST_BLOCK:
            raise DataError(f"{key}={path}: record {row} has more than {LONGEST_BLOCK:,} lines; '$$$$' must end it.")
        lines.append(line)
    if any(line.strip() for line in lines):
        yield row, *_parsed(lines)


def _parsed(lines: list[str]) -> tuple[str, dict[str, str]]:
    at = next((i for i, line in enumerate(lines) if line.startswith("M  END")), None)
    end = at + 1 if at is not None else next((i for i, line in enumerate(lines) if line.startswith(">")), len(lines))
    properties: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in lines[end:]:
        if line.startswith(">") and "<" in line:
            current = properties.setdefault(line[line.index("<") + 1 : line.rindex(">")].strip(), [])
        elif not line.strip():
            current = None
        elif current is not None:
            current.append(line)
    return "\n".join(lines[:end]), {name: "\n".join(values).strip() for name, values in properties.items()}


SMI = TableFile((".smi", ".smiles", ".ism"), "smiles", smi)
SDF = TableFile((".sdf", ".sd"), "structure", sdf)
