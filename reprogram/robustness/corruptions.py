"""Common corruptions at five severities (Hendrycks & Dietterich 2019, arXiv 1903.12261), all computed, none downloaded.

Strengths are those of CIFAR-10-C; lengths in pixels grow with the side of the image (32 is 1). Frost, which needs
photographs, is left out. Images are [N, C, H, W] in [0, 1]; severity runs from 1 to 5.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from reprogram.errors import ConfigError, nearest

Corruption = Callable[[Tensor, int, torch.Generator], Tensor]
SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(name: str, images: Tensor, severity: int, seed: int = 0) -> Tensor:
    """``images`` under one of :data:`CORRUPTIONS`, cut to [0, 1]; the same seed gives the same images."""
    if name not in CORRUPTIONS:
        raise ConfigError(f"There is no corruption {name!r}; {nearest(name, CORRUPTIONS)}.")
    if severity not in SEVERITIES:
        raise ConfigError(f"severity={severity} of a corruption is not possible; allowed: 1 to 5.")
    generator = torch.Generator().manual_seed(seed * 10 + severity)
    return CORRUPTIONS[name](images, severity - 1, generator).clamp(0, 1)


def _scale(images: Tensor) -> float:
    return min(images.shape[-2:]) / 32


def _normal(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(images.shape, generator=generator).to(images)


def gaussian_noise(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """Gaussian noise; images [B, C, H, W] in [0, 1], severity ``s`` from 0 to 4, as in all corruptions here."""
    return x + (0.04, 0.06, 0.08, 0.09, 0.10)[s] * _normal(x, g)


def shot_noise(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """Poisson noise of a photon count."""
    photons = (500, 250, 100, 75, 50)[s]
    return torch.poisson(x.cpu() * photons, generator=g).to(x) / photons


def impulse_noise(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """Single values set to 0 or 1."""
    drawn = torch.rand(x.shape, generator=g).to(x)
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[s]
    return torch.where(drawn < share / 2, 0.0, torch.where(drawn > 1 - share / 2, 1.0, x))


def speckle_noise(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """Gaussian noise in proportion to the value."""
    return x + x * (0.06, 0.1, 0.12, 0.16, 0.2)[s] * _normal(x, g)


def gaussian_blur(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """Convolution with a Gaussian."""
    return _smooth(x, (0.4, 0.6, 0.7, 0.8, 1.0)[s] * _scale(x))


def defocus_blur(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """Convolution with a disk."""
    radius = (0.6, 0.9, 1.2, 1.6, 2.0)[s] * _scale(x)
    reach = math.ceil(radius)
    far = torch.arange(-reach, reach + 1, dtype=x.dtype)
    disk = (radius + 0.5 - (far[:, None] ** 2 + far[None] ** 2).sqrt()).clamp(0, 1)
    return _filter(x, disk / disk.sum())


def motion_blur(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """Convolution with a line at a random angle of at most 45 degrees."""
    length = ((6, 6, 6, 8, 9)[s] * (0.6, 0.8, 1.0, 1.0, 1.2)[s]) * _scale(x)
    return _streak(x, length, float(torch.rand(1, generator=g)) * math.pi / 2 - math.pi / 4)


def _streak(x: Tensor, length: float, angle: float) -> Tensor:
    """Averages along a line of ``length`` pixels; angle 0 is level."""
    reach = max(1, math.ceil(length / 2))
    grid = torch.arange(-reach, reach + 1, dtype=x.dtype)
    along = grid[None] * math.cos(angle) + grid[:, None] * math.sin(angle)
    across = -grid[None] * math.sin(angle) + grid[:, None] * math.cos(angle)
    line = (1 - across.abs()).clamp(min=0) * (along.abs() <= length / 2)
    return _filter(x, line / line.sum())


def zoom_blur(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """Mean of the image at several magnifications."""
    most = (1.06, 1.11, 1.16, 1.21, 1.26)[s]
    total, factors = x.clone(), np.arange(1.01, most + 1e-9, 0.01)
    for factor in factors:
        total = total + _zoom(x, float(factor))
    return total / (len(factors) + 1)


def glass_blur(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """Pixels exchanged with near ones, between two Gaussian blurs."""
    sigma = (0.05, 0.25, 0.4, 0.25, 0.4)[s] * _scale(x)
    reach = max(1, round(_scale(x)))
    x = _smooth(x, sigma)
    n, _, h, w = x.shape
    for _ in range((1, 1, 1, 2, 2)[s]):
        down = torch.randint(-reach, reach + 1, (n, h, w), generator=g) + torch.arange(h)[None, :, None]
        right = torch.randint(-reach, reach + 1, (n, h, w), generator=g) + torch.arange(w)[None, None]
        rows = torch.arange(n)[:, None, None]
        x = x.permute(0, 2, 3, 1)[rows, down.clamp(0, h - 1), right.clamp(0, w - 1)].permute(0, 3, 1, 2)
    return _smooth(x, sigma)


def snow(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """Flakes: bright specks of noise, blurred along a steep line, over a paler image."""
    mean, spread, size, least, length, keep = (
        (0.1, 0.2, 1.0, 0.6, 3, 0.95), (0.1, 0.2, 1.0, 0.5, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 12, 0.8),
    )[s]  # fmt: skip
    n, _, h, w = x.shape
    zoom = size * max(_scale(x), 1.0)
    noise = mean + spread * torch.randn((n, 1, math.ceil(h / zoom), math.ceil(w / zoom)), generator=g)
    flakes = F.interpolate(noise, size=(h, w), mode="bilinear", align_corners=False).to(x)
    flakes = torch.where(flakes < least, 0.0, flakes.clamp(0, 1))
    angle = math.radians(45 + 90 * float(torch.rand(1, generator=g)))
    flakes = _streak(flakes, length * _scale(x), angle)
    pale = torch.maximum(x, 1.5 * x.mean(1, keepdim=True) + 0.5)
    return keep * x + (1 - keep) * pale + flakes + flakes.rot90(2, (2, 3))


def fog(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """A random fractal cloud added."""
    strength, roughness = (0.2, 0.5, 0.75, 1.0, 1.5)[s], (3.0, 3.0, 2.5, 2.0, 1.75)[s]
    top = x.amax((1, 2, 3), keepdim=True)
    cloud = _plasma(len(x), max(x.shape[-2:]), roughness, g)[..., : x.shape[-2], : x.shape[-1]].to(x)
    return (x + strength * cloud) * top / (top + strength)


def brightness(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """Added to the value of HSV: every channel grows by the same factor."""
    value = x.amax(1, keepdim=True)
    raised = (value + (0.05, 0.1, 0.15, 0.2, 0.3)[s]).clamp(max=1)
    return torch.where(value > 0, x * raised / value.clamp(min=1e-6), raised.expand_as(x))


def contrast(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """Distance from the mean colour reduced."""
    middle = x.mean((2, 3), keepdim=True)
    return (x - middle) * (0.75, 0.5, 0.4, 0.3, 0.15)[s] + middle


def saturate(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """The saturation of HSV scaled and raised; grey images stay grey."""
    factor, raised = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))[s]
    value, least = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    saturation = (value - least) / value.clamp(min=1e-6)
    wanted = (saturation * factor + raised).clamp(0, 1)
    coloured = value - (value - x) * wanted / saturation.clamp(min=1e-6)
    return torch.where(saturation > 1e-6, coloured, x)


def elastic_transform(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """Pixels moved along a smooth random field."""
    n, _, h, w = x.shape
    reach, width = (0.6, 0.9, 1.2, 1.5, 2.0)[s] * _scale(x), 3.0 * _scale(x)
    field = _smooth(2 * torch.rand((n, 2, h, w), generator=g) - 1, width)
    field = field / field.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-6) * reach
    identity = torch.eye(2, 3).expand(n, 2, 3)
    place = F.affine_grid(identity, [n, 1, h, w], align_corners=False)
    place = place + 2 * field.permute(0, 2, 3, 1) / torch.tensor([w, h])
    return F.grid_sample(x, place.to(x), padding_mode="reflection", align_corners=False)


def pixelate(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """Reduced to fewer pixels and enlarged again."""
    h, w = x.shape[-2:]
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[s]
    small = F.interpolate(x, size=(max(1, int(h * share)), max(1, int(w * share))), mode="area")
    return F.interpolate(small, size=(h, w), mode="nearest")


def jpeg_compression(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """Saved as a JPEG of low quality and read again; channels that are neither grey nor colour one by one."""
    from PIL import Image

    if x.shape[1] not in (1, 3):
        return torch.cat([jpeg_compression(part, s, g) for part in x.split(1, dim=1)], 1)
    quality, done = (80, 65, 58, 50, 40)[s], []
    for image in (x * 255).round().byte().cpu().numpy():
        pixels = image.transpose(1, 2, 0)
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        read = np.asarray(Image.open(buffer), dtype=np.float32) / 255
        done.append(torch.from_numpy(read.reshape(*pixels.shape)).permute(2, 0, 1))
    return torch.stack(done).to(x)


def _filter(x: Tensor, kernel: Tensor) -> Tensor:
    """Every channel with one kernel [k, k] of odd side, edges repeated."""
    reach = kernel.shape[-1] // 2
    weights = kernel.to(x).expand(x.shape[1], 1, *kernel.shape)
    return F.conv2d(F.pad(x, (reach,) * 4, mode="replicate"), weights, groups=x.shape[1])


def _smooth(x: Tensor, sigma: float) -> Tensor:
    reach = max(1, math.ceil(3 * sigma))
    line = torch.exp(-(torch.arange(-reach, reach + 1, dtype=torch.float32) ** 2) / (2 * max(sigma, 1e-3) ** 2))
    line = line / line.sum()
    return _filter(x, line[:, None] * line[None])


def _zoom(x: Tensor, factor: float) -> Tensor:
    h, w = x.shape[-2:]
    large = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    top, left = (large.shape[-2] - h) // 2, (large.shape[-1] - w) // 2
    return large[..., top : top + h, left : left + w]


def _plasma(n: int, side: int, roughness: float, generator: torch.Generator) -> Tensor:
    """Clouds [n, 1, S, S] with S >= side in [0, 1]: noise of doubling frequency and falling strength."""
    size, levels = 1, []
    while size < side:
        size *= 2
        levels.append(size)
    cloud = torch.zeros(n, 1, size, size)
    for level, cells in enumerate(levels):
        noise = torch.rand((n, 1, cells, cells), generator=generator) / roughness**level
        cloud = cloud + F.interpolate(noise, size=(size, size), mode="bilinear", align_corners=False)
    low, high = cloud.amin((1, 2, 3), keepdim=True), cloud.amax((1, 2, 3), keepdim=True)
    return (cloud - low) / (high - low).clamp(min=1e-6)


CORRUPTIONS: dict[str, Corruption] = {
    function.__name__: function
    for function in (
        gaussian_noise, shot_noise, impulse_noise, speckle_noise, gaussian_blur, defocus_blur, motion_blur, zoom_blur,
        glass_blur, snow, fog, brightness, contrast, saturate, elastic_transform, pixelate, jpeg_compression,
    )
}  # fmt: skip
