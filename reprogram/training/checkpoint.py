"""Enough to go on after a crash, bit for bit: written beside, flushed, then renamed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from reprogram.errors import ArtifactError
from reprogram.files import check_regular
from reprogram.result import write_atomically

NAME = "checkpoint.pt"
LARGEST = 4 << 30  # bytes


def save(folder: Path, state: dict[str, Any]) -> None:
    """``folder/checkpoint.pt`` of tensors, numbers, strings, lists and dictionaries."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(folder / NAME, buffer.getvalue())


def load(folder: Path) -> dict[str, Any] | None:
    """The last complete checkpoint, or None where there is none. Raises ArtifactError for a damaged file."""
    path = folder / NAME
    if not path.exists():
        return None
    check_regular(path, limit=LARGEST)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ArtifactError(f"The checkpoint {path} cannot be read; remove it to start over.") from error
