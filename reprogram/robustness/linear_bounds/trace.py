"""A model as a graph of affine maps and bends, recorded from what it computes on one example.

Recording (``make_fx``) sees through Python code, so a program's pad, resize and prompt, the frozen source and the
output mapping become one graph. An operation that this module does not know how to bound is named in the error.
"""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx

from reprogram.errors import ReprogramError
from reprogram.robustness.linear_bounds.relax import Pool

aten = torch.ops.aten


class NotBounded(ReprogramError):
    """The model holds an operation without linear bounds."""


# affine with non-negative weights: an interval goes through end by end
MONOTONE = {
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.flatten.using_ints, aten.permute.default,
    aten.transpose.int, aten.expand.default, aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default,
    aten.unsqueeze.default, aten.roll.default, aten.slice.Tensor, aten.select.int, aten.clone.default, aten.alias.default,
    aten.detach.default, aten._to_copy.default, aten.contiguous.default, aten.mean.dim, aten.sum.dim_IntList,
    aten.avg_pool2d.default, aten._adaptive_avg_pool2d.default, aten.adaptive_avg_pool2d.default,
    aten.constant_pad_nd.default, aten.upsample_bilinear2d.vec, aten.upsample_bilinear2d.default,
    aten._upsample_bilinear2d_aa.vec, aten._upsample_bilinear2d_aa.default, aten.upsample_nearest2d.vec,
    aten.upsample_nearest2d.default, aten.repeat.default, aten.t.default, aten.index_select.default, aten.index.Tensor,
    aten.lift_fresh_copy.default, aten.slice_scatter.default, aten.select_scatter.default,
    aten.flip.default, aten.grid_sampler_2d.default,
}  # fmt: skip
WEIGHTED = {aten.convolution.default, aten.addmm.default, aten.mm.default, aten.matmul.default, aten.linear.default}
SCALED = {aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar, aten.neg.default}
NORMS = {
    aten._native_batch_norm_legit_no_training.default, aten.native_batch_norm.default,
    aten.cudnn_batch_norm.default, aten._batch_norm_no_update.default,
}  # fmt: skip
BENDS = {
    aten.relu.default: "relu", aten.relu_.default: "relu", aten.tanh.default: "tanh", aten.sigmoid.default: "sigmoid",
}  # fmt: skip
CLAMPS = {
    aten.hardtanh.default,
    aten.hardtanh_.default,
    aten.clamp.default,
    aten.clamp_.default,
    aten.clamp_min.default,
}
FROM_SHAPE = {  # constants that take no more than its shape from a value that moves
    aten.new_zeros.default, aten.new_ones.default, aten.new_full.default, aten.new_empty.default,
    aten.zeros_like.default, aten.ones_like.default, aten.full_like.default, aten.empty_like.default,
}  # fmt: skip
BICUBIC = 2  # as grid_sampler_2d counts its interpolations; it alone has negative weights
POOLS = {aten.max_pool2d_with_indices.default, aten.max_pool2d.default}


@dataclass
class Node:
    """One step. kind: ``input``, ``affine``, ``add`` (sum of its inputs), ``relu``, ``tanh``, ``sigmoid`` or ``max``.

    inputs: positions of the nodes it reads. function: of an affine step. spread: how the half-width of an interval goes
    through it. pool: of ``max``. shape: of its value for one example, with the batch of 1.
    """

    kind: str
    inputs: tuple[int, ...]
    shape: torch.Size
    function: Callable[[Tensor], Tensor] = field(default=lambda x: x)
    spread: Callable[[Tensor], Tensor] = field(default=lambda x: x)
    pool: Pool = field(default=Pool())


