"""Published methods, each built from its authors' classes around one frozen network, and the program of ours beside it.

A method here is what its repository's training script does: prompt, mapping, optimisers, schedule, batch, order of calls. A
``switch`` replaces one choice by ours; the benchmark turns them on one after the other, so that each difference has a cause.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from _peer_code import Checkout
from torch import Tensor, nn
from torch.nn import functional as F

from reprogram.outputs._counts import match_greedily
from reprogram.pixels import resize, with_channels
from reprogram.sources.efficientnet import EfficientNetLite, packaged_weights
from reprogram.training.augment import Affine

SWITCHES = {  # what each replaces, in the order of the ladder
    "float32": "gradient steps in float32 instead of their half precision (GPUs only)",
    "folded": "BatchNorm folded into the convolutions, channels last, instead of the package's network",
    "order": "the order of the training images",
    "batch": "64 images a step instead of theirs",
    "observe": "the mapping comes from training: the epoch before, or an epoch's only step; not from a pass of its own",
    "ties": "equal counts are decided by summed probability, not by the number of the source class",
    "pixels": "the prompt is added to pixels and the sum kept in [0, 1], instead of to normalised values without bounds",
    "augment": "images are shifted with their edges repeated and kept in size, instead of enlarged and cropped",
    "head": "the linear layer reads standardised values and starts at zero",
}
LATE = "late"  # another switch: the mapping is made from the epoch before even where an epoch is one step
# Where trajectories are compared, both sides leave out what cannot be the same number by number: "still", no random changes
# of images; "fixed", a scale of the image that is 1 and not trained.

SHIFTS = Affine(rotate=0.0, scale=0.0, shift=0.07, shear=0.0, flip=0.5)  # as far as SMM's crops move an image


@dataclass
class Place:
    """Where a method is built: code, source resolution, side of the image inside a frame, epochs, device, seed."""

    code: Checkout
    side: int
    inner: int
    epochs: int
    device: torch.device
    seed: int
    switches: frozenset[str] = frozenset()
    batches: int = 1  # training steps an epoch; filled in by the loop


def normalize(pixels: Tensor) -> Tensor:
    """What EfficientNet-Lite reads, of pixels in [0, 1]."""
    return (pixels * 255.0 - 127.0) / 128.0


class Through(nn.Module):
    """A prompt that changes nothing: hands finished logits to a mapping function that wants prompt, network and loader."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, logits: Tensor) -> Tensor:
        return logits


