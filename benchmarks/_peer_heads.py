"""Published methods that train a linear layer behind their prompt; see ``_peer_methods`` for what a method is here."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable
from typing import Any

import torch
from _peer_methods import Place, Published, features
from torch import Tensor, nn
from torch.nn import functional as F

from reprogram.pixels import resize, with_channels


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
            self.head.look(lambda x: features(self.network, self.readable(self.prompt(x))), loader)

    def prompted(self, x: Tensor) -> Tensor:
        x = self.prompt(x)
        x = x.clamp(0, 1) if "pixels" in self.place.switches else x
        return F.log_softmax(self.head(features(self.network, self.readable(x))), dim=-1)

    def shared(self) -> list[Tensor]:
        return [self.prompt.left_bar, self.prompt.right_bar, *transposed(self.head.linear)]


def transposed(layer: nn.Linear) -> list[Tensor]:
    """Weights as ours lie, and bias."""
    return [layer.weight.T, layer.bias]


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

    @staticmethod
    def factor(place: Place) -> float:
        """Of the image at the start."""
        return 1.0 if "fixed" in place.switches else 1.5

    def build(self) -> None:
        theirs, place = self.place.code.load("AutoVP", "auto_vp/programs.py"), self.place
        sizes = {"img_size": (3, place.inner, place.inner), "output_size": (3, place.side, place.side)}
        self.scale = theirs.Trainable_Resize(output_size=sizes["output_size"])
        self.scale.scale = nn.Parameter(torch.tensor(self.factor(place)), requires_grad="fixed" not in place.switches)
        names = {"model_name": "efficientnet_lite0", "dataset_name": "", "device": place.device}
        self.prompt = theirs.InputPadding(**sizes, normalization=self.readable, **names)
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

    def shared(self) -> list[Tensor]:
        scale = (self.scale.scale * self.place.inner / self.place.side).log()
        layer = self.full.layers.linear if isinstance(self.full.layers, Head) else self.full.layers
        return [self.prompt.delta, *([scale] if self.scale.scale.requires_grad else []), *transposed(layer)]

    def visible(self, values: list[Tensor]) -> list[Tensor]:
        return [values[0] * self.prompt.mask, *values[1:]]
