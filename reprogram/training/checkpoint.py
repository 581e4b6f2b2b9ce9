"""Enough to go on after a crash, bit for bit: written beside, flushed, then renamed."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reprogram.errors import ArtifactError, ReprogramError
from reprogram.files import check_regular
from reprogram.locks import own_file
from reprogram.progress import console
from reprogram.result import write_atomically

NAME = "checkpoint.pt"
LARGEST = 4 << 30  # bytes


def recipe_of(run: str, labels: np.ndarray) -> str:
    """What a checkpoint belongs to: the run's recipe and the labels it learns from, in their order. A table that was
    edited meanwhile is other data under the same name."""
    raw = np.ascontiguousarray(labels)
    content = repr(raw.tolist()).encode() if raw.dtype == object else raw.tobytes()
    return f"{run}:{hashlib.sha256(repr(raw.shape).encode() + content).hexdigest()}"


def save(folder: Path, state: dict[str, Any], recipe: str = "") -> None:
    """``folder/checkpoint.pt`` of tensors, numbers, strings, lists and dictionaries. recipe: the run it belongs to."""
    buffer = io.BytesIO()
    torch.save(state | {"recipe": recipe}, buffer)
    write_atomically(folder / NAME, buffer.getvalue())


def load(folder: Path, recipe: str = "") -> dict[str, Any] | None:
    """The last complete checkpoint, None where there is none or where it is another run's: a folder may have been used
    before, with another configuration. Raises ArtifactError for a damaged file."""
    path = folder / NAME
    if not own_file(path):
        return None
    check_regular(path, limit=LARGEST)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _damaged(folder) from error
    if not isinstance(state, dict):
        raise _damaged(folder)
    if state.get("recipe", "") != recipe:
        console.print(f"{path} belongs to another configuration or other data, so training starts over.", markup=False)
        return None
    return state


@contextmanager
def understood(folder: Path) -> Iterator[None]:
    """Inside, a checkpoint's content is put to use; what does not fit ends in one sentence."""
    try:
        yield
    except ReprogramError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise _damaged(folder) from error


def _damaged(folder: Path) -> ArtifactError:
    return ArtifactError(f"The checkpoint {folder / NAME} cannot be read; remove it to start over.")
