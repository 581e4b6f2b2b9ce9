"""Layers of the random networks of the certificate hunt: some plain, some that hide what they compute."""

from __future__ import annotations

import random as chance
from collections.abc import Callable

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


def layer_of(function: Callable[[Tensor], Tensor]) -> Piece:
    return lambda c, s: Apply(function)


def pair_of(join: Callable[[Tensor, Tensor], Tensor]) -> Piece:
    return lambda c, s: Two(join, c)


def beside_constant(function: Callable[[Tensor, Tensor], Tensor]) -> Piece:
    """With a constant [1, C, S, S] beside the value."""

    def make(c: int, s: int) -> nn.Module:
        constant = torch.randn(1, c, s, s)
        return Apply(lambda x: function(x, constant.to(x)))

    return make


def grid(x: Tensor, mode: str, moving: bool = False) -> Tensor:
    theta = torch.tensor([[[0.9, 0.2, 0.1], [-0.2, 0.9, 0.0]]]).to(x).expand(len(x), 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    grid = grid + 0.3 * x[:, :1].permute(0, 2, 3, 1) if moving else grid
    return F.grid_sample(x, grid, mode=mode, align_corners=False)


def resized(x: Tensor, mode: str, **more: bool) -> Tensor:
    up = F.interpolate(x, size=(x.shape[-1] + 2,) * 2, mode=mode, **more)
    return F.interpolate(up, size=x.shape[-2:], mode=mode, **more)


def cropped(x: Tensor, mode: str) -> Tensor:
    return (
        F.pad(x, (1, 1, 1, 1), mode=mode)[..., 2:, :-2] if mode != "constant" else F.pad(x, (1, -1, -1, 1), value=0.4)
    )


def mixed(x: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("nchw,dc->ndhw", x, weight.to(x))


def gate(x: Tensor) -> Tensor:
    return x * F.one_hot(x.flatten(1).argmax(1) % 2, 2).to(x)[:, :1, None, None]


def branch(x: Tensor) -> Tensor:
    return x if x.mean() > 0.3 else -x


def random_state(x: Tensor) -> Tensor:
    return x * (1 + 0.5 * chance.random())


def gradient(x: Tensor) -> Tensor:
    with torch.enable_grad():
        y = x.detach().requires_grad_(True)
        return x + 0.1 * torch.autograd.grad(y.pow(3).sum(), y)[0]


def try_item(x: Tensor) -> Tensor:
    try:
        return x * x.mean().item()
    except Exception:
        return x


def unset(x: Tensor) -> Tensor:
    y = x.clone()
    y.data = y.data * y.data
    return y


def autocast(x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return (x.flatten(2) @ torch.eye(x.shape[-1] ** 2).to(x)).view(x.shape).to(x)
