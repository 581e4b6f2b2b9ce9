"""auto_LiRPA 0.3, the release on the package index, on a PyTorch of today: four names that have moved since are put back."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# its patches know no LeakyReLU, and its sparse bounds fail an assertion of alpha-CROWN
OPTIONS = {"verbosity": 0, "conv_mode": "matrix", "sparse_intermediate_bounds": False}


def prepare() -> None:
    """Before ``import auto_LiRPA``."""
    import torch.onnx.symbolic_helper as helper
    import torch.onnx.utils as utils
    from torch.onnx._internal.torchscript_exporter import utils as exporter
    from torch.onnx._internal.torchscript_exporter._globals import GLOBALS

    sets: Any = types.ModuleType("numpy.lib.arraysetops")
    sets.isin = np.isin
    sys.modules.setdefault("numpy.lib.arraysetops", sets)
    names: Any = helper
    names._set_opset_version = lambda version: setattr(GLOBALS, "export_onnx_opset_version", version)
    names = utils
    names._optimize_graph = exporter._optimize_graph
    names = torch._C.Node
    names.__getitem__ = lambda node, key: getattr(node, node.kindOf(key))(key)


class Lirpa:
    """Lower bounds of rows times the answers of one model in a box, as auto_LiRPA has them."""

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        prepare()
        from auto_LiRPA import BoundedModule

        class Bounded(BoundedModule):  # type: ignore[misc]
            def _named_members(self, *args: Any, remove_duplicate: bool = True, **more: Any) -> Any:
                return super()._named_members(*args, **more)

        self.bounded = Bounded(model, example, bound_opts=OPTIONS)

    def lower(self, centre: Tensor, low: Tensor, high: Tensor, rows: Tensor, method: str, steps: int) -> Tensor:
        """[R]: ``method`` is ``CROWN`` or ``CROWN-Optimized`` (alpha-CROWN, ``steps`` iterations)."""
        from auto_LiRPA import BoundedTensor
        from auto_LiRPA.perturbations import PerturbationLpNorm

        self.bounded.set_bound_opts({"optimize_bound_args": {"iteration": steps, "ob_iteration": steps}})
        box = PerturbationLpNorm(norm=np.inf, eps=float((high - low).max() / 2), x_L=low, x_U=high)
        found = self.bounded.compute_bounds(
            (BoundedTensor(centre, box),), C=rows[None], method=method, bound_upper=False
        )
        return found[0].detach().flatten()
