"""Backward pass differentiable approximation (Athalye et al. 2018, arXiv 1802.00420).

Rounding, thresholds and blocks without gradients hide a model from gradient attacks without making it robust. Here every
such operation answers as before but lets the gradient through as if it were the identity (thresholds: a sigmoid); or the
caller supplies a smooth approximation of the whole model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from reprogram.robustness.attacks.base import Model

STEEP = 10.0  # slope of the sigmoid that stands in for a threshold, for pixels in [0, 1]

_OWNERS = (torch, torch.Tensor)
_NAMES = ("round", "floor", "ceil", "trunc", "fix", "sign")
_ROUNDING = {
    getattr(owner, written): name
    for owner in _OWNERS
    for name in _NAMES
    for written in (name, f"{name}_")
    if hasattr(owner, written)
} | {torch.fake_quantize_per_tensor_affine: "quantize", torch.fake_quantize_per_channel_affine: "quantize"}
_WHOLE = {torch.Tensor.byte, torch.Tensor.int, torch.Tensor.long, torch.Tensor.short, torch.Tensor.char}
_CASTS = {torch.Tensor.to, torch.Tensor.type}
_FLOATS = {torch.Tensor.float, torch.Tensor.double, torch.Tensor.half, *_CASTS}
_CUTS = {torch.Tensor.detach: "detach", torch.detach: "detach", torch.Tensor.data.__get__: "data"}  # type: ignore[attr-defined]
_ABOVE = {getattr(owner, name) for owner in _OWNERS for name in ("gt", "ge", "greater", "greater_equal")}
_ABOVE |= {torch.Tensor.__gt__, torch.Tensor.__ge__}
_BELOW = {getattr(owner, name) for owner in _OWNERS for name in ("lt", "le", "less", "less_equal")}
_BELOW |= {torch.Tensor.__lt__, torch.Tensor.__le__}


class StraightThrough(TorchFunctionMode):
    """Inside this context what hides gradients lets them through. ``met``: the names of what was met."""

    def __init__(self) -> None:
        super().__init__()
        self.met: set[str] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        x = args[0] if args else None
        if func is torch._C._set_grad_enabled and not x:
            self.met.add("no_grad")
            return None
        if func is torch.autograd.grad:
            self.met.add("gradient inside the model")
        if func in _FLOATS and isinstance(x, Tensor) and hasattr(x, "_smooth"):
            hard = func(*args, **kwargs)
            return x._smooth + (hard - x._smooth).detach() if hard.is_floating_point() else hard
        if func in _ABOVE or func in _BELOW:
            return self._threshold(func, args, kwargs)
        if isinstance(x, Tensor) and x.is_floating_point() and x.requires_grad:
            return self._passed(func, x, args, kwargs)
        return func(*args, **kwargs)

    def _passed(self, func: Callable[..., Any], x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Rounding, casts and cuts of a tensor that has a gradient."""
        if func in _CUTS:
            self.met.add(_CUTS[func])
            return x
        if func in _WHOLE or (func in _CASTS and _to_integer(args[1:], kwargs)):
            self.met.add("cast to integers")
            return x + (torch.trunc(x.detach()) - x.detach())
        if func in _ROUNDING:
            self.met.add(_ROUNDING[func])
            rounded = func(x.detach().clone(), *args[1:], **kwargs)
            return x + (rounded - x.detach())
        return func(*args, **kwargs)

    def _threshold(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A comparison; what it gives has the gradient of a sigmoid once it is made a number."""
        hard = func(*args, **kwargs)
        first, second = args[0], args[1] if len(args) > 1 else kwargs["other"]
        if any(isinstance(a, Tensor) and a.requires_grad for a in (first, second)) and isinstance(hard, Tensor):
            self.met.add("threshold")
            hard._smooth = torch.sigmoid(STEEP * (first - second if func in _ABOVE else second - first))  # type: ignore[attr-defined]
        return hard


def _to_integer(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    wanted = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)]
    return bool(wanted) and not wanted[0].is_floating_point and wanted[0] is not torch.bool


def straight_through(model: Model) -> Model:
    """The same answers, with gradients that pass through rounding, thresholds and blocks without gradients."""

    def answer(images: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return model(images)
        with StraightThrough():
            return model(images)

    return answer


def hidden_by(model: Model, images: Tensor) -> set[str]:
    """Names of the operations in ``model`` that hide gradients of ``images``; raises nothing of its own."""
    with warnings.catch_warnings(), torch.enable_grad(), StraightThrough() as mode:
        warnings.simplefilter("ignore", UserWarning)  # a value read out of what is not without gradients any more
        model(images.detach().clone().requires_grad_(True))
    return mode.met


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
