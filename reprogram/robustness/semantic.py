"""Semantic perturbations (Semantify-NN, Mohapatra et al. 2020, arXiv 1912.09533): colour, light, place, not noise.

Each is attacked on a grid of its parameter, for any model. Colour and light are written as linear-ReLU-linear layers
in the parameter, put in front of the model and certified with its linear bounds; rotation through intervals of its
interpolation; shifts of whole pixels and occlusion are finite sets that are tried completely.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from reprogram.robustness.attacks.base import Model, ask
from reprogram.robustness.certification.linear_bounds.agreement import Agreement, rounding_room
from reprogram.robustness.certification.linear_bounds.bounds import Box
from reprogram.robustness.certification.linear_bounds.certify import LinearBounds
from reprogram.robustness.certification.linear_bounds.trace import Network, NotBounded, record
from reprogram.robustness.losses import wrong

TINY = 1e-6  # colour differences below this are grey
AROUND = 1e-6  # an interval is proven this much beyond its ends: float32 rounds the parameter
COMPARED = 7  # values of a parameter at which layers of ReLUs are compared with the perturbation that they stand for
DIFFERS = 1e-3  # largest difference there, as a share of the largest logit


@dataclass
class Semantic(ABC):
    """A perturbation with one parameter e in [-reach, reach]; e = 0 changes nothing.

    points: values of the grid. piece: length of the intervals that are certified one after the other.
    """

    reach: float = 1.0
    points: int = 21
    piece: float = 0.1

    colours: int | None = None  # channels that it needs

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    @abstractmethod
    def apply(self, images: Tensor, e: Tensor) -> Tensor:
        """Images [N, C, H, W] in [0, 1] changed by e (a single number, or [N])."""

    def fits(self, images: Tensor) -> bool:
        return self.colours is None or images.shape[1] == self.colours

    def grid(self) -> Tensor:
        """Values nearest to 0 first."""
        values = torch.linspace(-self.reach, self.reach, self.points)
        return values[values.abs().argsort(stable=True)]

    def attack(self, model: Model, images: Tensor, labels: Tensor, batch_size: int = 64) -> Tensor:
        """Smallest |e| of the grid with a wrong answer [N]; 0: wrong as it is, inf: none found."""
        found = torch.full((len(images),), float("inf"))
        for value in (torch.zeros(1)[0], *self.grid()):
            for rows in torch.nonzero(torch.isinf(found)).squeeze(1).split(batch_size):
                if len(rows):
                    hit = wrong(ask(model, self.apply(images[rows], value.to(images))), labels[rows]).cpu()
                    found[rows[hit]] = abs(float(value))
        return found


@dataclass
class Certifiable(Semantic):
    """A perturbation whose ranges of e can be proven harmless by linear bounds."""

    @abstractmethod
    def prover(self, model: Model, image: Tensor, label: int, bounds: LinearBounds) -> Callable[[float, float], bool]:
        """A function that says whether an interval [a, b] of e is proven."""

    def certify(self, model: Model, image: Tensor, label: int, bounds: LinearBounds, most: int = 40) -> float:
        """The largest r for which no e in [-r, r] changes the answer, in steps of at most ``piece``, by linear bounds.

        An interval that cannot be certified is halved; ``most`` intervals are tried on each side.
        """
        proven = self.prover(model, image, label, bounds)
        return min(self._walk(proven, sign, most) for sign in (-1.0, 1.0))

    def _walk(self, proven: Callable[[float, float], bool], sign: float, most: int) -> float:
        done, step = 0.0, self.piece
        for _ in range(most):
            end = min(done + step, self.reach)
            if proven(*sorted((sign * done, sign * end))):
                done = end
                if done >= self.reach:
                    return done
            elif step < self.piece / 32:
                return done
            else:
                step /= 2
        return done


@dataclass
class Layered(Certifiable):
    """A perturbation that is a layer of additions, scalings and ReLUs in front of the model."""

    def prover(self, model: Model, image: Tensor, label: int, bounds: LinearBounds) -> Callable[[float, float], bool]:
        """A function that says whether an interval [a, b] of e is proven."""
        layer = self.layer(image.double())
        inner = _double(model)

        def whole(e: Tensor) -> Tensor:
            return inner(layer(e))

        network = Network(whole, torch.zeros(1, 1, dtype=torch.float64), Agreement(whole, inner))
        network.rounding = max(network.rounding, self._room(model, image, network))

        def proven(a: float, b: float) -> bool:
            ends = torch.tensor([[a - AROUND]], dtype=torch.float64), torch.tensor([[b + AROUND]], dtype=torch.float64)
            return bounds.margin(network, Box(*ends), label) > 0

        return proven

    @torch.no_grad()
    def _room(self, model: Model, image: Tensor, network: Network) -> float:
        """Room for rounding: the layers in float64 against the perturbation and the model as they are."""
        ends = torch.linspace(-self.reach, self.reach, COMPARED, dtype=torch.float64)
        wanted = torch.cat([network.value(e.view(1, 1)) for e in ends])
        found = torch.cat([ask(model, self.apply(image[None], e.to(image))) for e in ends])
        gap = (found.double() - wanted).abs()
        if not float(gap.max()) <= DIFFERS * float(wanted.abs().max()):
            raise NotBounded(f"There are no linear bounds for {self.name}: its layers answer {float(gap.max()):.2g} otherwise.")
        return rounding_room(found, wanted)

    @abstractmethod
    def layer(self, image: Tensor) -> Callable[[Tensor], Tensor]:
        """e [1, 1] -> image [1, C, H, W] with additions, scalings and ReLUs only."""


def _double(model: Model) -> Model:
    return copy.deepcopy(model).double() if isinstance(model, torch.nn.Module) else model


def _split(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in [0, 6), largest and smallest channel, [..., H, W] of [..., 3, H, W]."""
    high, low = image.amax(-3), image.amin(-3)
    d = (high - low).clamp(min=TINY)
    r, g, b = image.unbind(-3)
    hue = torch.where(high == r, ((g - b) / d) % 6, torch.where(high == g, (b - r) / d + 2, (r - g) / d + 4))
    return torch.where(high - low < TINY, torch.zeros_like(hue), hue), high, low


