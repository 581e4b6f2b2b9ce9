"""Which number format the frozen source runs in while gradient steps train a program.

Only there: what is measured, cached, fitted in closed form, chosen or kept is always full float32
(:mod:`reprogram.full_precision`), so a program answers on every machine what it answered where it was measured.
"""

from __future__ import annotations

import torch

from reprogram.errors import ConfigError, nearest

CHOICES = ("auto", "float32", "bfloat16")


def choose(precision: str, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 on a GPU that multiplies it in hardware, and float32 on every CPU.

    On CPUs with bfloat16 figures would depend on the processor; what it is worth there: ``docs/results/number_formats.md``.
    """
    if precision not in CHOICES:
        raise ConfigError(f"training.precision={precision} is unknown; {nearest(str(precision), CHOICES)}")
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" and has_fast_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def has_fast_bfloat16(device: torch.device) -> bool:
    """Does the device compute bfloat16 in hardware?"""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)
