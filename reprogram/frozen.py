"""A model that stays as it is for a while: no gradients of its parameters, no training mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def without_parameter_gradients(model: nn.Module) -> Iterator[None]:
    """Inside, no parameter needs a gradient; afterwards those that did before do again."""
    learned = [p for p in model.parameters() if p.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


@contextmanager
def still(model: Any) -> Iterator[None]:
    """Eval mode and no gradients of parameters inside; as it was afterwards."""
    if not isinstance(model, nn.Module):
        yield
        return
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with without_parameter_gradients(model):
            yield
    finally:
        for module, mode in training.items():
            module.training = mode
