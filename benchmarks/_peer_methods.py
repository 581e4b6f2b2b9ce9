"""Published methods, each built from its authors' classes around one frozen network, and the program of ours beside it.

A method here is what its repository's training script does: prompt, mapping, optimisers, schedule, batch, order of calls. A
``switch`` replaces one choice by ours; the benchmark turns them on one after the other, so that each difference has a cause.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from argparse import Namespace
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
    "observe": "the mapping comes from the training pass of the epoch before, instead of a pass of its own",
    "ties": "equal counts are decided by summed probability, not by the number of the source class",
    "pixels": "the prompt is added to pixels and the sum kept in [0, 1], instead of to normalised values without bounds",
    "augment": "images are shifted with their edges repeated and kept in size, instead of enlarged and cropped",
    "head": "the linear layer reads standardised values and starts at zero",
}

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

    def prompted(self, x: Tensor) -> Tensor:
        """Network logits [B, S]."""
        return self.network(self.prompt(x))

    def mapped(self, logits: Tensor) -> Tensor:
        return logits

    def forward(self, x: Tensor) -> Tensor:
        logits = self.prompted(x)
        if self.training and self.statistics:
            self.seen.append((logits.detach().float(), self.labels))
        return self.mapped(logits)

    def loader_image(self, pixels: Tensor, training: bool) -> Tensor:
        """Images as the script's loader hands them over."""
        return with_channels(resize(pixels, self.place.inner), 3)

    def start_epoch(self, epoch: int, loader: Iterable[tuple[Tensor, Tensor]]) -> None:
        """The mapping of this epoch: their pass over the data, or ours from the training pass that has been made."""
        if not self.statistics:
            return
        if epoch and "observe" in self.place.switches:
            logits, labels = (torch.cat(parts) for parts in zip(*self.seen, strict=True))
            self.remap(Through(), lambda x: x, [(logits, labels)])
        else:
            self.remap(self.prompt, self.network, loader)
        self.seen = []

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
    """The frozen network on normalised pixels: as its package has it, or ours with the folded BatchNorm."""
    if "folded" in place.switches:
        return Folded().to(place.device)
    from efficientnet_lite_pytorch import EfficientNet

    path = str(packaged_weights("efficientnet_lite0"))
    with torch.random.fork_rng(devices=[]):
        net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return net.requires_grad_(False).eval().to(place.device)


