"""A reprogrammed model, or any torch classifier, as an estimator of the Adversarial Robustness Toolbox."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError


class _Float(nn.Module):
    """ART hands float64 images to float32 weights (its issue 2475); this hands on float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.float())


def to_art(model: nn.Module, input_shape: tuple[int, ...] | None = None, classes: int | None = None) -> Any:
    """``art.estimators.classification.PyTorchClassifier`` with pixels in [0, 1].

    input_shape, classes: (C, H, W) and the number of classes; a ReprogrammedModel knows both. Raises ConfigError when
    they are missing, or when ART is not installed.
    """
    try:
        from art.estimators.classification import PyTorchClassifier
    except ImportError as error:
        raise ConfigError("to_art needs ART: pip install adversarial-robustness-toolbox.") from error
    target = getattr(model, "target", None)
    shape = input_shape or getattr(target, "input_shape", None)
    count = classes or len(getattr(target, "classes", ()))
    if shape is None or not count:
        raise ConfigError(
            "to_art needs input_shape=(channels, height, width) and classes= for a model that has no target."
        )
    model.eval()
    return PyTorchClassifier(
        model=_Float(model),
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(shape),
        nb_classes=count,
        clip_values=(0.0, 1.0),
        device_type="gpu" if next(iter(model.parameters()), torch.zeros(1)).is_cuda else "cpu",
    )