class Network:
    """Nodes in order; the last one is the answer, [1, T]."""

    def __init__(self, model: Callable[[Tensor], Tensor], example: Tensor) -> None:
        """``example``: one input with its batch dimension of 1, float64."""
        self.nodes: list[Node] = [Node("input", (), example.shape)]
        with torch.no_grad():
            # functional: a frame that is written around an image in place becomes a map of the image
            graph = make_fx(functionalize(model, remove="mutations"), pre_dispatch=False)(example)
            self._values: dict[str, Any] = {}
            self._places: dict[str, int] = {}
            for step in graph.graph.nodes:
                self._record(step, graph, example)
        self.nodes = fold(self.nodes)

    def bends(self) -> int:
        """Number of values that go through a bend."""
        return sum(
            self.nodes[n.inputs[0]].shape.numel() for n in self.nodes if n.kind not in ("input", "affine", "add")
        )

    def _record(self, step: Any, graph: nn.Module, example: Tensor) -> None:
        if step.op == "placeholder":
            self._values[step.name], self._places[step.name] = example, 0
        elif step.op == "get_attr":
            self._values[step.name] = getattr(graph, step.target)
        elif step.op == "output":
            answer = step.args[0]
            answer = answer[0] if isinstance(answer, tuple | list) else answer
            if self._places.get(answer.name) != len(self.nodes) - 1:
                self._add("affine", (self._places[answer.name],), self._values[answer.name])
        else:
            self._call(step)

    def _call(self, step: Any) -> None:
        arguments = torch.fx.node.map_arg(step.args, lambda n: self._values[n.name])
        keywords = torch.fx.node.map_arg(step.kwargs, lambda n: self._values[n.name])
        value = step.target(*arguments, **keywords)
        self._values[step.name] = value
        moving = [n for n in step.all_input_nodes if n.name in self._places]
        if not moving or step.target in FROM_SHAPE:
            return
        places = [self._places[n.name] for n in moving]
        if step.target is operator.getitem:
            self._places[step.name] = places[0]
            return
        self._places[step.name] = self._translate(step, arguments, keywords, moving, places, _first(value))

    def _add(self, kind: str, inputs: tuple[int, ...], value: Tensor, **more: Any) -> int:
        self.nodes.append(Node(kind, inputs, value.shape, **more))
        return len(self.nodes) - 1

    def _translate(
        self, step: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], moving: Sequence[Any],
        places: list[int], value: Tensor,
    ) -> int:  # fmt: skip
        target = step.target
        if target in (aten.add.Tensor, aten.sub.Tensor) and len(moving) == 2 and keywords.get("alpha", 1) == 1:
            second = places[1]
            if target is aten.sub.Tensor:
                second = self._add("affine", (second,), value, function=torch.neg)
            return self._add("add", (places[0], second), value)
        if target in (aten.cat.default, aten.stack.default):
            return self._concatenate(step, arguments, value)
        if len(moving) > 1:
            raise NotBounded(f"There are no linear bounds for {target}, which combines two values that both move.")
        if target in BENDS:
            return self._add(BENDS[target], (places[0],), value)
        if target in CLAMPS:
            return self._clamp(target, arguments, places[0], value)
        if target in POOLS:
            return self._pool(arguments, places[0], value)
        if target is aten._to_copy.default and value.is_floating_point():
            return self._add("affine", (places[0],), value)  # everything stays in float64
        if target is aten.copy.default:
            return self._add("affine", (places[0],), value, **_both_ways(lambda x: x.expand(value.shape)))
        position = next(i for i, a in enumerate(step.args) if a is moving[0])
        if target is aten.grid_sampler_2d.default and (position or arguments[2] == BICUBIC):
            raise NotBounded("There are no linear bounds for places that move with the image, nor for bicubic ones.")

        def function(x: Tensor) -> Tensor:
            return _first(target(*arguments[:position], x, *arguments[position + 1 :], **keywords))

        spread = _spread(target, arguments, keywords, position, function)
        return self._add("affine", (places[0],), value, function=function, spread=spread)

    def _concatenate(self, step: Any, arguments: tuple[Any, ...], value: Tensor) -> int:
        """Each moving part padded with zeros to its place, summed, plus the constant parts."""
        dim = (arguments[1] if len(arguments) > 1 else 0) % value.ndim
        stacked = step.target is aten.stack.default
        parts, start, summed = arguments[0], 0, []
        constant = torch.zeros_like(value)
        for node, part in zip(step.args[0], parts, strict=True):
            part = part.unsqueeze(dim) if stacked else part
            size = part.shape[dim]
            if node.name in self._places:
                place = (start, value.shape[dim] - start - size)

                def pad(x: Tensor, place: tuple[int, int] = place) -> Tensor:
                    x = x.unsqueeze(dim) if stacked else x
                    return nn.functional.pad(x, [0, 0] * (value.ndim - 1 - dim) + list(place))

                summed.append(self._add("affine", (self._places[node.name],), value, function=pad, spread=pad))
            else:
                constant.narrow(dim, start, size).copy_(part)
            start += size
        first = self._add("affine", (summed[0],), value, function=lambda x: x + constant)
        return first if len(summed) == 1 else self._add("add", (first, *summed[1:]), value)

    def _clamp(self, target: Any, arguments: tuple[Any, ...], place: int, value: Tensor) -> int:
        """clamp(x, a, b) = b - relu(b - (a + relu(x - a)))."""
        low = arguments[1] if len(arguments) > 1 else (-1.0 if "hardtanh" in str(target) else None)
        high = arguments[2] if len(arguments) > 2 else (1.0 if "hardtanh" in str(target) else None)
        if low is not None:
            place = self._add("affine", (place,), value, function=lambda x: x - low)
            place = self._add("relu", (place,), value)
            place = self._add("affine", (place,), value, function=lambda x: x + low)
        if high is not None:
            place = self._add("affine", (place,), value, function=lambda x: high - x)
            place = self._add("relu", (place,), value)
            place = self._add("affine", (place,), value, function=lambda x: high - x)
        return place

    def _pool(self, arguments: tuple[Any, ...], place: int, value: Tensor) -> int:
        window = _pair(arguments[1])
        stride = _pair(arguments[2]) if len(arguments) > 2 and arguments[2] else window
        padding = _pair(arguments[3]) if len(arguments) > 3 else (0, 0)
        dilation = _pair(arguments[4]) if len(arguments) > 4 else (1, 1)
        rounded_up = bool(arguments[5]) if len(arguments) > 5 else False
        if dilation != (1, 1) or rounded_up:
            raise NotBounded("There are no linear bounds for max-pooling with dilation or ceil_mode.")
        return self._add("max", (place,), value, pool=Pool(window, stride, padding))


