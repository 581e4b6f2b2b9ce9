"""A run of several searches: each has a journal, and all of them together are the run's ``calls.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from reprogram.result import write_atomically


def merge_journals(folder: Path, key: str, journals: Sequence[Path]) -> None:
    """All ``journals`` in one ``calls.jsonl`` of the folder, with ``key`` in each line: which of them, from 1 on."""

    def lines() -> Iterator[str]:
        for number, path in enumerate(journals, 1):
            for line in path.read_text().split("\n") if path.exists() else ():  # a reason may hold odd line ends
                if line:
                    yield json.dumps({key: number, **json.loads(line)}, ensure_ascii=False) + "\n"

    write_atomically(folder / "calls.jsonl", "".join(lines()))
