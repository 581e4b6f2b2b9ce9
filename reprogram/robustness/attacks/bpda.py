"""Backward pass differentiable approximation (Athalye et al. 2018, arXiv 1802.00420).

Rounding hides a model from gradient attacks without making it robust. Here every rounding operation answers as before
but lets the gradient through as if it were the identity; or the caller supplies a smooth stand-in for the whole model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from reprogram.robustness.attacks.base import Model

_ROUNDING = {
    getattr(owner, name)
    for owner in (torch, torch.Tensor)
    for name in ("round", "floor", "ceil", "trunc", "fix", "round_", "floor_", "ceil_", "trunc_", "fix_")
} | {torch.fake_quantize_per_tensor_affine, torch.fake_quantize_per_channel_affine}
_WHOLE = {torch.Tensor.byte, torch.Tensor.int, torch.Tensor.long, torch.Tensor.short, torch.Tensor.char}


class StraightThrough(TorchFunctionMode):
    """Inside this context rounding has the gradient of the identity; casts to integers stay floating point."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        x = args[0] if args else None
        if not (isinstance(x, Tensor) and x.is_floating_point() and x.requires_grad):
            return func(*args, **kwargs)
        if func in _WHOLE or (func is torch.Tensor.to and _to_integer(args[1:], kwargs)):
            return x + (torch.trunc(x.detach()) - x.detach())
        if func in _ROUNDING:
            rounded = func(x.detach().clone(), *args[1:], **kwargs)
            return x + (rounded - x.detach())
        return func(*args, **kwargs)


def _to_integer(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    wanted = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)]
    return bool(wanted) and not wanted[0].is_floating_point and wanted[0] is not torch.bool


def straight_through(model: Model) -> Model:
    """The same answers, with gradients that pass through rounding."""

    def answer(images: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return model(images)
        with StraightThrough():
            return model(images)

    return answer


def stand_in(model: Model, smooth: Model) -> Model:
    """The answers of ``model`` with the gradients of ``smooth``."""

    def answer(images: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return model(images)
        approximate = smooth(images)
        with torch.no_grad():
            exact = model(images)
        return approximate + (exact - approximate).detach()

    return answer
