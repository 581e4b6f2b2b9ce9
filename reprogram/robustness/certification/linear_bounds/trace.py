"""A model as a graph of affine maps and bends, recorded from what it computes on one example.

Recording sees through Python code, so a program's pad, resize and prompt, the frozen source and the output mapping become
one graph. It is a proof of what the model does only if the model does the same everywhere in the ball, so: what is not on
the list of :mod:`operators` is refused by its layer's name, and the graph is compared with the model at other points
(:mod:`agreement`), in the model's own precision too.
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

from reprogram.robustness.certification.linear_bounds.agreement import Agreement
from reprogram.robustness.certification.linear_bounds.operators import (
    FROM_SHAPE,
    UNWRITTEN,
    OperatorCall,
    first,
    sound,
    translate,
)
from reprogram.robustness.certification.linear_bounds.recording import NotBounded, refusal, written_down
from reprogram.robustness.certification.linear_bounds.relax import BENDS, PoolBounds, windows

__all__ = ["Network", "Node", "NotBounded", "record"]


@dataclass
class Node:
    """One step. kind: ``input``, ``affine``, ``add`` (sum of its inputs), ``max`` or a bend (``relax.BENDS``).

    inputs: positions of the nodes it reads, one twice where it is read twice. function: of an affine step. spread: how
    the half-width of an interval goes through it. pool: of ``max``. shape: of its value for one example, with the batch
    of 1.
    """

    kind: str
    inputs: tuple[int, ...]
    shape: torch.Size
    function: Callable[[Tensor], Tensor] = field(default=lambda x: x)
    spread: Callable[[Tensor], Tensor] = field(default=lambda x: x)
    pool: PoolBounds = field(default=PoolBounds())


class Network:
    """Nodes in order; the last one is the answer, [1, T].

    rounding: the largest difference that was seen between the recorded network and the model, in any precision, with
    room for what was not seen (``agreement.rounding_room``). Bounds are wider by it.
    """

    def __init__(self, model: Callable[[Tensor], Tensor], example: Tensor, own: Agreement | None = None) -> None:
        """``example``: one input with its batch dimension of 1, float64. ``own``: how the graph is compared."""
        self.nodes: list[Node] = [Node("input", (), example.shape)]
        graph, owners = written_down(model, example)
        with torch.no_grad():
            _Builder(self, graph, owners, example).build()
            self.nodes = fold(self.nodes)
            self.agreement = own or Agreement(model)
            self.rounding = 0.0
            half = 0.1 * (1 + example.abs().max())
            self.confirm(example - half, example + half)

    def bends(self) -> int:
        """Number of values that go through a bend."""
        return sum(
            self.nodes[n.inputs[0]].shape.numel() for n in self.nodes if n.kind not in ("input", "affine", "add")
        )

    def confirm(self, low: Tensor, high: Tensor, quick: bool = False) -> None:
        """Compare with the model at points between ``low`` and ``high`` [1, ...]; raises NotBounded where they differ."""
        self.rounding = max(self.rounding, self.agreement.compare(self.value, low, high, quick))

    @torch.no_grad()
    def value(self, x: Tensor) -> Tensor:
        """The recorded answer [1, T] to one input [1, ...]."""
        values: list[Tensor] = []
        for node in self.nodes:
            parts = [values[i] for i in node.inputs]
            if node.kind == "input":
                values.append(x.double())
            elif node.kind == "add":
                values.append(sum(parts))  # type: ignore[arg-type]
            elif node.kind == "affine":
                values.append(node.function(parts[0]))
            elif node.kind == "max":
                values.append(windows(parts[0], node.pool, -float("inf")).amax(-1))
            else:
                values.append(BENDS[node.kind](parts[0]))
        return values[-1]


class _Builder:
    """Turns the written graph into nodes; ``places``: graph node -> position of the node that holds its value."""

    def __init__(self, network: Network, graph: nn.Module, owners: dict[str, str], example: Tensor) -> None:
        self.network, self.graph, self.owners, self.example = network, graph, owners, example
        self.values: dict[str, Any] = {}
        self.places: dict[str, int] = {}

    def build(self) -> None:
        steps = list(self.graph.graph.nodes)  # type: ignore[union-attr, arg-type]
        answer = steps[-1].args[0]
        if not isinstance(answer, torch.fx.Node):
            raise refusal("the model", "it does not answer with one tensor that depends on its input")
        wanted = _needed(answer)
        for step in (step for step in steps if step in wanted):
            if _draws(step):
                raise refusal(self._layer(step), f"it draws at random ({step.target})")
        for step in (step for step in steps if step in wanted):
            self._step(step)
        if answer.name not in self.places:
            raise refusal("the model", "its answer does not depend on its input")
        value = self.values[answer.name]
        if value.ndim != 2 or len(value) != 1:
            raise refusal("the model", f"it answers {list(value.shape)} to one input and not [1, classes]")
        if self.places[answer.name] != len(self.network.nodes) - 1:
            self._add("affine", (self.places[answer.name],), value)

    def _step(self, step: Any) -> None:
        if step.op == "placeholder":
            self.values[step.name], self.places[step.name] = self.example, 0
        elif step.op == "get_attr":
            self.values[step.name] = operator.attrgetter(step.target)(self.graph)
        elif step.target is operator.getitem:
            self._part(step)
        else:
            self._call(step)

    def _part(self, step: Any) -> None:
        """One of several results; only the first of an operation is bounded (the other of a pool are its places)."""
        whole, number = step.args
        self.values[step.name] = self.values[whole.name][number]
        if whole.name in self.places:
            if number:
                raise refusal(self._layer(step), f"it uses result {number} of {whole.target}")
            self.places[step.name] = self.places[whole.name]

    def _call(self, step: Any) -> None:
        layer, target = self._layer(step), step.target
        if not isinstance(target, torch._ops.OpOverload):
            raise refusal(layer, f"it is not on the list of operations with proven bounds ({target})")
        if target in UNWRITTEN:
            raise refusal(layer, f"it reads memory that nothing wrote ({target})")
        named = self._named(step)
        arguments = {key: torch.fx.node.map_arg(a, lambda n: self.values[n.name]) for key, a in named.items()}
        keywords = torch.fx.node.map_arg(step.kwargs, lambda n: self.values[n.name])
        value = target(*torch.fx.node.map_arg(step.args, lambda n: self.values[n.name]), **keywords)
        self.values[step.name] = value
        moving = {key: places for key, a in named.items() if (places := self._moving(a)) is not None}
        if moving and target not in FROM_SHAPE:
            call = OperatorCall(target, arguments, moving, first(value), layer, self._add)
            self.places[step.name] = translate(call)

    def _named(self, step: Any) -> dict[str, Any]:
        """Arguments of an operation by name, with its defaults."""
        schema = step.target._schema.arguments
        given = dict(zip((a.name for a in schema), step.args, strict=False)) | dict(step.kwargs)
        return {a.name: given.get(a.name, a.default_value) for a in schema}

    def _moving(self, argument: Any) -> Any:
        """Where an argument's value comes from: a place, a list with one for each entry, None if all is constant."""
        if isinstance(argument, torch.fx.Node):
            return self.places.get(argument.name)
        if isinstance(argument, list | tuple):
            places = [self._moving(entry) for entry in argument]
            return places if any(place is not None for place in places) else None
        return None

    def _layer(self, step: Any) -> str:
        return self.owners.get(step.name, "the model")

    def _add(
        self, kind: str, inputs: tuple[int, ...], value: Tensor, layer: str = "the model", **more: Any
    ) -> int:  # fmt: skip
        node = Node(kind, inputs, value.shape, **more)
        if kind == "affine" and not sound(node.function, node.spread, self.network.nodes[inputs[0]].shape):
            raise refusal(layer, "its operation is not the affine map that it was taken for")
        self.network.nodes.append(node)
        return len(self.network.nodes) - 1


def _draws(step: Any) -> bool:
    """Does it draw at random? Attention without dropout bears the mark and does not."""
    if torch.Tag.nondeterministic_seeded not in getattr(step.target, "tags", ()):
        return False
    names = [argument.name for argument in step.target._schema.arguments]
    given = dict(zip(names, step.args, strict=False)) | dict(step.kwargs)
    return not ("dropout_p" in names and given.get("dropout_p", 0.0) == 0.0)


def _needed(answer: Any) -> set[Any]:
    """The graph nodes that the answer is computed from."""
    needed, waiting = {answer}, [answer]
    while waiting:
        for node in waiting.pop().all_input_nodes:
            if node not in needed:
                needed.add(node)
                waiting.append(node)
    return needed


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
    """``model`` as it is (a layer in training mode is not bounded) on inputs like ``example`` [C, H, W].

    A module is copied in float64 first and stays as it is. Raises NotBounded.
    """
    agreement = Agreement(model)
    if isinstance(model, nn.Module):
        model = copy.deepcopy(model).double()
    return Network(model, example[None].double(), agreement)