_HUE = {  # rising and falling corners of each channel as the hue grows, and its value at the far left
    0: ((1, 5, 7, 11), (2, 4, 8, 10), 0.0),
    1: ((1, 3, 7, 9), (0, 4, 6, 10), 1.0),
    2: ((3, 5, 9, 11), (2, 6, 8, 12), 1.0),
}


@dataclass
class Hue(Layered):
    """e in sixths of the colour circle, so that 3 is the opposite colour (exact for all e in [-3, 3])."""

    reach: float = 3.0
    piece: float = 0.1
    colours: int | None = 3

    def apply(self, images: Tensor, e: Tensor) -> Tensor:
        hue, high, low = _split(images)
        turned = (hue + e.view(-1, 1, 1)) % 6
        ramps = [(turned - 3).abs() - 1, 2 - (turned - 2).abs(), 2 - (turned - 4).abs()]
        return torch.stack([low + (high - low) * ramp.clamp(0, 1) for ramp in ramps], 1)

    def layer(self, image: Tensor) -> Callable[[Tensor], Tensor]:
        hue, high, low = _split(image)
        corners = torch.arange(13, dtype=image.dtype).view(1, 13, 1, 1) - 3
        signs = torch.zeros(3, 13, 1, 1, dtype=image.dtype)
        start = torch.zeros(1, 3, 1, 1, dtype=image.dtype)
        for channel, (rising, falling, value) in _HUE.items():
            signs[channel, list(rising)], signs[channel, list(falling)] = 1.0, -1.0
            start[0, channel] = value
        return lambda e: low + (high - low) * (start + F.conv2d(torch.relu(hue - corners + e.view(1, 1, 1, 1)), signs))


