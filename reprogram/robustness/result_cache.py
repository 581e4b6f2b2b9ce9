"""Finished robustness checks on disk, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from reprogram.errors import DataError, Interrupted
from reprogram.journal import Journal
from reprogram.robustness.findings import Outcome


class ResultCache:
    """Finished checks by name; those of another model, data or setting (another key) are not used."""

    def __init__(self, path: Path | None, key: str, resume: bool) -> None:
        self.found: dict[str, Outcome] = {}
        if path is not None and path.exists() and not resume:
            path.unlink()
        self.journal = None if path is None else Journal(path)
        self.key = key
        for row in self.journal.read() if self.journal else []:
            if row.get("key") == key:
                self._take(path, row)

    def _take(self, path: Path | None, row: dict[str, Any]) -> None:
        """One line of the file. Raises DataError where it is no finished check."""
        try:
            self.found[str(row["check"])] = Outcome.from_json(row["outcome"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise DataError(f"{path} has a line that is no finished check; remove the file, and its checks run again.") from error

    def once(self, name: str, check: Callable[[], Outcome]) -> Outcome:
        """What the check gave before, or gives now. Ctrl-C during it says how to go on."""
        if name not in self.found:
            try:
                self.found[name] = check()
            except KeyboardInterrupt:
                raise Interrupted(
                    f"Stopped during the robustness check '{name}'; "
                    "start again with the same run_dir and resume=true to continue."
                ) from None
            if self.journal is not None:
                self.journal.append([{"key": self.key, "check": name, "outcome": self.found[name].to_json()}])
        return self.found[name]
