"""The allow-list: every operation that has proven bounds, and how it is put together from nodes.

Whatever is not named here is refused. An affine operation is affine in one argument while the others are constant;
that, its transpose and its effect on an interval's half-width are checked in numbers when it is recorded (``sound``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reprogram.robustness.certification.linear_bounds.recording import NotBounded, refusal
from reprogram.robustness.certification.linear_bounds.relax import PoolBounds

aten = torch.ops.aten
Map = Callable[[Tensor], Tensor]
Add = Callable[..., int]  # (kind, places, value, **more) -> place of the new node

SAME = {  # the value itself
    aten.detach.default, aten.alias.default, aten.clone.default, aten.contiguous.default, aten.lift_fresh_copy.default,
}  # fmt: skip
VIEWS = (aten.view.default, aten._unsafe_view.default)
# affine in the first argument with non-negative weights: an interval goes through end by end
MONOTONE = {
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.flatten.using_ints, aten.permute.default,
    aten.transpose.int, aten.expand.default, aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default,
    aten.unsqueeze.default, aten.roll.default, aten.slice.Tensor, aten.select.int, aten.mean.dim, aten.mean.default,
    aten.sum.dim_IntList, aten.sum.default, aten.avg_pool2d.default, aten._adaptive_avg_pool2d.default,
    aten.adaptive_avg_pool2d.default, aten.constant_pad_nd.default, aten.reflection_pad1d.default,
    aten.reflection_pad2d.default, aten.replication_pad1d.default, aten.replication_pad2d.default,
    aten.upsample_bilinear2d.vec, aten.upsample_bilinear2d.default, aten._upsample_bilinear2d_aa.vec,
    aten._upsample_bilinear2d_aa.default, aten.upsample_nearest2d.vec, aten.upsample_nearest2d.default,
    aten.repeat.default, aten.t.default, aten.index_select.default, aten.index.Tensor, aten.flip.default,
    aten.grid_sampler_2d.default, aten.pixel_shuffle.default, aten.pixel_unshuffle.default,
}  # fmt: skip
# affine value by value (constants are broadcast): any argument of the tuple may be the one that moves
DIAGONAL = {
    aten.mul.Tensor: ("self", "other"), aten.mul.Scalar: ("self",), aten.div.Tensor: ("self",),
    aten.div.Scalar: ("self",), aten.neg.default: ("self",), aten.add.Tensor: ("self", "other"),
    aten.sub.Tensor: ("self", "other"), aten.add.Scalar: ("self",), aten.sub.Scalar: ("self",),
    aten.rsub.Scalar: ("self",), aten.rsub.Tensor: ("self", "other"),
    aten._native_batch_norm_legit_no_training.default: ("input",), aten.native_batch_norm.default: ("input",),
}  # fmt: skip
WEIGHTED: dict[Any, dict[str, tuple[str, str | None]]] = {  # moving argument -> (weights, constant): |weights| carry a half-width
    aten.convolution.default: {"input": ("weight", "bias")}, aten.linear.default: {"input": ("weight", "bias")},
    aten.addmm.default: {"mat1": ("mat2", "self"), "mat2": ("mat1", "self")},
    aten.mm.default: {"self": ("mat2", None), "mat2": ("self", None)},
    aten.bmm.default: {"self": ("mat2", None), "mat2": ("self", None)},
}  # fmt: skip
INTO = {aten.slice_scatter.default: ("self", "src"), aten.select_scatter.default: ("self", "src")}
BENDS = {
    aten.relu.default: "relu", aten.relu_.default: "relu", aten.tanh.default: "tanh", aten.sigmoid.default: "sigmoid",
    aten.silu.default: "silu", aten.silu_.default: "silu", aten.gelu.default: "gelu", aten.gelu_.default: "gelu",
    aten.softplus.default: "softplus",
}  # fmt: skip
CLAMPS = {
    aten.hardtanh.default: ("min_val", "max_val"), aten.hardtanh_.default: ("min_val", "max_val"),
    aten.clamp.default: ("min", "max"), aten.clamp_.default: ("min", "max"), aten.clamp.Tensor: ("min", "max"),
    aten.clamp_min.default: ("min", None), aten.clamp_max.default: (None, "max"),
}  # fmt: skip
LEAKY = {aten.leaky_relu.default, aten.leaky_relu_.default}
POOLS = {aten.max_pool2d_with_indices.default, aten.max_pool2d.default}
SUMS = {aten.add.Tensor: 1.0, aten.sub.Tensor: -1.0}
LARGER = {aten.maximum.default: 1.0, aten.minimum.default: -1.0}
FROM_SHAPE = {  # constants that take no more than its shape from a value that moves
    aten.new_zeros.default, aten.new_ones.default, aten.new_full.default, aten.zeros_like.default,
    aten.ones_like.default, aten.full_like.default,
}  # fmt: skip
UNWRITTEN = {
    aten.empty.memory_format, aten.new_empty.default, aten.empty_like.default, aten.empty_strided.default,
    aten.new_empty_strided.default,
}  # fmt: skip
BICUBIC = 2  # as grid_sampler_2d counts its interpolations; it alone has negative weights
FLOATS = (torch.float64, torch.float32)


@dataclass
class OperatorCall:
    """One operation: its arguments by name as values, and for those that move, the places of the nodes they come from.

    A list argument (``cat``) moves in some of its entries: places there are None for the constant ones.
    """

    target: Any
    arguments: dict[str, Any]
    moving: dict[str, Any]
    value: Tensor
    layer: str
    add: Add

    def refuse(self, why: str) -> NotBounded:
        """The error that names this layer and the reason why it is not bounded."""
        return refusal(self.layer, f"{why} ({self.target})")

    def at(self, changed: dict[str, Any]) -> Tensor:
        """The operation with other values for some arguments."""
        positional, keywords = [], {}
        for argument in self.target._schema.arguments:
            value = changed.get(argument.name, self.arguments[argument.name])
            if argument.kwarg_only:
                keywords[argument.name] = value
            else:
                positional.append(value)
        # what is a view of the value that was recorded need not be one of a value with another layout
        target = aten.reshape.default if self.target in VIEWS else self.target
        return first(target(*positional, **keywords))

    def affine(self, place: int, function: Map, spread: Map, value: Tensor | None = None) -> int:
        """Adds an affine node that reads node ``place``; returns its number."""
        value = self.value if value is None else value
        if value.dtype not in FLOATS:
            raise self.refuse(f"its values are rounded to {str(value.dtype).removeprefix('torch.')}")
        return self.add("affine", (place,), value, function=function, spread=spread, layer=self.layer)


def translate(call: OperatorCall) -> int:
    """The place of the node that holds the operation's value. Raises NotBounded for all that is not on the list."""
    target, moving = call.target, call.moving
    if target in (aten.cat.default, aten.stack.default):
        return _concatenate(call)
    if any(isinstance(places, list) for places in moving.values()):
        raise call.refuse("it picks places by what is in the input")
    if target in SUMS and len(moving) == 2:
        return _sum(call, moving["self"], moving["other"], SUMS[target] * call.arguments["alpha"])
    if target in LARGER and len(moving) == 2:
        return _larger(call, moving["self"], moving["other"], LARGER[target])
    if len(moving) > 1:
        raise call.refuse("it combines two values that both depend on the input")
    ((name, place),) = moving.items()
    if target in BENDS:
        _check_curve(call)
        return call.add(BENDS[target], (place,), call.value)
    if target in CLAMPS and name == "self":
        low, high = (call.arguments[key] if key else None for key in CLAMPS[target])
        return _clamp(call, place, low, high)
    if target in POOLS:
        return _pool(call, place)
    if target is aten.abs.default:
        return _absolute(call, place)
    if target in LEAKY:
        return _leaky(call, place, float(call.arguments["negative_slope"]))
    return _affine(call, name, place)


