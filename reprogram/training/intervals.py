"""Interval bound propagation: what each value of a network can become while its input stays in a box.

Gowal et al. 2018 (arXiv 1810.12715). An :class:`Interval` is a tensor (the middle of the box) that carries its ``radius``
through the operations of a network; both have gradients. These bounds are for training: quick and loose. What is proven of
the finished model comes from :mod:`reprogram.robustness.certification.linear_bounds`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from reprogram.errors import ConfigError


class Interval(Tensor):
    """middle [B, ...] with ``radius`` [B, ...] >= 0; every operation of a network gives the next one.

    Raises ConfigError, with its name, for an operation that has no rule here.
    """

    radius: Tensor

    @classmethod
    def between(cls, low: Tensor, high: Tensor) -> Interval:
        """The box from ``low`` to ``high``, of the same shape."""
        return _made((low + high) / 2, (high - low) / 2)

    @property
    def low(self) -> Tensor:
        """The least of each value [B, ...]."""
        return _plain(self) - self.radius

    @property
    def high(self) -> Tensor:
        """The largest of each value [B, ...]."""
        return _plain(self) + self.radius

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in RULES:
            return RULES[name](func, args, kwargs)
        found = func(*(_plain(a) for a in args), **{k: _plain(v) for k, v in kwargs.items()})
        if isinstance(found, Tensor) and found.is_floating_point():
            raise ConfigError(
                f"training/adversarial=certified has no interval for the operation {name}; a source of convolutions, linear "
                "layers, BatchNorm, ReLU and pooling has, such as source=small_cnn."
            )
        return found  # a shape, a device, a comparison


def _made(middle: Tensor, radius: Tensor) -> Interval:
    found = middle.as_subclass(Interval)
    found.radius = radius
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_plain(part) for part in value)
    return value.as_subclass(Tensor) if isinstance(value, Interval) else value


def _increasing(func: Any, args: Any, kwargs: Any) -> Interval:
    return Interval.between(func(args[0].low, *args[1:], **kwargs), func(args[0].high, *args[1:], **kwargs))


def _average(func: Any, args: Any, kwargs: Any) -> Any:
    """The same map of middle and radius: no weight is negative and nothing is added."""
    middle, radius = func(_plain(args[0]), *args[1:], **kwargs), func(args[0].radius, *args[1:], **kwargs)
    if isinstance(middle, tuple | list):
        return tuple(_made(m, r) for m, r in zip(middle, radius, strict=True))
    return _made(middle, radius)


def _linear(func: Any, args: Any, kwargs: Any) -> Interval:
    """Convolution and linear layers: the radius goes through the absolute weights, without a bias."""
    given = dict(zip(("input", "weight", "bias", "stride", "padding", "dilation", "groups"), args, strict=False)) | kwargs
    middle = func(**given | {"input": _plain(given["input"])})
    return _made(middle, func(**given | {"input": given["input"].radius, "weight": given["weight"].abs(), "bias": None}))


def _normalised(func: Any, args: Any, kwargs: Any) -> Interval:
    """BatchNorm: an affine map, in training with the statistics of the middles."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given = dict(zip(names, args, strict=False)) | kwargs
    x, eps = _plain(given["input"]), given.get("eps", 1e-5)
    kept = [d for d in range(x.ndim) if d != 1]
    variance = x.var(kept, unbiased=False) if given.get("training") else given["running_var"]
    scale = (variance + eps).rsqrt()
    if given.get("weight") is not None:
        scale = scale * given["weight"].abs()
    middle = func(**given | {"input": x})
    return _made(middle, given["input"].radius * scale.view(1, -1, *[1] * (x.ndim - 2)))


def _padded(func: Any, args: Any, kwargs: Any) -> Interval:
    """The padding is known exactly, whatever it is."""
    mode = kwargs.get("mode", args[2] if len(args) > 2 else "constant")
    width = kwargs.get("pad", args[1] if len(args) > 1 else None)
    return _made(func(_plain(args[0]), *args[1:], **kwargs), F.pad(args[0].radius, width, mode))


def _joined(func: Any, args: Any, kwargs: Any) -> Interval:
    parts = [_plain(part) for part in args[0]], [_spread(part) for part in args[0]]
    return _made(func(parts[0], *args[1:], **kwargs), func(parts[1], *args[1:], **kwargs))


def _spread(value: Any) -> Tensor:
    return value.radius if isinstance(value, Interval) else torch.zeros_like(torch.as_tensor(value))


def _sum(func: Any, args: Any, kwargs: Any) -> Interval:
    return _made(_plain(args[0]) + _plain(args[1]), _both(args))


def _difference(func: Any, args: Any, kwargs: Any) -> Interval:
    return _made(_plain(args[0]) - _plain(args[1]), _both(args))


def _from_constant(func: Any, args: Any, kwargs: Any) -> Interval:
    return _made(_plain(args[1]) - _plain(args[0]), args[0].radius)


def _both(args: Any) -> Tensor:
    spreads = [a.radius for a in args[:2] if isinstance(a, Interval)]
    return spreads[0] + spreads[1] if len(spreads) == 2 else spreads[0]


def _scaled(func: Any, args: Any, kwargs: Any) -> Interval:
    """Times or through a known value, also of matrices; two unknown ones have no rule."""
    unknown = [a for a in args[:2] if isinstance(a, Interval)]
    if len(unknown) > 1 or (not isinstance(args[0], Interval) and "div" in func.__name__):
        raise ConfigError("training/adversarial=certified has no interval for a product of two values that both move.")
    middle = func(*(_plain(a) for a in args), **kwargs)
    sizes = [a.radius if isinstance(a, Interval) else abs(a) if isinstance(a, float | int) else a.abs() for a in args[:2]]
    return _made(middle, func(*sizes, **kwargs))


Rule = Callable[[Callable[..., Any], Any, Any], Any]
RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ("relu", "relu_", "relu6", "tanh", "sigmoid", "clamp", "clip", "hardtanh", "softplus",
         "max_pool2d", "adaptive_max_pool2d"),
        _increasing,
    ),
    **dict.fromkeys(
        ("view", "reshape", "flatten", "permute", "transpose", "squeeze", "unsqueeze", "contiguous", "__getitem__", "expand",
         "repeat", "to", "float", "double", "clone", "narrow", "chunk",
         "avg_pool2d", "adaptive_avg_pool2d", "mean", "sum", "interpolate"),
        _average,
    ),
    **dict.fromkeys(("conv2d", "linear"), _linear),
    "batch_norm": _normalised,
    "pad": _padded,
    **dict.fromkeys(("cat", "concat", "stack"), _joined),
    **dict.fromkeys(("add", "add_", "__add__", "__radd__", "__iadd__"), _sum),
    **dict.fromkeys(("sub", "__sub__"), _difference),
    **dict.fromkeys(("rsub", "__rsub__"), _from_constant),
    **dict.fromkeys(("mul", "__mul__", "__rmul__", "div", "__truediv__", "true_divide", "matmul", "__matmul__"), _scaled),
}  # fmt: skip
