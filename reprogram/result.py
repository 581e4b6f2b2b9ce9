"""What a run measured: one object that everything adds rows to, and ``result.json`` on disk."""

from __future__ import annotations

import json
import math
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprogram.redact import redact

SCHEMA = 1


@dataclass
class Result:
    """The promised keys of ``result.json`` (see ``docs/result-schema.md``) as a dictionary, with ways to add rows."""

    task: str
    seed: int
    data: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from reprogram import __version__

        self.data = {
            "schema": SCHEMA,
            "task": self.task,
            "seed": self.seed,
            "version": __version__,
            **self.data,
        }

    def add_check(
        self,
        check: str,
        kind: str,
        threat: str,
        value: float | None,
        low: float | None = None,
        high: float | None = None,
        n: int | None = None,
        flags: list[dict[str, str]] | None = None,
        **more: Any,
    ) -> None:
        """One row of ``robustness.rows``; flags are ``{"code", "text"}``.

        kind: ``attack``, ``certificate``, ``estimate`` or ``inspection``.
        """
        if kind not in ("attack", "certificate", "estimate", "inspection"):
            raise ValueError(f"kind must be attack, certificate, estimate or inspection, not {kind!r}")
        rows = self.data.setdefault("robustness", {}).setdefault("rows", [])
        rows.append(
            {"check": check, "kind": kind, "threat": threat, "value": value, "low": low, "high": high, "n": n}
            | {"flags": flags or []}
            | more
        )

    def write(self, folder: Path) -> Path:
        """``folder/result.json``, atomically; NaN and infinities become null, because JSON has none."""
        path = folder / "result.json"
        write_atomically(path, json.dumps(finite(self.data), indent=2, ensure_ascii=False) + "\n")
        return path


def finite(value: Any) -> Any:
    """Plain JSON values: numpy and torch scalars unwrapped, non-finite numbers as None."""
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [finite(v) for v in value]
    if hasattr(value, "tolist") and not isinstance(value, str | bytes):
        return finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def encoded(text: str) -> bytes:
    """UTF-8. Bytes of a file name that are no UTF-8 are written as ``\\udcXX``: they must not cost a run its results."""
    return text.encode("utf-8", "backslashreplace")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write beside the target, flush to disk, then rename: a reader sees the old file or the new one, never half.

    Passwords and tokens in a text are not written (:mod:`reprogram.redact`).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = encoded(redact(content)) if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        mask = os.umask(0)
        os.umask(mask)
        if hasattr(os, "fchmod"):  # not on Windows, where folders say who may read
            os.fchmod(handle, 0o666 & ~mask)  # temporary files are made private; results are as readable as any file
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