def _affine(call: OperatorCall, name: str, place: int) -> int:
    target = call.target

    def function(x: Tensor) -> Tensor:
        return call.at({name: x})

    def whole(r: Tensor) -> Tensor:
        return function(r) - function(torch.zeros_like(r))

    if target in SAME or target is aten._to_copy.default:
        return call.affine(place, _same, _same)
    if target is aten.copy.default and name == "src":
        shape = call.value.shape
        return call.affine(place, lambda x: x.expand(shape), lambda r: r.expand(shape))
    if name in INTO.get(target, ()):
        return call.affine(place, function, whole)
    if target in MONOTONE and name in ("self", "input"):
        _check_weights(call)
        return call.affine(place, function, whole)
    if name in DIAGONAL.get(target, ()):
        if call.arguments.get("training"):
            raise call.refuse("it normalises by the statistics of its own input")
        return call.affine(place, function, lambda r: whole(r).abs())
    if name in WEIGHTED.get(target, {}):
        weights, constant = WEIGHTED[target][name]
        if any(call.arguments.get(key, 1) != 1 for key in ("alpha", "beta")):
            raise call.refuse("it scales a product and a sum at once")
        positive = {weights: call.arguments[weights].abs()}
        if constant:
            bias = call.arguments[constant]
            positive[constant] = None if bias is None or constant == "bias" else torch.zeros_like(bias)
        return call.affine(place, function, lambda r: call.at({name: r} | positive))
    raise call.refuse("it is not on the list of operations with proven bounds")