def fold(nodes: Sequence[Node]) -> list[Node]:
    """Affine steps that follow each other become one, and what the answer does not read is left out.

    So a program's pad, resize and prompt end up in the source's first layer.
    """
    wanted = {len(nodes) - 1}
    for place in range(len(nodes) - 1, 0, -1):
        wanted |= set(nodes[place].inputs) if place in wanted else set()
    readers = Counter(i for place in wanted for i in nodes[place].inputs)
    folded: list[Node] = []
    moved: dict[int, int] = {}
    for place, node in enumerate(nodes):
        if place not in wanted and place:
            continue
        inputs = tuple(moved[i] for i in node.inputs)
        if node.kind == "affine" and folded[inputs[0]].kind == "affine" and readers[node.inputs[0]] == 1:
            folded[inputs[0]] = _after(folded[inputs[0]], node)
            moved[place] = inputs[0]
        else:
            moved[place] = len(folded)
            folded.append(replace(node, inputs=inputs))
    return folded


def _after(first: Node, second: Node) -> Node:
    return Node(
        "affine",
        first.inputs,
        second.shape,
        lambda x: second.function(first.function(x)),
        lambda r: second.spread(first.spread(r)),
    )


def record(model: Callable[[Tensor], Tensor], example: Tensor) -> Network:
    """``model`` on inputs like ``example`` [C, H, W]; a module is copied in float64 first, and stays as it is."""
    if isinstance(model, nn.Module):
        model = copy.deepcopy(model).double().eval()
    return Network(model, example[None].double())


def _both_ways(function: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """A linear map with non-negative weights and no constant: values and half-widths go through it alike."""
    return {"function": function, "spread": function}


def _first(value: Any) -> Tensor:
    return value[0] if isinstance(value, tuple | list) else value


def _pair(value: Any) -> tuple[int, int]:
    values = list(value) if isinstance(value, tuple | list) else [value]
    return (int(values[0]), int(values[-1]))


def _spread(
    target: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], position: int, function: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:  # fmt: skip
    """The map of an interval's half-width: the same operation with the absolute values of its weights."""
    if target is aten.convolution.default and position == 0:
        return lambda r: target(r, arguments[1].abs(), None, *arguments[3:])
    if target is aten.linear.default and position == 0:
        return lambda r: r @ arguments[1].abs().T
    if target is aten.addmm.default and position == 1:
        return lambda r: r @ arguments[2].abs()
    if target in (aten.mm.default, aten.matmul.default):
        return (lambda r: r @ arguments[1].abs()) if position == 0 else (lambda r: arguments[0].abs() @ r)
    if target in SCALED and not (target is aten.div.Tensor and position == 1):
        return lambda r: function(r).abs()
    if target in NORMS:
        return lambda r: (function(r) - function(torch.zeros_like(r))).abs()
    if target in (aten.add.Tensor, aten.sub.Tensor, aten.add.Scalar, aten.sub.Scalar, aten.rsub.Scalar):
        return lambda r: (function(r) - function(torch.zeros_like(r))).abs()
    if target in MONOTONE:
        return lambda r: function(r) - function(torch.zeros_like(r))
    raise NotBounded(f"There are no linear bounds for the operation {target}.")
