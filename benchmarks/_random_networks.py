"""Random small networks for the certificate hunt: operations with proven bounds, and traps that must never be believed.

Every piece maps [N, C, S, S] to the same shape. ``SAFE`` pieces ought to be bounded; ``TRAPS`` ought to be refused. Whatever is
claimed about either must hold.
"""

from __future__ import annotations

import random as chance
from collections.abc import Callable

import numpy as np
import torch
from _random_layers import (
    Apply,
    Attention,
    Checkpointed,
    Counter,
    HiddenSquare,
    Hooked,
    InPlace,
    Norm,
    Piece,
    Recurrent,
    WrongBackward,
    autocast,
    beside_constant,
    branch,
    cropped,
    gate,
    gradient,
    grid,
    layer_of,
    mixed,
    pair_of,
    random_state,
    resized,
    try_item,
    unset,
)
from torch import Tensor, nn
from torch.nn import functional as F

SAFE: dict[str, Piece] = {
    "conv": lambda c, s: nn.Conv2d(c, c, 3, padding=1),
    "conv1": lambda c, s: nn.Conv2d(c, c, 1, bias=False),
    "depthwise": lambda c, s: nn.Conv2d(c, c, 3, padding=1, groups=c),
    "dilated": lambda c, s: nn.Conv2d(c, c, 3, padding=2, dilation=2),
    "transposed": lambda c, s: nn.ConvTranspose2d(c, c, 3, padding=1),
    "circular conv": lambda c, s: nn.Conv2d(c, c, 3, padding=1, padding_mode="replicate"),
    "batch norm": lambda c, s: Norm(c),
    "relu": lambda c, s: nn.ReLU(),
    "relu in place": layer_of(lambda x: F.relu_(x * 1.5)),
    "relu6": lambda c, s: nn.ReLU6(),
    "leaky": lambda c, s: nn.LeakyReLU(chance.choice([0.1, 0.5, -0.5, 1.5])),
    "tanh": lambda c, s: nn.Tanh(),
    "sigmoid": lambda c, s: nn.Sigmoid(),
    "softplus": lambda c, s: nn.Softplus(),
    "silu": lambda c, s: nn.SiLU(),
    "gelu": lambda c, s: nn.GELU(),
    "abs": layer_of(torch.abs),
    "clamp": layer_of(lambda x: x.clamp(-0.2, 0.5)),
    "clamp low": layer_of(lambda x: x.clamp(min=0.1)),
    "clamp high": layer_of(lambda x: x.clamp(max=0.4)),
    "clamp crossed": layer_of(lambda x: x.clamp(0.6, 0.2)),
    "clamp by tensors": beside_constant(lambda x, k: x.clamp(k - 1, k + 0.2)),
    "hardtanh": lambda c, s: nn.Hardtanh(),
    "max pool": lambda c, s: nn.MaxPool2d(3, 1, 1),
    "max pool 2": layer_of(lambda x: F.interpolate(F.max_pool2d(x, 2, 1), size=x.shape[-2:])),
    "average pool": lambda c, s: nn.AvgPool2d(3, 1, 1),
    "average pool, no padding": lambda c, s: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "average pool, divisor": lambda c, s: nn.AvgPool2d(3, 1, 1, divisor_override=2),
    "adaptive": layer_of(lambda x: x + F.adaptive_avg_pool2d(x, 1)),
    "pad": layer_of(lambda x: cropped(x, "constant")),
    "pad reflect": layer_of(lambda x: cropped(x, "reflect")),
    "pad replicate": layer_of(lambda x: cropped(x, "replicate")),
    "bilinear": layer_of(lambda x: resized(x, "bilinear")),
    "bilinear, antialias": layer_of(lambda x: resized(x, "bilinear", antialias=True)),
    "nearest": layer_of(lambda x: resized(x, "nearest")),
    "grid": layer_of(lambda x: grid(x, "bilinear")),
    "roll": layer_of(lambda x: x.roll(1, -1)),
    "flip": layer_of(lambda x: x.flip(-1)),
    "turn": layer_of(lambda x: x.transpose(2, 3)),
    "index": layer_of(lambda x: x[:, [(i + 1) % x.shape[1] for i in range(x.shape[1])]]),
    "cat": layer_of(lambda x: torch.cat([x[..., 1:], x[..., :1]], -1)),
    "cat constant": layer_of(lambda x: torch.cat([x[..., 1:], 0.5 * torch.ones_like(x[..., :1])], -1)),
    "stack": layer_of(lambda x: torch.stack([x, x, -0.5 * x], 0).sum(0)),
    "scale": layer_of(lambda x: -1.5 * x),
    "scale by tensor": beside_constant(lambda x, k: x * k),
    "shift": beside_constant(lambda x, k: x + k),
    "constant minus": beside_constant(lambda x, k: k - x),
    "one minus": layer_of(lambda x: 1 - x),
    "divide": beside_constant(lambda x, k: x / (k.abs() + 0.5)),
    "add with alpha": pair_of(lambda x, y: torch.add(x, y, alpha=-0.5)),
    "double": layer_of(lambda x: x + x),
    "relu twice": layer_of(lambda x: F.relu(x) + F.relu(x)),
    "doubled relu": layer_of(lambda x: (lambda r: r + r)(F.relu(x))),
    "tripled": layer_of(lambda x: (lambda r: r + r + r)(F.relu(x))),
    "minus itself": layer_of(lambda x: x - x.roll(1, -1)),
    "residual": pair_of(lambda x, y: x + F.relu(y)),
    "difference": pair_of(lambda x, y: F.relu(x) - torch.tanh(y)),
    "maximum": pair_of(torch.maximum),
    "minimum": pair_of(torch.minimum),
    "minus mean": layer_of(lambda x: x - x.mean((2, 3), keepdim=True)),
    "minus whole mean": layer_of(lambda x: x - x.mean((1, 2, 3), keepdim=True)),
    "sum": layer_of(lambda x: x + 0.1 * x.sum((1, 2), keepdim=True)),
    "einsum": lambda c, s: (lambda w: Apply(lambda x: mixed(x, w)))(torch.randn(c, c)),
    "linear over pixels": lambda c, s: nn.Linear(s, s),
    "detach": layer_of(lambda x: x.detach()),
    "plus detach": layer_of(lambda x: x + x.detach()),
    "checkpoint": lambda c, s: Checkpointed(c),
    "frame in place": lambda c, s: InPlace(),
    "hook": lambda c, s: Hooked(c, lambda y: 0.5 * y + 0.1),
    "identity": lambda c, s: nn.Identity(),
    "dropout, resting": lambda c, s: nn.Dropout(0.5).eval(),
}


