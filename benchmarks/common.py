"""What the benchmark scripts share: versions, and a result page that the command itself writes."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of packages (``numpy``, ``rdkit`` and those given)."""
    found = {"python": platform.python_version()}
    for package in ("numpy", "rdkit", *packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def write_page(path: Path, title: str, command: str, text: str) -> None:
    """A page in ``docs/results`` that says how it was made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# {title}\n\nWritten by `{command}`; do not edit.\n\n{text.rstrip()}\n")
