"""One pass of a model written down as a graph of tensor operations, without a value of its input leaking out of it.

``make_fx`` sees every tensor operation, but not what Python code does with numbers that it takes out of a tensor: those
would be written down as constants. :class:`Watch` therefore refuses whatever reads values out of the input, and notes
which layer each operation belongs to, so that a refusal can name it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import get_proxy_mode, make_fx
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from reprogram.errors import ReprogramError


class NotBounded(ReprogramError):
    """The model, or a layer of it, has no proven bounds."""


READS = {  # methods that take numbers, memory or storage out of a tensor
    "numpy", "__array__", "tolist", "item", "__bool__", "__float__", "__int__", "__index__", "__complex__", "__format__",
    "__repr__", "__str__", "data_ptr", "untyped_storage", "storage", "_typed_storage", "__dlpack__", "__deepcopy__",
    "__reduce_ex__", "is_nonzero", "equal", "allclose", "__contains__", "set_", "from_dlpack", "to_dlpack",
}  # fmt: skip
RAW = (torch.Tensor.data.__get__, torch.Tensor.data.__set__)  # type: ignore[attr-defined]


class Watch(TorchFunctionMode):
    """Inside, reading values that depend on the input is refused; ``owners``: graph node name -> layer."""

    def __init__(self, names: dict[nn.Module, str]) -> None:
        super().__init__()
        self.names, self.layers, self.seen = names, ["the model"], 0
        self.owners: dict[str, str] = {}
        self.refused: NotBounded | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if any(map(torch.is_autocast_enabled, ("cpu", "cuda"))):
            self.refused = refusal(self.layers[-1], "it computes in mixed precision (autocast)")
            raise self.refused
        if (name in READS or func in RAW) and any(map(_moves, args)):
            self.refused = refusal(
                self.layers[-1], f"it reads values out of its tensors ({'data' if name.startswith('__') else name})"
            )
            raise self.refused
        found = func(*args, **(kwargs or {}))
        self._own()
        return found

    def _own(self) -> None:
        mode = get_proxy_mode()
        if mode is None:
            return
        nodes = mode.tracer.graph.nodes
        for _, node in zip(range(len(nodes) - self.seen), reversed(nodes), strict=False):
            self.owners.setdefault(node.name, self.layers[-1])
        self.seen = len(nodes)

    def enter(self, module: nn.Module, inputs: Any) -> None:
        """Before a layer: it becomes the innermost one."""
        name, kind = self.names.get(module), type(module).__name__
        self.layers.append(f"the layer {name!r} ({kind})" if name else self.layers[0] if name == "" else f"a {kind}")

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """After a layer: the one around it is the innermost again."""
        self.layers.pop()

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Within this block every layer is watched."""
        before, after = register_module_forward_pre_hook(self.enter), register_module_forward_hook(self.leave)
        try:
            with self:
                yield
        finally:
            before.remove()
            after.remove()


def _moves(value: Any) -> bool:
    """While recording, exactly the tensors that were computed in the pass (or are its input) are wrapped."""
    return isinstance(value, Tensor) and torch._C._functorch.is_functionaltensor(value)  # type: ignore[attr-defined]


def refusal(layer: str, why: str) -> NotBounded:
    """The error that names the layer and the reason why it is not bounded."""
    return NotBounded(f"There are no linear bounds for {layer}: {why}.")


def written_down(model: Callable[[Tensor], Tensor], example: Tensor) -> tuple[Any, dict[str, str]]:
    """The graph of one pass over ``example`` and the layer of each of its nodes. Raises NotBounded."""
    names = {module: name for name, module in model.named_modules()} if isinstance(model, nn.Module) else {}
    watch = Watch(names)

    def watched(x: Tensor) -> Tensor:
        with watch.hooked():
            return model(x)

    try:
        with torch.no_grad():
            # functional: a frame that is written around an image in place becomes a map of the image
            graph = make_fx(functionalize(watched, remove="mutations"), pre_dispatch=False)(example)
    except NotBounded:
        raise
    except Exception as error:  # whatever a model's own code raises when it is recorded
        if watch.refused is not None:
            raise watch.refused from error
        raise refusal(watch.layers[-1], f"its pass cannot be recorded ({_said(error)})") from error
    if watch.refused is not None:  # the model's own code caught it
        raise watch.refused
    return graph, watch.owners


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:120].rstrip(".")
