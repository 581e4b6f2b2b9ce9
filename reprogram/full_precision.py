"""Compute in full float32: what is measured and kept may not depend on what a processor offers to round away.

A processor or GPU may multiply float32 numbers with 10 (TF32) or 7 (bfloat16) bits of mantissa instead of 23: convolutions
on NVIDIA GPUs do so unless they are told not to, and a caller may have asked for it, or for autocast, on any machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Inside, float32 means float32: no autocast, no TF32, no bfloat16 products. What was set before comes back."""
    changed = []
    try:
        for place, name, wanted in _switches():
            before = getattr(place, name)
            if before != wanted:
                changed.append((place, name, before))
                setattr(place, name, wanted)
        with ExitStack() as stack:
            if torch.is_autocast_enabled(device.type):
                stack.enter_context(torch.autocast(device.type, enabled=False))
            yield
    finally:
        for place, name, before in changed:
            setattr(place, name, before)


def _switches() -> list[tuple[Any, str, Any]]:
    """Every place where torch can be told to round float32: (object, attribute, what means full precision)."""
    backends = torch.backends
    places = [(backends.cuda, "matmul"), (backends.cudnn, "conv"), (backends.cudnn, "rnn")]
    places += [(backends.mkldnn, name) for name in ("matmul", "conv", "rnn")]
    found = [getattr(where, name) for where, name in places if hasattr(getattr(where, name, None), "fp32_precision")]
    if found:  # torch 2.9 and later
        return [(one, "fp32_precision", "ieee") for one in found]
    return [(backends.cuda.matmul, "allow_tf32", False), (backends.cudnn, "allow_tf32", False)]