def _same(x: Tensor) -> Tensor:
    return x


def _check_curve(call: OperatorCall) -> None:
    """Options of a bend under which it is another curve."""
    if call.arguments.get("approximate", "none") != "none":
        raise call.refuse("GELU is bounded as it is defined, not approximated by tanh")
    if call.target is aten.softplus.default and (call.arguments["beta"], call.arguments["threshold"]) != (1, 20):
        raise call.refuse("softplus is bounded with beta=1 and threshold=20")


def _check_weights(call: OperatorCall) -> None:
    """Options under which an operation of ``MONOTONE`` would have negative weights."""
    if call.target is aten.grid_sampler_2d.default and call.arguments["interpolation_mode"] == BICUBIC:
        raise call.refuse("bicubic interpolation has negative weights")
    if (call.arguments.get("divisor_override") or 1) < 0:
        raise call.refuse("its divisor is negative")


def _sum(call: OperatorCall, left: int, right: int, scale: float) -> int:
    if scale != 1:
        size = abs(scale)
        right = call.affine(right, lambda x: scale * x, lambda r: size * r, _value_of(call, "other"))
    return call.add("add", (left, right), call.value)


def _value_of(call: OperatorCall, name: str) -> Tensor:
    value: Tensor = call.arguments[name]
    return value


def _larger(call: OperatorCall, left: int, right: int, sign: float) -> int:
    """max(a, b) = a + relu(b - a), min(a, b) = a - relu(a - b)."""
    minus = call.affine(left, torch.neg, _same, _value_of(call, "self"))
    gap = call.add("add", (right, minus), call.value)
    if sign < 0:
        gap = call.affine(gap, torch.neg, _same)
    bent = call.add("relu", (gap,), call.value)
    if sign < 0:
        bent = call.affine(bent, torch.neg, _same)
    return call.add("add", (left, bent), call.value)


def _absolute(call: OperatorCall, place: int) -> int:
    """|x| = relu(x) + relu(-x)."""
    up = call.add("relu", (place,), call.value)
    down = call.add("relu", (call.affine(place, torch.neg, _same),), call.value)
    return call.add("add", (up, down), call.value)


def _leaky(call: OperatorCall, place: int, slope: float) -> int:
    """A ReLU that leaks: slope x + (1 - slope) relu(x)."""
    line = call.affine(place, lambda x: slope * x, lambda r: abs(slope) * r)
    bent = call.add("relu", (place,), call.value)
    bent = call.affine(bent, lambda x: (1 - slope) * x, lambda r: abs(1 - slope) * r)
    return call.add("add", (line, bent), call.value)