@dataclass
class Saturation(Layered):
    """e added to the saturation of HSL; grey pixels have no colour to strengthen and stay."""

    colours: int | None = 3

    def _parts(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        high, low = image.amax(-3, keepdim=True), image.amin(-3, keepdim=True)
        light = (high + low) / 2
        room = (1 - (2 * light - 1).abs()).clamp(min=TINY)
        saturation = (high - low) / room
        colour = torch.where(high - low > TINY, (image - light) / saturation.clamp(min=TINY), torch.zeros_like(image))
        return light, saturation, colour

    def apply(self, images: Tensor, e: Tensor) -> Tensor:
        light, saturation, colour = self._parts(images)
        grey = colour.abs().amax(1, keepdim=True) == 0
        changed = light + colour * (saturation + e.view(-1, 1, 1, 1)).clamp(0, 1)
        return torch.where(grey, images, changed)

    def layer(self, image: Tensor) -> Callable[[Tensor], Tensor]:
        light, saturation, colour = self._parts(image)
        base = torch.where(colour.abs().amax(-3, keepdim=True) == 0, image, light)

        def changed(e: Tensor) -> Tensor:
            s = saturation + e.view(1, 1, 1, 1)
            return base + colour * (torch.relu(s) - torch.relu(s - 1))

        return changed


@dataclass
class Lightness(Layered):
    """e added to the lightness of HSL; black and white pixels have no colour left."""

    def _parts(self, image: Tensor) -> tuple[Tensor, Tensor]:
        light = (image.amax(-3, keepdim=True) + image.amin(-3, keepdim=True)) / 2
        room = 1 - (2 * light - 1).abs()
        return light, torch.where(room > TINY, (image - light) / room.clamp(min=TINY), torch.zeros_like(image))

    def apply(self, images: Tensor, e: Tensor) -> Tensor:
        light, colour = self._parts(images)
        changed = (light + e.view(-1, 1, 1, 1)).clamp(0, 1)
        return changed + colour * (1 - (2 * changed - 1).abs())

    def layer(self, image: Tensor) -> Callable[[Tensor], Tensor]:
        light, colour = self._parts(image)

        def changed(e: Tensor) -> Tensor:
            at = light + e.view(1, 1, 1, 1)
            tent = torch.relu(2 * at) - 2 * torch.relu(2 * at - 1) + torch.relu(2 * at - 2)
            return torch.relu(at) - torch.relu(at - 1) + colour * tent

        return changed


@dataclass
class Brightness(Layered):
    """e added to every pixel, cut to [0, 1]."""

    def apply(self, images: Tensor, e: Tensor) -> Tensor:
        return (images + e.view(-1, 1, 1, 1)).clamp(0, 1)

    def layer(self, image: Tensor) -> Callable[[Tensor], Tensor]:
        def changed(e: Tensor) -> Tensor:
            z = image[None] + e.view(1, 1, 1, 1)
            return torch.relu(z) - torch.relu(z - 1)

        return changed


@dataclass
class Contrast(Layered):
    """Distances from mid-grey times 1 + e, cut to [0, 1]."""

    reach: float = 0.9

    def apply(self, images: Tensor, e: Tensor) -> Tensor:
        return ((1 + e.view(-1, 1, 1, 1)) * (images - 0.5) + 0.5).clamp(0, 1)

    def layer(self, image: Tensor) -> Callable[[Tensor], Tensor]:
        def changed(e: Tensor) -> Tensor:
            z = image[None] + (image[None] - 0.5) * e.view(1, 1, 1, 1)
            return torch.relu(z) - torch.relu(z - 1)

        return changed


@dataclass
class Rotation(Certifiable):
    """Turns by e degrees around the middle (half-pixel centres), bilinear, black outside.

    A certificate holds the image in the interval that each pixel takes while the angle runs through ``parts``
    small sub-intervals: the value in the middle of each, more or less the steepest slope nearby times the way moved.
    """

    reach: float = 30.0
    piece: float = 0.5
    parts: int = 100

    def apply(self, images: Tensor, e: Tensor) -> Tensor:
        turn = torch.deg2rad(e.expand(len(images)) if e.ndim == 0 else e)
        zero = torch.zeros_like(turn)
        rows = [torch.stack([turn.cos(), turn.sin(), zero], 1), torch.stack([-turn.sin(), turn.cos(), zero], 1)]
        n, c, h, w = images.shape
        scale = torch.tensor([[[1.0, h / w, 1.0], [w / h, 1.0, 1.0]]], dtype=images.dtype, device=images.device)
        place = F.affine_grid(torch.stack(rows, 1) * scale, [n, c, h, w], align_corners=False)
        return F.grid_sample(images, place, mode="bilinear", padding_mode="zeros", align_corners=False)

    def prover(self, model: Model, image: Tensor, label: int, bounds: LinearBounds) -> Callable[[float, float], bool]:
        network = record(model, image)

        def proven(a: float, b: float) -> bool:
            ends = self.interval(image.double(), a - AROUND, b + AROUND)
            return bounds.margin(network, Box(*ends), label) > 0

        return proven

    def interval(self, image: Tensor, a: float, b: float) -> tuple[Tensor, Tensor]:
        """[1, C, H, W] below and above every rotation of ``image`` by an angle in [a, b] degrees."""
        parts = max(1, math.ceil((b - a) / self.piece * self.parts))
        half = (b - a) / parts / 2
        middles = torch.linspace(a + half, b - half, parts, dtype=image.dtype)
        values = self.apply(image[None].expand(parts, -1, -1, -1), middles)
        rounding = 1e-6 + 2e-7 * max(image.shape[-2:])  # of float32 in the place that a pixel is read from
        slack = self._slope(image) * self._way(image, half) + rounding
        return (values - slack).amin(0, keepdim=True).clamp(min=0), (values + slack).amax(0, keepdim=True).clamp(max=1)

    def _way(self, image: Tensor, half: float) -> Tensor:
        """How far the place that a pixel is read from moves within ``half`` degrees, in pixels [H, W]."""
        h, w = image.shape[-2:]
        y, x = torch.arange(h).to(image) - (h - 1) / 2, torch.arange(w).to(image) - (w - 1) / 2
        return (y[:, None] ** 2 + x[None] ** 2).sqrt() * math.radians(half)

    def _slope(self, image: Tensor) -> Tensor:
        """The steepest slope anywhere in a channel, per pixel moved [C, 1, 1]; l2 of both directions, edges included."""
        padded = F.pad(image, (1, 1, 1, 1))
        across, down = padded.diff(dim=-1).abs(), padded.diff(dim=-2).abs()
        steepest_across = torch.maximum(across[..., :-1, :], across[..., 1:, :])
        steepest_down = torch.maximum(down[..., :, :-1], down[..., :, 1:])
        return (steepest_across**2 + steepest_down**2).sqrt().amax((-2, -1))[:, None, None]


@dataclass
class Translation(Semantic):
    """Shifts by whole pixels in both directions, black outside: a finite set that is tried completely."""

    reach: float = 3.0

    def apply(self, images: Tensor, e: Tensor) -> Tensor:
        return self.shift(images, int(e), 0)

    def shift(self, images: Tensor, right: int, down: int) -> Tensor:
        """Images moved by whole pixels; the border is filled as declared."""
        h, w = images.shape[-2:]
        right, down = max(-w, min(w, right)), max(-h, min(h, down))
        padded = F.pad(images, (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0)))
        return padded[..., max(-down, 0) : max(-down, 0) + h, max(-right, 0) : max(-right, 0) + w]

    def attack(self, model: Model, images: Tensor, labels: Tensor, batch_size: int = 64) -> Tensor:
        """Smallest shift (the larger of its two parts) with a wrong answer."""
        found, most = torch.full((len(images),), float("inf")), int(self.reach)
        shifts = [(x, y) for x in range(-most, most + 1) for y in range(-most, most + 1)]
        for x, y in sorted(shifts, key=lambda s: max(abs(s[0]), abs(s[1]))):
            for rows in torch.nonzero(torch.isinf(found)).squeeze(1).split(batch_size):
                if len(rows):
                    hit = wrong(ask(model, self.shift(images[rows], x, y)), labels[rows]).cpu()
                    found[rows[hit]] = max(abs(x), abs(y))
        return found