class Folded(nn.Module):
    """Our source, on normalised pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.source = EfficientNetLite()
        self._fc = self.source.classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.source.answer((x * 128.0 + 127.0) / 255.0).logits

    def features(self, x: Tensor) -> Tensor:
        features = self.source.answer((x * 128.0 + 127.0) / 255.0).features
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
        self.prompt = prompts.ExpansiveVisualPrompt(self.place.side, mask=mask, normalize=normalize)
        self.count = self.place.code.load("ILM-VP", "algorithms/flm_calculation.py").generate_label_mapping_by_frequency

    def optimisers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(self.prompt.parameters(), lr=0.01)]

    def remap(self, prompt: nn.Module, net: Callable[[Tensor], Tensor], loader: Any) -> None:
        own = "ties" in self.place.switches
        self.sequence = self.own_matching(prompt, net, loader) if own else self.count(prompt, net, loader)

    def mapped(self, logits: Tensor) -> Tensor:
        return logits[:, self.sequence.to(logits.device)]


class Blm(Published):
    """BLM: the same frame, and weights from smoothed counts."""

    batch, statistics = 256, True
    causes = ("float32", "folded", "order", "observe")

    def build(self) -> None:
        mask = np.zeros((self.place.inner, self.place.inner))
        self.prompt = self.place.code.load("BayesianLM", "reprogramming.py").PaddingVR(self.place.side, mask, normalize=normalize)
        self.their = self.place.code.load("BayesianLM", "mapping.py")

    def optimisers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(self.prompt.parameters(), lr=0.01)]

    def remap(self, prompt: nn.Module, net: Callable[[Tensor], Tensor], loader: Any) -> None:
        self.matrix = self.their.blm_reweight_matrix(prompt, net, loader, lap=1).to(self.place.device)

    def mapped(self, logits: Tensor) -> Tensor:
        return self.their.label_mapping_calculation(logits, mapping_matrix=self.matrix)


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
        elif training:
            return self.normalised(crops(with_channels(resize(pixels, side + 32), 3), side, self.generator))
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
    return method.network(normalize(prompted.clamp(0, 1)) if "pixels" in method.place.switches else prompted)


def crops(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """A random window of each image, mirrored half of the time."""
    margin = images.shape[-1] - side
    places = torch.randint(0, margin + 1, (len(images), 2), generator=generator).tolist()
    mirrored = (torch.rand(len(images), generator=generator) < 0.5).tolist()
    cut = [image[:, y : y + side, x : x + side] for image, (y, x) in zip(images, places, strict=True)]
    return torch.stack([image.flip(2) if flip else image for image, flip in zip(cut, mirrored, strict=True)])


class LorVp(Published):
    """LoR-VP: a pattern of rank 4 on pixels, and a new last layer of the network; SGD, cosine."""

    batch, scaler = 64, True
    causes = ("float32", "folded", "order", "pixels", "head")

    def build(self) -> None:
        args = Namespace(bar_width=4, bar_height=self.place.side, output_size=self.place.side, network="", patch_size=0)
        args.init_method, args.input_size = "zero,normal", self.place.side
        theirs = self.place.code.load("LoR-VP", "trainer/visual_prompt.py").LoR_VP
        unset = {"patch_num": 0, "mask_l_pad": 0, "mask_r_pad": 0}  # its log line names what nothing sets
        self.prompt = type("LoR_VP", (theirs,), unset)(args, normalize=None)
        self.head = Head(1280, self.classes, "head" in self.place.switches)

    def optimisers(self) -> list[torch.optim.Optimizer]:
        parameters = [*self.prompt.parameters(), *self.head.parameters()]
        return [torch.optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=0.0001)]

    def schedulers(self, optimisers: list[torch.optim.Optimizer]) -> list[Any]:
        schedule = self.place.code.load("LoR-VP", "utils/scheduler.py").WarmupCosineSchedule
        self.each_step = [schedule(one, 0, self.place.epochs * self.place.batches) for one in optimisers]
        return []

    def after_step(self) -> None:
        for schedule in self.each_step:
            schedule.step()

    def loader_image(self, pixels: Tensor, training: bool) -> Tensor:
        return with_channels(resize(pixels, self.place.side), 3)

    def start_epoch(self, epoch: int, loader: Iterable[tuple[Tensor, Tensor]]) -> None:
        if epoch == 0:
            self.head.look(lambda x: features(self.network, normalize(self.prompt(x))), loader)

    def prompted(self, x: Tensor) -> Tensor:
        x = self.prompt(x)
        x = x.clamp(0, 1) if "pixels" in self.place.switches else x
        return F.log_softmax(self.head(features(self.network, normalize(x))), dim=-1)


class Head(nn.Module):
    """torch's linear layer, or one from zero on standardised values as ours has it."""

    def __init__(self, width: int, classes: int, standardised: bool) -> None:
        super().__init__()
        self.linear, self.standardised = nn.Linear(width, classes), standardised
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        if standardised:
            for parameter in self.linear.parameters():
                nn.init.zeros_(parameter)

    @torch.no_grad()
    def look(self, read: Callable[[Tensor], Tensor], loader: Iterable[tuple[Tensor, Tensor]]) -> None:
        if self.standardised:
            values = torch.cat([read(x) for x, _ in loader]).float()
            self.centre, spread = values.mean(0), values.std(0, correction=0)
            self.spread = spread.clamp_min(float(1e-2 * spread.mean()) + 1e-6)

    def forward(self, values: Tensor) -> Tensor:
        return self.linear((values - self.centre) / self.spread if self.standardised else values)


class AutoVp(Published):
    """AutoVP: trainable scale, frame, a linear layer on source logits (FullyMap)."""

    scaler = False  # half precision without a loss scale
    causes = ("float32", "folded", "order", "head")
    factor = 1.5  # of the image at the start

    def build(self) -> None:
        theirs, place = self.place.code.load("AutoVP", "auto_vp/programs.py"), self.place
        sizes = {"img_size": (3, place.inner, place.inner), "output_size": (3, place.side, place.side)}
        self.scale = theirs.Trainable_Resize(output_size=sizes["output_size"])
        self.scale.scale = nn.Parameter(torch.tensor(self.factor))
        names = {"model_name": "efficientnet_lite0", "dataset_name": "", "device": place.device}
        self.prompt = theirs.InputPadding(**sizes, normalization=normalize, **names)
        method = {"mapping_method": "fully_connected_layer_mapping", "device": place.device}
        self.full = theirs.Output_Mapping(source_class_num=1000, target_class_num=self.classes, **method)
        if "head" in place.switches:
            self.full.layers = Head(1000, self.classes, True)

    def optimisers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam([p for p in self.parameters() if p.requires_grad], lr=0.001, weight_decay=0.0)]

    def start_epoch(self, epoch: int, loader: Iterable[tuple[Tensor, Tensor]]) -> None:
        if epoch == 0 and isinstance(self.full.layers, Head):
            self.full.layers.look(self.prompted, loader)

    def after_step(self) -> None:
        with torch.no_grad():
            self.scale.scale.clamp_(0.1, 5.0)

    def prompted(self, x: Tensor) -> Tensor:
        x, height, width = self.scale(x)
        return self.network(self.prompt(x, height, width))

    def mapped(self, logits: Tensor) -> Tensor:
        return self.full(logits)