TRAPS: dict[str, Piece] = {
    "square": layer_of(lambda x: x * x),
    "gelu by tanh": lambda c, s: nn.GELU(approximate="tanh"),
    "softplus of another bend": lambda c, s: nn.Softplus(beta=3),
    "one minus square": layer_of(lambda x: 1 - x * x),
    "power": layer_of(lambda x: x**2),
    "hidden square": layer_of(HiddenSquare.apply),
    "wrong backward": layer_of(WrongBackward.apply),
    "product": pair_of(lambda x, y: x * torch.sigmoid(y)),
    "divide by itself": pair_of(lambda x, y: x / (y.abs() + 0.5)),
    "reciprocal": layer_of(lambda x: 1 / (x.abs() + 0.3)),
    "softmax": layer_of(lambda x: x.softmax(-1)),
    "softmax over channels": lambda c, s: nn.Softmax2d(),
    "layer norm": lambda c, s: nn.LayerNorm(s),
    "group norm": lambda c, s: nn.GroupNorm(1, c),
    "instance norm": lambda c, s: nn.InstanceNorm2d(c, affine=True),
    "batch statistics": lambda c, s: Norm(c, training=True),
    "batch statistics, no running ones": lambda c, s: nn.BatchNorm2d(c, track_running_stats=False),
    "dropout that stays on": layer_of(lambda x: F.dropout(x, 0.5, training=True)),
    "feature dropout": layer_of(lambda x: F.dropout2d(x, 0.5, training=True)),
    "noise": layer_of(lambda x: x + 0.2 * torch.randn_like(x)),
    "python random": layer_of(random_state),
    "numpy random": layer_of(lambda x: x + float(np.random.rand())),  # noqa: NPY002
    "sort": layer_of(lambda x: x.sort(-1).values),
    "top k": layer_of(lambda x: x.topk(x.shape[-1], -1).values),
    "median": layer_of(lambda x: x - x.median(-1, keepdim=True).values),
    "argmax gate": layer_of(gate),
    "threshold": layer_of(lambda x: torch.where(x > 0.3, x, torch.zeros_like(x))),
    "hard gate": layer_of(lambda x: x * (x > 0.3)),
    "round": layer_of(lambda x: torch.round(x * 4) / 4),
    "round with a straight-through gradient": layer_of(lambda x: x + (torch.round(x * 4) / 4 - x).detach()),
    "floor": layer_of(torch.floor),
    "sign": layer_of(torch.sign),
    "integers": layer_of(lambda x: (x * 4).long().to(x) / 4),
    "bytes": layer_of(lambda x: (x * 255).to(torch.uint8).to(x) / 255),
    "half": layer_of(lambda x: (x * 40).half().to(x) / 40),
    "bfloat": layer_of(lambda x: x.bfloat16().to(x)),
    "autocast": layer_of(autocast),
    "branch": layer_of(branch),
    "branch on a number": layer_of(lambda x: x * 2 if float(x.max()) > 0.5 else x),
    "branch on data": layer_of(lambda x: x * 2 if float(x.data.max()) > 0.5 else x),
    "item": layer_of(lambda x: x * x.mean().item()),
    "item, caught": layer_of(try_item),
    "list": layer_of(lambda x: x * sum(x.flatten().tolist())),
    "numpy": layer_of(lambda x: x + torch.from_numpy(np.tanh(x.detach().cpu().numpy())).to(x)),
    "array branch": layer_of(lambda x: x * 2 if np.asarray(x.detach()).max() > 0.4 else x),
    "text": layer_of(lambda x: x * (1 + len(str(float(x.mean()))) % 3)),
    "data": layer_of(lambda x: x + x.data * x.data),
    "set data": layer_of(unset),
    "attribute counter": lambda c, s: Counter("attribute"),
    "dictionary counter": lambda c, s: Counter("dictionary"),
    "buffer counter": lambda c, s: Counter("buffer"),
    "running average": lambda c, s: Counter("average"),
    "minus batch mean": layer_of(lambda x: x - x.mean(0, keepdim=True)),
    "over batch maximum": layer_of(lambda x: x - x.amax(0, keepdim=True)),
    "batch size": layer_of(lambda x: x * len(x)),
    "large batches": layer_of(lambda x: x if len(x) < 20 else -x),
    "gradient mode": layer_of(lambda x: x if torch.is_grad_enabled() else 0.5 * x),
    "asks for gradients": layer_of(lambda x: x if x.requires_grad else -x),
    "precision": layer_of(lambda x: x if x.dtype == torch.float64 else 0.7 * x),
    "exponential": layer_of(lambda x: torch.exp(x.clamp(max=2))),
    "logarithm": layer_of(lambda x: torch.log(x.abs() + 0.2)),
    "root": layer_of(lambda x: torch.sqrt(x.abs() + 0.01)),
    "sine": layer_of(lambda x: torch.sin(3 * x)),
    "elu": lambda c, s: nn.ELU(),
    "hardswish": lambda c, s: nn.Hardswish(),
    "prelu": lambda c, s: nn.PReLU(),
    "random relu": layer_of(lambda x: F.rrelu(x, training=True)),
    "unit length": layer_of(lambda x: F.normalize(x, dim=1)),
    "standardised": layer_of(lambda x: (x - x.mean((1, 2, 3), keepdim=True)) / (x.std((1, 2, 3), keepdim=True) + 0.1)),
    "attention": lambda c, s: Attention(c),
    "recurrent": lambda c, s: Recurrent(c),
    "cumulative product": layer_of(lambda x: x.cumprod(-1)),
    "bicubic": layer_of(lambda x: resized(x, "bicubic")),
    "bicubic grid": layer_of(lambda x: grid(x, "bicubic")),
    "moving grid": layer_of(lambda x: grid(x, "bilinear", moving=True)),
    "moving index": layer_of(lambda x: x[:, (x.mean((0, 2, 3)) > 0).long()]),
    "gather": layer_of(lambda x: x.gather(-1, x.argsort(-1))),
    "fourier": layer_of(lambda x: torch.fft.fft(x, dim=-1).abs()),
    "max pool places": layer_of(lambda x: x + F.max_pool2d(x, 3, 1, 1, return_indices=True)[1].to(x) / 9),
    "max pool, dilated": layer_of(lambda x: F.max_pool2d(F.pad(x, (2, 2, 2, 2)), 3, 1, 0, 2)),
    "negative divisor": lambda c, s: nn.AvgPool2d(3, 1, 1, divisor_override=-3),
    "hook with a square": lambda c, s: Hooked(c, lambda y: y * y),
    "gradient inside": layer_of(gradient),
    "learned backwards": layer_of(lambda x: x * (x.detach() + 0.5)),
    "infinite": layer_of(lambda x: x + (x * 1e308) * 10),
}