@dataclass
class Occlusion(Semantic):
    """A grey square, ``reach`` (a share of the side) wide, anywhere in steps of half its width: a finite set."""

    reach: float = 0.25
    fill: float = 0.5

    def apply(self, images: Tensor, e: Tensor) -> Tensor:
        side = round(abs(float(e)) * min(images.shape[-2:]))
        return self.cover(images, 0, 0, side)

    def cover(self, images: Tensor, top: int, left: int, side: int) -> Tensor:
        """Images with a grey square of ``side`` pixels at row ``top`` and column ``left``."""
        covered = images.clone()
        covered[..., top : top + side, left : left + side] = self.fill
        return covered

    def attack(self, model: Model, images: Tensor, labels: Tensor, batch_size: int = 64) -> Tensor:
        """``reach`` where some place of the square gives a wrong answer."""
        found = torch.where(wrong(_batched(model, images, batch_size), labels).cpu(), 0.0, float("inf"))
        h, w = images.shape[-2:]
        side = max(1, round(self.reach * min(h, w)))
        step = max(1, side // 2)
        for top in sorted({*range(0, h - side, step), h - side}):
            for left in sorted({*range(0, w - side, step), w - side}):
                for rows in torch.nonzero(torch.isinf(found)).squeeze(1).split(batch_size):
                    if len(rows):
                        hit = wrong(ask(model, self.cover(images[rows], top, left, side)), labels[rows]).cpu()
                        found[rows[hit]] = self.reach
        return found


def _batched(model: Model, images: Tensor, batch_size: int) -> Tensor:
    return torch.cat([ask(model, part) for part in images.split(batch_size)])


ALL: tuple[type[Semantic], ...] = (
    Hue, Saturation, Lightness, Brightness, Contrast, Rotation, Translation, Occlusion
)  # fmt: skip
CERTIFIABLE: tuple[type[Certifiable], ...] = (Hue, Saturation, Lightness, Brightness, Contrast, Rotation)