class Published(nn.Module, ABC):
    """Base. ``network`` reads normalised pixels; ``forward`` gives target logits from images as the loader brings them."""

    batch, classes = 128, 10
    scaler = True  # float16 with a loss scale on GPUs, as the scripts have it
    counts = False  # a one-to-one mapping from counts
    statistics = False  # a mapping that is made anew every epoch
    causes: tuple[str, ...] = ("float32", "folded", "order")

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.network = network(place)
        self.seen: list[tuple[Tensor, Tensor]] = []
        torch.manual_seed(place.seed)
        self.build()
        self.to(place.device)

    @abstractmethod
    def build(self) -> None:
        """What is trained, from the authors' classes."""

    @abstractmethod
    def optimisers(self) -> list[torch.optim.Optimizer]:
        """As the authors' script makes them."""

    def readable(self, pixels: Tensor) -> Tensor:
        """What the network reads, of pixels in [0, 1]: ours normalises by itself."""
        return pixels if "folded" in self.place.switches else normalize(pixels)

    def shared(self) -> list[Tensor]:
        """What is trained, in the order and the shapes of our program's parameters."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def visible(self, values: list[Tensor]) -> list[Tensor]:
        """Of values as :meth:`shared` has them, those that change what the network reads."""
        return values

    def prompted(self, x: Tensor) -> Tensor:
        """Network logits [B, S]."""
        return self.network(self.prompt(x))

    def mapped(self, logits: Tensor) -> Tensor:
        return logits

    def forward(self, x: Tensor) -> Tensor:
        logits = self.prompted(x)
        if self.training and self.statistics:
            self.seen.append((logits.detach().float(), self.labels))
            if "observe" in self.place.switches and self.place.batches == 1:
                self.remap_from_seen()
        return self.mapped(logits)

    def loader_image(self, pixels: Tensor, training: bool) -> Tensor:
        """Images as the script's loader hands them over."""
        return with_channels(resize(pixels, self.place.inner), 3)

    def start_epoch(self, epoch: int, loader: Iterable[tuple[Tensor, Tensor]]) -> None:
        """The mapping of this epoch: their pass over the data, or ours from the training pass that has been made."""
        if not self.statistics:
            return
        if epoch and (LATE in self.place.switches or ("observe" in self.place.switches and self.place.batches > 1)):
            self.remap_from_seen()
        elif not epoch or "observe" not in self.place.switches:
            self.remap(self.prompt, self.network, loader)
        self.seen = []

    def remap_from_seen(self) -> None:
        """The mapping, from the logits of training steps."""
        logits, labels = (torch.cat(parts) for parts in zip(*self.seen, strict=True))
        self.remap(Through(), lambda x: x, [(logits, labels)])

    def remap(self, prompt: nn.Module, net: Callable[[Tensor], Tensor], loader: Any) -> None:
        """Make the mapping with the authors' function, which asks ``net(prompt(x))`` for every batch of ``loader``."""

    def own_matching(self, prompt: nn.Module, net: Callable[[Tensor], Tensor], loader: Any) -> Tensor:
        """Our matching of the same counts."""
        with torch.no_grad():
            parts = [(net(prompt(x)).float(), F.one_hot(y.long(), self.classes).float()) for x, y in loader]
        logits, one_hot = (torch.cat(values) for values in zip(*parts, strict=True))
        top = F.one_hot(logits.argmax(1), logits.shape[1]).float()
        sums = torch.stack([top.T @ one_hot, logits.softmax(1).T @ one_hot]).double()
        return match_greedily(sums)[:, 0].to(logits.device)

    def after_step(self) -> None:
        """Between two steps of an epoch."""

    def schedulers(self, optimisers: list[torch.optim.Optimizer]) -> list[Any]:
        """Learning-rate schedules that move once an epoch: all but LoR-VP's are this one."""
        epochs = self.place.epochs
        stones = [int(0.5 * epochs), int(0.72 * epochs)]
        return [torch.optim.lr_scheduler.MultiStepLR(one, stones, gamma=0.1) for one in optimisers]


def network(place: Place) -> nn.Module:
    """The frozen network: as its package has it, on normalised pixels, or ours with the folded BatchNorm, on pixels."""
    if "folded" in place.switches:
        return Folded().to(place.device)
    from efficientnet_lite_pytorch import EfficientNet

    path = str(packaged_weights("efficientnet_lite0"))
    with torch.random.fork_rng(devices=[]):
        net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return net.requires_grad_(False).eval().to(place.device)


class Folded(nn.Module):
    """Our source, on pixels in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.source = EfficientNetLite()
        self._fc = self.source.classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.source.answer(x).logits

    def features(self, x: Tensor) -> Tensor:
        features = self.source.answer(x).features
        assert features is not None
        return features


def features(net: nn.Module, x: Tensor) -> Tensor:
    """Pooled features [B, 1280], on which the network's last layer stands."""
    if isinstance(net, Folded):
        return net.features(x)
    return net.extract_features(x).mean((2, 3))  # type: ignore[operator]


class IlmVp(Published):
    """ILM-VP: a frame, and a one-to-one mapping counted anew before each epoch."""

    statistics = counts = True
    causes = ("float32", "folded", "order", "observe", "ties")

    def build(self) -> None:
        mask = np.zeros((self.place.inner, self.place.inner))
        prompts = self.place.code.load("ILM-VP", "models/visual_prompt.py")
        self.prompt = prompts.ExpansiveVisualPrompt(self.place.side, mask=mask, normalize=self.readable)
        self.count = self.place.code.load("ILM-VP", "algorithms/flm_calculation.py").generate_label_mapping_by_frequency

    def optimisers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(self.prompt.parameters(), lr=0.01)]

    def remap(self, prompt: nn.Module, net: Callable[[Tensor], Tensor], loader: Any) -> None:
        own = "ties" in self.place.switches
        self.sequence = self.own_matching(prompt, net, loader) if own else self.count(prompt, net, loader)

    def mapped(self, logits: Tensor) -> Tensor:
        return logits[:, self.sequence.to(logits.device)]

    def shared(self) -> list[Tensor]:
        return in_frame(self)


