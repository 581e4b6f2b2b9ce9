"""Which number format the frozen source runs in."""

from __future__ import annotations

import torch

from reprogram.errors import ConfigError, nearest

CHOICES = ("auto", "float32", "bfloat16")


def choose(precision: str, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 only where the processor or GPU multiplies it in hardware; emulated bfloat16 is slower."""
    if precision not in CHOICES:
        raise ConfigError(f"training.precision={precision} is unknown; {nearest(precision, CHOICES)}")
    if precision == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)
