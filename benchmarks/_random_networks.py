"""Random small networks for the certificate hunt: operations with proven bounds, and traps that must never be believed.

Every piece maps [N, C, S, S] to the same shape. ``SAFE`` pieces ought to be bounded; ``TRAPS`` ought to be refused. Whatever is
claimed about either must hold.
"""

from __future__ import annotations

import random as chance
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

Piece = Callable[[int, int], Callable[[Tensor], Tensor]]  # (channels, side) -> the piece


class Apply(nn.Module):
    """A function of a tensor as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Two(nn.Module):
    """``join`` of a value and what a convolution makes of it."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor], channels: int) -> None:
        super().__init__()
        self.join, self.inner = join, nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(x, self.inner(x))


class WrongBackward(torch.autograd.Function):
    """ReLU with a backward pass that misleads whoever trusts it."""

    @staticmethod
    def forward(x):
        return x.clamp(min=0)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return -3 * gradient


class HiddenSquare(WrongBackward):
    """x² that says it is linear."""

    @staticmethod
    def forward(x):
        return x * x


class Checkpointed(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, x, use_reentrant=False)


class Norm(nn.Module):
    """Batch normalisation with running statistics that are not 0 and 1."""

    def __init__(self, channels: int, training: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.norm.running_mean.normal_(0, 0.3)
        self.norm.running_var.uniform_(0.3, 2)
        self.norm.weight.data.normal_()
        self.norm.bias.data.normal_(0, 0.3)
        self.hold = training

    def forward(self, x: Tensor) -> Tensor:
        self.norm.training = self.hold
        return self.norm(x)


class Counter(nn.Module):
    """State that grows with every pass; ``how`` says where it is kept."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.calls, self.box = how, 0, {"calls": 0}
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "attribute":
            self.calls += 1
            return x * (1 + 0.2 * (self.calls % 3))
        if self.how == "dictionary":
            self.box["calls"] += 1
            return x + 0.1 * self.box["calls"]
        if self.how == "buffer":
            self.seen += 1
            return x * (1 + self.seen.to(x) * 0.1)
        self.seen.mul_(0.9).add_(x.detach().mean().to(self.seen) * 0.1)
        return x - self.seen.to(x)


class Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).transpose(1, 2)
        weights = (self.query(rows) @ rows.transpose(1, 2)).softmax(-1)
        return (weights @ rows).transpose(1, 2).reshape(x.shape)


class Hooked(nn.Module):
    """A convolution whose forward hook changes its output."""

    def __init__(self, channels: int, hook: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner = nn.Conv2d(channels, channels, 1)
        self.inner.register_forward_hook(lambda module, inputs, output: hook(output))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class InPlace(nn.Module):
    """A frame written around the image, slice by slice."""

    def forward(self, x: Tensor) -> Tensor:
        frame = torch.ones_like(x) * 0.3
        frame[..., 1:, :] = x[..., 1:, :]
        return frame


class Recurrent(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.GRU(channels, channels, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.flatten(2).transpose(1, 2))[0].transpose(1, 2).reshape(x.shape)


def _of(function: Callable[[Tensor], Tensor]) -> Piece:
    return lambda c, s: Apply(function)


def _two(join: Callable[[Tensor, Tensor], Tensor]) -> Piece:
    return lambda c, s: Two(join, c)


def _constant(function: Callable[[Tensor, Tensor], Tensor]) -> Piece:
    """With a constant [1, C, S, S] beside the value."""

    def make(c: int, s: int) -> nn.Module:
        constant = torch.randn(1, c, s, s)
        return Apply(lambda x: function(x, constant.to(x)))

    return make


def _grid(x: Tensor, mode: str, moving: bool = False) -> Tensor:
    theta = torch.tensor([[[0.9, 0.2, 0.1], [-0.2, 0.9, 0.0]]]).to(x).expand(len(x), 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    grid = grid + 0.3 * x[:, :1].permute(0, 2, 3, 1) if moving else grid
    return F.grid_sample(x, grid, mode=mode, align_corners=False)


def _resized(x: Tensor, mode: str, **more: bool) -> Tensor:
    up = F.interpolate(x, size=(x.shape[-1] + 2,) * 2, mode=mode, **more)
    return F.interpolate(up, size=x.shape[-2:], mode=mode, **more)


def _cropped(x: Tensor, mode: str) -> Tensor:
    return F.pad(x, (1, 1, 1, 1), mode=mode)[..., 2:, :-2] if mode != "constant" else F.pad(x, (1, -1, -1, 1), value=0.4)


def _mixed(x: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("nchw,dc->ndhw", x, weight.to(x))


SAFE: dict[str, Piece] = {
    "conv": lambda c, s: nn.Conv2d(c, c, 3, padding=1),
    "conv1": lambda c, s: nn.Conv2d(c, c, 1, bias=False),
    "depthwise": lambda c, s: nn.Conv2d(c, c, 3, padding=1, groups=c),
    "dilated": lambda c, s: nn.Conv2d(c, c, 3, padding=2, dilation=2),
    "transposed": lambda c, s: nn.ConvTranspose2d(c, c, 3, padding=1),
    "circular conv": lambda c, s: nn.Conv2d(c, c, 3, padding=1, padding_mode="replicate"),
    "batch norm": lambda c, s: Norm(c),
    "relu": lambda c, s: nn.ReLU(),
    "relu in place": _of(lambda x: F.relu_(x * 1.5)),
    "relu6": lambda c, s: nn.ReLU6(),
    "leaky": lambda c, s: nn.LeakyReLU(chance.choice([0.1, 0.5, -0.5, 1.5])),
    "tanh": lambda c, s: nn.Tanh(),
    "sigmoid": lambda c, s: nn.Sigmoid(),
    "abs": _of(torch.abs),
    "clamp": _of(lambda x: x.clamp(-0.2, 0.5)),
    "clamp low": _of(lambda x: x.clamp(min=0.1)),
    "clamp high": _of(lambda x: x.clamp(max=0.4)),
    "clamp crossed": _of(lambda x: x.clamp(0.6, 0.2)),
    "clamp by tensors": _constant(lambda x, k: x.clamp(k - 1, k + 0.2)),
    "hardtanh": lambda c, s: nn.Hardtanh(),
    "max pool": lambda c, s: nn.MaxPool2d(3, 1, 1),
    "max pool 2": _of(lambda x: F.interpolate(F.max_pool2d(x, 2, 1), size=x.shape[-2:])),
    "average pool": lambda c, s: nn.AvgPool2d(3, 1, 1),
    "average pool, no padding": lambda c, s: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "average pool, divisor": lambda c, s: nn.AvgPool2d(3, 1, 1, divisor_override=2),
    "adaptive": _of(lambda x: x + F.adaptive_avg_pool2d(x, 1)),
    "pad": _of(lambda x: _cropped(x, "constant")),
    "pad reflect": _of(lambda x: _cropped(x, "reflect")),
    "pad replicate": _of(lambda x: _cropped(x, "replicate")),
    "bilinear": _of(lambda x: _resized(x, "bilinear")),
    "bilinear, antialias": _of(lambda x: _resized(x, "bilinear", antialias=True)),
    "nearest": _of(lambda x: _resized(x, "nearest")),
    "grid": _of(lambda x: _grid(x, "bilinear")),
    "roll": _of(lambda x: x.roll(1, -1)),
    "flip": _of(lambda x: x.flip(-1)),
    "turn": _of(lambda x: x.transpose(2, 3)),
    "index": _of(lambda x: x[:, [(i + 1) % x.shape[1] for i in range(x.shape[1])]]),
    "cat": _of(lambda x: torch.cat([x[..., 1:], x[..., :1]], -1)),
    "cat constant": _of(lambda x: torch.cat([x[..., 1:], 0.5 * torch.ones_like(x[..., :1])], -1)),
    "stack": _of(lambda x: torch.stack([x, x, -0.5 * x], 0).sum(0)),
    "scale": _of(lambda x: -1.5 * x),
    "scale by tensor": _constant(lambda x, k: x * k),
    "shift": _constant(lambda x, k: x + k),
    "constant minus": _constant(lambda x, k: k - x),
    "one minus": _of(lambda x: 1 - x),
    "divide": _constant(lambda x, k: x / (k.abs() + 0.5)),
    "add with alpha": _two(lambda x, y: torch.add(x, y, alpha=-0.5)),
    "double": _of(lambda x: x + x),
    "relu twice": _of(lambda x: F.relu(x) + F.relu(x)),
    "doubled relu": _of(lambda x: (lambda r: r + r)(F.relu(x))),
    "tripled": _of(lambda x: (lambda r: r + r + r)(F.relu(x))),
    "minus itself": _of(lambda x: x - x.roll(1, -1)),
    "residual": _two(lambda x, y: x + F.relu(y)),
    "difference": _two(lambda x, y: F.relu(x) - torch.tanh(y)),
    "maximum": _two(torch.maximum),
    "minimum": _two(torch.minimum),
    "minus mean": _of(lambda x: x - x.mean((2, 3), keepdim=True)),
    "minus whole mean": _of(lambda x: x - x.mean((1, 2, 3), keepdim=True)),
    "sum": _of(lambda x: x + 0.1 * x.sum((1, 2), keepdim=True)),
    "einsum": lambda c, s: (lambda w: Apply(lambda x: _mixed(x, w)))(torch.randn(c, c)),
    "linear over pixels": lambda c, s: nn.Linear(s, s),
    "detach": _of(lambda x: x.detach()),
    "plus detach": _of(lambda x: x + x.detach()),
    "checkpoint": lambda c, s: Checkpointed(c),
    "frame in place": lambda c, s: InPlace(),
    "hook": lambda c, s: Hooked(c, lambda y: 0.5 * y + 0.1),
    "identity": lambda c, s: nn.Identity(),
    "dropout, resting": lambda c, s: nn.Dropout(0.5).eval(),
}


def _gate(x: Tensor) -> Tensor:
    return x * F.one_hot(x.flatten(1).argmax(1) % 2, 2).to(x)[:, :1, None, None]


def _branch(x: Tensor) -> Tensor:
    return x if x.mean() > 0.3 else -x


def _random_state(x: Tensor) -> Tensor:
    return x * (1 + 0.5 * chance.random())


def _gradient(x: Tensor) -> Tensor:
    with torch.enable_grad():
        y = x.detach().requires_grad_(True)
        return x + 0.1 * torch.autograd.grad(y.pow(3).sum(), y)[0]


def _try_item(x: Tensor) -> Tensor:
    try:
        return x * x.mean().item()
    except Exception:
        return x


def _unset(x: Tensor) -> Tensor:
    y = x.clone()
    y.data = y.data * y.data
    return y


def _autocast(x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return (x.flatten(2) @ torch.eye(x.shape[-1] ** 2).to(x)).view(x.shape).to(x)


TRAPS: dict[str, Piece] = {
    "square": _of(lambda x: x * x),
    "one minus square": _of(lambda x: 1 - x * x),
    "power": _of(lambda x: x**2),
    "hidden square": _of(HiddenSquare.apply),
    "wrong backward": _of(WrongBackward.apply),
    "product": _two(lambda x, y: x * torch.sigmoid(y)),
    "divide by itself": _two(lambda x, y: x / (y.abs() + 0.5)),
    "reciprocal": _of(lambda x: 1 / (x.abs() + 0.3)),
    "softmax": _of(lambda x: x.softmax(-1)),
    "softmax over channels": lambda c, s: nn.Softmax2d(),
    "layer norm": lambda c, s: nn.LayerNorm(s),
    "group norm": lambda c, s: nn.GroupNorm(1, c),
    "instance norm": lambda c, s: nn.InstanceNorm2d(c, affine=True),
    "batch statistics": lambda c, s: Norm(c, training=True),
    "batch statistics, no running ones": lambda c, s: nn.BatchNorm2d(c, track_running_stats=False),
    "dropout that stays on": _of(lambda x: F.dropout(x, 0.5, training=True)),
    "feature dropout": _of(lambda x: F.dropout2d(x, 0.5, training=True)),
    "noise": _of(lambda x: x + 0.2 * torch.randn_like(x)),
    "python random": _of(_random_state),
    "numpy random": _of(lambda x: x + float(np.random.rand())),  # noqa: NPY002
    "sort": _of(lambda x: x.sort(-1).values),
    "top k": _of(lambda x: x.topk(x.shape[-1], -1).values),
    "median": _of(lambda x: x - x.median(-1, keepdim=True).values),
    "argmax gate": _of(_gate),
    "threshold": _of(lambda x: torch.where(x > 0.3, x, torch.zeros_like(x))),
    "hard gate": _of(lambda x: x * (x > 0.3)),
    "round": _of(lambda x: torch.round(x * 4) / 4),
    "round with a straight-through gradient": _of(lambda x: x + (torch.round(x * 4) / 4 - x).detach()),
    "floor": _of(torch.floor),
    "sign": _of(torch.sign),
    "integers": _of(lambda x: (x * 4).long().to(x) / 4),
    "bytes": _of(lambda x: (x * 255).to(torch.uint8).to(x) / 255),
    "half": _of(lambda x: (x * 40).half().to(x) / 40),
    "bfloat": _of(lambda x: x.bfloat16().to(x)),
    "autocast": _of(_autocast),
    "branch": _of(_branch),
    "branch on a number": _of(lambda x: x * 2 if float(x.max()) > 0.5 else x),
    "branch on data": _of(lambda x: x * 2 if float(x.data.max()) > 0.5 else x),
    "item": _of(lambda x: x * x.mean().item()),
    "item, caught": _of(_try_item),
    "list": _of(lambda x: x * sum(x.flatten().tolist())),
    "numpy": _of(lambda x: x + torch.from_numpy(np.tanh(x.detach().cpu().numpy())).to(x)),
    "array branch": _of(lambda x: x * 2 if np.asarray(x.detach()).max() > 0.4 else x),
    "text": _of(lambda x: x * (1 + len(str(float(x.mean()))) % 3)),
    "data": _of(lambda x: x + x.data * x.data),
    "set data": _of(_unset),
    "attribute counter": lambda c, s: Counter("attribute"),
    "dictionary counter": lambda c, s: Counter("dictionary"),
    "buffer counter": lambda c, s: Counter("buffer"),
    "running average": lambda c, s: Counter("average"),
    "minus batch mean": _of(lambda x: x - x.mean(0, keepdim=True)),
    "over batch maximum": _of(lambda x: x - x.amax(0, keepdim=True)),
    "batch size": _of(lambda x: x * len(x)),
    "large batches": _of(lambda x: x if len(x) < 20 else -x),
    "gradient mode": _of(lambda x: x if torch.is_grad_enabled() else 0.5 * x),
    "asks for gradients": _of(lambda x: x if x.requires_grad else -x),
    "precision": _of(lambda x: x if x.dtype == torch.float64 else 0.7 * x),
    "exponential": _of(lambda x: torch.exp(x.clamp(max=2))),
    "logarithm": _of(lambda x: torch.log(x.abs() + 0.2)),
    "root": _of(lambda x: torch.sqrt(x.abs() + 0.01)),
    "sine": _of(lambda x: torch.sin(3 * x)),
    "gelu": lambda c, s: nn.GELU(),
    "silu": lambda c, s: nn.SiLU(),
    "softplus": lambda c, s: nn.Softplus(),
    "elu": lambda c, s: nn.ELU(),
    "hardswish": lambda c, s: nn.Hardswish(),
    "prelu": lambda c, s: nn.PReLU(),
    "random relu": _of(lambda x: F.rrelu(x, training=True)),
    "unit length": _of(lambda x: F.normalize(x, dim=1)),
    "standardised": _of(lambda x: (x - x.mean((1, 2, 3), keepdim=True)) / (x.std((1, 2, 3), keepdim=True) + 0.1)),
    "attention": lambda c, s: Attention(c),
    "recurrent": lambda c, s: Recurrent(c),
    "cumulative product": _of(lambda x: x.cumprod(-1)),
    "bicubic": _of(lambda x: _resized(x, "bicubic")),
    "bicubic grid": _of(lambda x: _grid(x, "bicubic")),
    "moving grid": _of(lambda x: _grid(x, "bilinear", moving=True)),
    "moving index": _of(lambda x: x[:, (x.mean((0, 2, 3)) > 0).long()]),
    "gather": _of(lambda x: x.gather(-1, x.argsort(-1))),
    "fourier": _of(lambda x: torch.fft.fft(x, dim=-1).abs()),
    "max pool places": _of(lambda x: x + F.max_pool2d(x, 3, 1, 1, return_indices=True)[1].to(x) / 9),
    "max pool, dilated": _of(lambda x: F.max_pool2d(F.pad(x, (2, 2, 2, 2)), 3, 1, 0, 2)),
    "negative divisor": lambda c, s: nn.AvgPool2d(3, 1, 1, divisor_override=-3),
    "hook with a square": lambda c, s: Hooked(c, lambda y: y * y),
    "gradient inside": _of(_gradient),
    "learned backwards": _of(lambda x: x * (x.detach() + 0.5)),
    "infinite": _of(lambda x: x + (x * 1e308) * 10),
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