class Network(nn.Module):
    """Pieces in a row, some with a shortcut around them or a wider value kept for later, then a linear reader."""

    def __init__(self, pieces: list[Callable[[Tensor], Tensor]], ways: list[str], shape: tuple[int, int], classes: int) -> None:
        super().__init__()
        channels, side = shape
        self.pieces, self.ways = nn.ModuleList(pieces), ways  # type: ignore[arg-type]
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.reader = nn.Linear(channels * side * side, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = kept = self.stem(x)
        for piece, way in zip(self.pieces, self.ways, strict=True):
            made = piece(x)
            x = made + x if way == "shortcut" else made + kept if way == "kept" else made
        return self.reader(x.flatten(1))


def network(names: list[str], seed: int, ways: list[str] | None = None) -> tuple[Network, Tensor]:
    """A network with these pieces, and a point [1, S, S] in [0, 1] to certify it at."""
    torch.manual_seed(seed)
    chance.seed(seed)
    shape, classes = (chance.choice([1, 2, 3]), chance.choice([3, 4, 5])), chance.choice([2, 3, 4])
    pieces = [(SAFE | TRAPS)[name](*shape) for name in names]
    modules = [piece if isinstance(piece, nn.Module) else Apply(piece) for piece in pieces]
    net = Network(modules, ways or ["plain"] * len(names), shape, classes)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(chance.choice([1.0, 2.0]))
    centre = torch.rand(1, shape[1], shape[1])
    if chance.random() < 0.3:
        centre = centre.round()  # pixels at the ends of their range
    return net.requires_grad_(False), centre


def random_network(seed: int, traps: float = 0.4) -> tuple[Network, Tensor, list[str]]:
    """One to five pieces, with a trap among them at a chance of ``traps``; sometimes left in training mode."""
    drawn = chance.Random(seed)
    names = [drawn.choice(list(SAFE)) for _ in range(drawn.randint(1, 5))]
    if drawn.random() < traps:
        names.insert(drawn.randint(0, len(names)), drawn.choice(list(TRAPS)))
    ways = [drawn.choice(["plain", "plain", "shortcut", "kept"]) for _ in names]
    net, centre = network(names, seed, ways)
    if drawn.random() < 0.9:
        net.eval()
    if drawn.random() < 0.5:
        net, centre = net.double(), centre.double()
    return net, centre, names
