"""What a frozen source is known by: SHA-256 over its weights and over what else changes its answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def of_tensors(state: Mapping[str, Tensor]) -> str:
    """Over names, shapes, types and bytes of tensors, whatever their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        raw = tensor.detach().cpu().contiguous()
        digest.update(f"{name}:{tuple(raw.shape)}:{raw.dtype}".encode())
        digest.update(raw.reshape(-1).view(torch.uint8).numpy().tobytes() if raw.numel() else b"")
    return digest.hexdigest()


def with_settings(weights: str, settings: Mapping[str, Any]) -> str:
    """The digest of the weights, and of JSON values beside them where there are any."""
    if not settings:
        return weights
    told = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(f"{weights}\n{told}".encode()).hexdigest()