class Blm(Published):
    """BLM: the same frame, and weights from smoothed counts."""

    batch, statistics = 256, True
    causes = ("float32", "folded", "order", "observe")

    def build(self) -> None:
        mask = np.zeros((self.place.inner, self.place.inner))
        prompts = self.place.code.load("BayesianLM", "reprogramming.py")
        self.prompt = prompts.PaddingVR(self.place.side, mask, normalize=self.readable)
        self.their = self.place.code.load("BayesianLM", "mapping.py")

    def optimisers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(self.prompt.parameters(), lr=0.01)]

    def remap(self, prompt: nn.Module, net: Callable[[Tensor], Tensor], loader: Any) -> None:
        self.matrix = self.their.blm_reweight_matrix(prompt, net, loader, lap=1).to(self.place.device)

    def mapped(self, logits: Tensor) -> Tensor:
        return self.their.label_mapping_calculation(logits, mapping_matrix=self.matrix)

    def shared(self) -> list[Tensor]:
        return in_frame(self)


class BlmPlus(Blm):
    """BLM+: probabilities of the likeliest source labels in place of counts."""

    def remap(self, prompt: nn.Module, net: Callable[[Tensor], Tensor], loader: Any) -> None:
        k = int(self.classes * 0.15)
        self.matrix = self.their.blmp_reweight_matrix(prompt, net, loader, lap=1, k=k).to(self.place.device)


class Smm(Published):
    """SMM: a pattern times a mask that a small network draws, on normalised images; two optimisers; random crops and flips."""

    batch, statistics, counts = 256, True, True
    causes = ("float32", "folded", "order", "observe", "ties", "augment", "pixels")

    def build(self) -> None:
        self.prompt = self.place.code.load("SMM", "instance_model.py").InstancewiseVisualPrompt(self.place.side, 5, 8, 3)
        self.count = self.place.code.load("SMM", "labelmapping/flm_calculation.py").generate_label_mapping_by_frequency
        self.generator = torch.Generator().manual_seed(self.place.seed)

    def optimisers(self) -> list[torch.optim.Optimizer]:
        own = torch.optim.Adam([{"params": self.prompt.program, "lr": 0.01}])
        return [own, torch.optim.Adam([{"params": self.prompt.priority.parameters(), "lr": 0.01}])]

    def loader_image(self, pixels: Tensor, training: bool) -> Tensor:
        side = self.place.side
        if training and "augment" in self.place.switches:
            pixels = SHIFTS(pixels, self.generator)
        elif training and "still" not in self.place.switches:
            larger = side + round(side * 32 / 224)  # the script's 32 px at its 224
            return self.normalised(crops(with_channels(resize(pixels, larger), 3), side, self.generator))
        return self.normalised(with_channels(resize(pixels, side), 3))

    def normalised(self, pixels: Tensor) -> Tensor:
        return pixels if "pixels" in self.place.switches else normalize(pixels)

    def prompted(self, x: Tensor) -> Tensor:
        return in_network(self, self.prompt(x))

    def remap(self, prompt: nn.Module, net: Callable[[Tensor], Tensor], loader: Any) -> None:
        if net is self.network:
            net = lambda x: in_network(self, x)  # noqa: E731
        own = "ties" in self.place.switches
        self.sequence = self.own_matching(prompt, net, loader) if own else self.count(prompt, net, loader)

    mapped = IlmVp.mapped


def in_network(method: Published, prompted: Tensor) -> Tensor:
    """The network behind a prompt on normalised values, or behind one on pixels that stay in [0, 1]."""
    if "pixels" in method.place.switches:
        return method.network(method.readable(prompted.clamp(0, 1)))
    return method.network((prompted * 128.0 + 127.0) / 255.0 if "folded" in method.place.switches else prompted)


def in_frame(method: Published) -> list[Tensor]:
    """Values of a frame around the image; those under it are never read."""
    return [method.prompt.program[:, method.prompt.mask[0] > 0]]


def crops(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """A random window of each image, mirrored half of the time."""
    margin = images.shape[-1] - side
    places = torch.randint(0, margin + 1, (len(images), 2), generator=generator).tolist()
    mirrored = (torch.rand(len(images), generator=generator) < 0.5).tolist()
    cut = [image[:, y : y + side, x : x + side] for image, (y, x) in zip(images, places, strict=True)]
    return torch.stack([image.flip(2) if flip else image for image, flip in zip(cut, mirrored, strict=True)])