def _clamp(call: OperatorCall, place: int, low: Any, high: Any) -> int:
    """clamp(x, a, b) = b - relu(b - (a + relu(x - a)))."""
    shape = call.value.shape

    def shifted(place: int, function: Map) -> int:
        return call.affine(place, function, lambda r: r.expand(shape))

    if low is not None:
        place = call.add("relu", (shifted(place, lambda x: x - low),), call.value)
        place = shifted(place, lambda x: x + low)
    if high is not None:
        place = call.add("relu", (shifted(place, lambda x: high - x),), call.value)
        place = shifted(place, lambda x: high - x)
    return place


def _pool(call: OperatorCall, place: int) -> int:
    options = call.arguments
    window = _pair(options["kernel_size"])
    stride = _pair(options["stride"]) if options["stride"] else window
    if _pair(options["dilation"]) != (1, 1) or options["ceil_mode"]:
        raise call.refuse("max-pooling with dilation or ceil_mode")
    if call.value.ndim != 4:
        raise call.refuse("max-pooling of images without a batch dimension")
    return call.add("max", (place,), call.value, pool=PoolBounds(window, stride, _pair(options["padding"])))


def _concatenate(call: OperatorCall) -> int:
    """Each moving part padded with zeros to its place, summed, plus the constant parts."""
    value, dim = call.value, call.arguments["dim"] % call.value.ndim
    stacked = call.target is aten.stack.default
    start, summed, constant = 0, [], torch.zeros_like(value)
    for place, part in zip(call.moving["tensors"], call.arguments["tensors"], strict=True):
        if not stacked and part.ndim != value.ndim:
            raise call.refuse("it joins tensors of different dimensions")
        part = part.unsqueeze(dim) if stacked else part
        size = part.shape[dim]
        if place is not None:
            ends = (start, value.shape[dim] - start - size)

            def pad(x: Tensor, ends: tuple[int, int] = ends) -> Tensor:
                x = x.unsqueeze(dim) if stacked else x
                return nn.functional.pad(x, [0, 0] * (value.ndim - 1 - dim) + list(ends))

            summed.append(call.affine(place, pad, pad))
        else:
            constant.narrow(dim, start, size).copy_(part)
        start += size
    together = call.affine(summed[0], lambda x: x + constant, _same)
    return together if len(summed) == 1 else call.add("add", (together, *summed[1:]), value)


def first(value: Any) -> Tensor:
    """A value, or the first of several."""
    return value[0] if isinstance(value, tuple | list) else value


def _pair(value: Any) -> tuple[int, int]:
    values = list(value) if isinstance(value, tuple | list) else [value]
    return (int(values[0]), int(values[-1]))


def sound(function: Map, spread: Map, shape: torch.Size) -> bool:
    """In numbers: affine, its transpose is what back-substitution uses, and ``spread`` bounds a half-width."""
    drawn = torch.Generator().manual_seed(0)
    one, other = (torch.randn(shape, generator=drawn, dtype=torch.float64) for _ in range(2))
    zero = torch.zeros(shape, dtype=torch.float64)
    base, back = torch.func.vjp(function, zero)[:2]
    first_part, second, both = (function(x) - base for x in (one, other, one - 2 * other))
    weights = torch.randn(base.shape, generator=drawn, dtype=torch.float64)
    (pulled,) = back(weights)
    scale = 1e-9 * (1 + base.abs().max() + sum(part.abs().max() for part in (first_part, second)))
    if not torch.isfinite(scale):
        return False
    straight = bool(((both - (first_part - 2 * second)).abs() <= scale).all())
    size = float((weights.abs() * (first_part.abs() + base.abs())).sum()) + 1e-30
    turned = abs(float((weights * first_part).sum() - (pulled * one).sum())) <= 1e-9 * size
    return straight and turned and bool((spread(one.abs()) >= first_part.abs() - scale).all())
