"""Small image classifiers of this project: for models of one's own that are inspected, washed and strengthened.

Three architectures: ``plain`` (no normalisation), ``normalised`` (BatchNorm) and ``residual`` (a small ResNet). Weights
are read from safetensors alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reprogram.errors import SourceError, nearest
from reprogram.interfaces import SourceModel, SourceOutput, SourceSpec, Tap
from reprogram.pixels import resize
from reprogram.ranges import Range, Seed, Side
from reprogram.sources._labels import MOST_LABELS, read_labels
from reprogram.sources._safetensors import load_safetensors

LARGEST_SIDE = 512  # pixels; the widest layer of ``plain`` then takes 67 MB


class SmallCNN(SourceModel):
    """A few convolutions for images of ``size`` x ``size`` pixels (8 or more) in [0, 1], ``channels`` 1 or 3.

    labels: class names, or how many there are. weights: a safetensors file that ``task=wash``, ``task=strengthen`` or
    ``safetensors.torch.save_file(source.state_dict(), FILE)`` wrote; None: untrained, drawn by ``seed``.
    """

    def __init__(
        self,
        architecture: str = "normalised",
        size: Side = 28,
        channels: Annotated[int, Range(1, 16)] = 1,
        labels: Sequence[str] | str | int = 10,
        weights: str | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise SourceError(f"source.architecture={architecture} is unknown; {nearest(architecture, ARCHITECTURES)}.")
        if size < 8:
            raise SourceError(f"source.size={size} is too small for three strides of 2; allowed: 8 or more.")
        if size > LARGEST_SIDE or not 1 <= channels <= 4:
            raise SourceError(
                f"source.size={size} and source.channels={channels} are not possible; allowed: 8 to {LARGEST_SIDE} pixels "
                "in 1 to 4 channels."
            )
        if isinstance(labels, int) and not 2 <= labels <= MOST_LABELS:
            raise SourceError(f"source.labels={labels:,} is not possible; allowed: 2 to {MOST_LABELS:,} labels.")
        names = tuple(f"label {i}" for i in range(labels)) if isinstance(labels, int) else read_labels(labels)
        if isinstance(labels, str):  # a kept program holds the names, not the path of a file of this machine
            self.options = self.options | {"labels": list(names)}
        self.name, self.architecture = f"small_cnn ({architecture})", architecture
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body, features = ARCHITECTURES[architecture](channels, size)
            self.head = nn.Linear(features, len(names))
        self.spec = SourceSpec("image", size, names, channels, features)
        if weights is not None:
            load_safetensors(self, Path(weights))
        self.freeze()

    def answer(self, source_input: Tensor, taps: Sequence[Tap] = ()) -> SourceOutput:
        """Pixels in [0, 1], [B, C, h, w], resized to the model's size -> logits [B, S] and features."""
        features = self.body(2 * resize(source_input, self.spec.size) - 1)
        return SourceOutput(self.head(features), features)

    def with_random_weights(self, seed: Seed) -> SmallCNN:
        """The same architecture, untrained."""
        spec = self.spec
        return SmallCNN(self.architecture, spec.size, spec.channels, spec.labels, seed=seed)


class _Residual(nn.Module):
    """Two 3x3 convolutions with BatchNorm beside a 1x1 shortcut (He et al. 2016, arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(inputs, outputs, 2), _convolution(outputs, outputs, 1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))


def _plain(channels: Annotated[int, Range(1, 16)], size: Side) -> tuple[nn.Module, int]:
    first = nn.Sequential(nn.Conv2d(channels, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 5, 2, 2), nn.ReLU())
    quarter = (size + 3) // 4
    return nn.Sequential(first, nn.Flatten(), nn.Linear(16 * quarter**2, 64), nn.ReLU()), 64


def _normalised(channels: Annotated[int, Range(1, 16)], size: Side) -> tuple[nn.Module, int]:
    layers = (
        _convolution(channels, 16, 2), nn.ReLU(), _convolution(16, 24, 2), nn.ReLU(), _convolution(24, 24, 1), nn.ReLU(),
    )  # fmt: skip
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten()), 96


def _residual(channels: Annotated[int, Range(1, 16)], size: Side) -> tuple[nn.Module, int]:
    layers = (_convolution(channels, 16, 2), nn.ReLU(), _Residual(16, 24), _Residual(24, 32))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2 if size > 8 else 1), nn.Flatten()), 128 if size > 8 else 32


ARCHITECTURES: dict[str, Callable[[int, int], tuple[nn.Module, int]]] = {
    "plain": _plain,
    "normalised": _normalised,
    "residual": _residual,
}
