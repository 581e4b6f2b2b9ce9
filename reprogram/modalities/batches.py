"""Batches of any kind: float [B, C, H, W] images, list[str], or [B, L, D] embeddings of strings, a list where lengths differ.

The only place where a batch is asked what it is made of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor


def is_tensor(batch: Any) -> TypeGuard[Tensor]:
    """A batch in one block, all of whose rows have one shape."""
    return isinstance(batch, Tensor)


def is_pixels(batch: Any) -> TypeGuard[Tensor]:
    """Images [B, C, H, W]."""
    return isinstance(batch, Tensor) and batch.ndim == 4


def is_strings(batch: Any) -> TypeGuard[list[str]]:
    """A list of strings."""
    return isinstance(batch, list) and all(isinstance(text, str) for text in batch)


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch on ``device``; strings have none."""
    return batch.to(device) if isinstance(batch, Tensor) else batch


def device_type(batch: Any) -> str:
    """``cpu``, ``cuda`` …; strings are on the CPU."""
    return batch.device.type if isinstance(batch, Tensor) else "cpu"


def take(batch: Any, rows: Sequence[int]) -> Any:
    """Rows of a batch, in that order."""
    return batch[list(rows)] if isinstance(batch, Tensor) else [batch[i] for i in rows]


def join(batches: Sequence[Any]) -> Any:
    """Batches of one kind as one."""
    if isinstance(batches[0], Tensor):
        return torch.cat(list(batches))
    return [item for batch in batches for item in batch]


def stacked(rows: Sequence[Any]) -> np.ndarray:
    """Arrays of one shape as one block; signals [C, l] of several lengths are padded with NaN behind their ends."""
    if len({np.shape(row) for row in rows}) > 1 and {np.ndim(row) for row in rows} == {2}:
        from reprogram.modalities._signals import pad

        return pad(rows)
    return np.stack(list(rows))


def digests(batch: Any) -> list[bytes] | None:
    """The content of each row (pixels or strings) as a key; None for a batch whose rows cannot be compared this way."""
    if isinstance(batch, Tensor):
        raw = batch.detach().cpu().contiguous()
        head = f"{tuple(raw.shape[1:])}:{raw.dtype}".encode()
        rows = raw.reshape(len(raw), -1).view(torch.uint8).numpy()
        return [hashlib.sha1(row.data, usedforsecurity=False).digest() + head for row in rows]
    if is_strings(batch):
        return [text.encode("utf-8", "surrogatepass") for text in batch]
    return None
