"""One run of a published method, one of ours, and the seconds of an epoch of both."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _peer_methods import Place, Published
from _peer_pairs import Pair
from torch import Tensor
from torch.nn import functional as F

from reprogram.full_precision import full_precision
from reprogram.hooks import Hook, Run
from reprogram.interfaces import TargetTask
from reprogram.model import ReprogrammedModel
from reprogram.result import Result
from reprogram.sources.efficientnet import EfficientNetLite
from reprogram.targets.digits import digits
from reprogram.targets.image_folder import image_folder
from reprogram.targets.mnist import mnist
from reprogram.training.base import trainable
from reprogram.training.loop import peak_memory_mb

SHOTS = 16  # labels a class


def load(data: str, seed: int, cifar: str | None, test: int) -> TargetTask:
    """The task with at most ``test`` test images, the same ones for every seed."""
    made = {"digits": digits, "mnist": mnist, "cifar10-small": partial(image_folder, cifar or "")}
    task: TargetTask = made[data](shots=SHOTS, seed=seed)  # type: ignore[operator]
    task.test = task.test.subset(np.random.default_rng(0).permutation(len(task.test))[:test])
    return task


class Loader:
    """Batches (images, labels) as the method's loader brings them, in a new random order each time."""

    def __init__(self, method: Published, task: TargetTask, batch: int) -> None:
        self.method, self.examples, self.batch = method, task.train, batch
        self.labels = torch.from_numpy(task.train.labels).long()
        self.generator = torch.Generator().manual_seed(method.place.seed)

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.batches(torch.randperm(len(self.labels), generator=self.generator).numpy())

    def batches(self, order: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        device = self.method.place.device
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            images = self.method.loader_image(self.examples.batch(rows).float(), training=True)
            yield images.to(device), self.labels[torch.from_numpy(rows)].to(device)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Training batches of one epoch, in their order or in ours."""
        if "order" not in self.method.place.switches:
            return iter(self)
        rng = np.random.default_rng([self.method.place.seed, epoch])
        return self.batches(rng.permutation(np.arange(len(self.labels))))


def published(pair: Pair, task: TargetTask, place: Place, moved: int = 0) -> dict[str, Any]:
    """The published loop: accuracy of its last epoch, seconds of training, memory. ``moved``: see :func:`moves`."""
    method, ends = trained(pair, task, place, moves(moved) if moved else None)
    return found(predictions(method, task), task, ends)


def moves(draw: int) -> Callable[[Published, int, float], None]:
    """Moves the start by a millionth, in a direction of its own for each ``draw`` above 0: rounding, as it were."""

    def watch(method: Published, epoch: int, loss: float) -> None:
        if epoch < 0:
            generator = torch.Generator().manual_seed(draw)
            with torch.no_grad():
                for parameter in method.prompt.parameters():
                    parameter += 1e-6 * torch.randn(parameter.shape, generator=generator)

    return watch


def trained(
    pair: Pair, task: TargetTask, place: Place, watch: Callable[[Published, int, float], None] | None = None
) -> tuple[Published, list[float]]:
    """The published method after its loop, and the clock before the first epoch and after each.

    ``watch`` is called with method, epoch and mean loss before the first epoch (as -1) and after each.
    """
    batch = 64 if "batch" in place.switches else pair.published.batch
    place.batches = -(-len(task.train.labels) // batch)
    method = pair.published(place)
    optimisers = method.optimisers()
    schedulers = method.schedulers(optimisers)
    exact = "float32" in place.switches
    half = place.device.type == "cuda" and not exact
    scaler = torch.amp.GradScaler("cuda", enabled=half and method.scaler)
    loader = Loader(method, task, batch)
    if watch:
        watch(method, -1, float("nan"))
    ends = [clock(place.device)]
    with full_precision(place.device) if exact else nullcontext():
        for epoch in range(place.epochs):
            method.start_epoch(epoch, loader)
            method.train()
            method.network.eval()
            total = 0.0
            for images, labels in loader.epoch(epoch):
                for one in optimisers:
                    one.zero_grad()
                method.labels = labels
                with torch.autocast("cuda") if half else nullcontext():
                    loss = F.cross_entropy(method(images), labels)
                scaler.scale(loss).backward()
                for one in optimisers:
                    scaler.step(one)
                scaler.update()
                method.after_step()
                total += float(loss.detach()) * len(labels)
            for schedule in schedulers:
                schedule.step()
            method.eval()  # as the scripts do for their test, and count the next mapping in that state
            ends.append(clock(place.device))
            if watch:
                watch(method, epoch, total / len(task.train.labels))
    return method, ends


def found(predicted: np.ndarray, task: TargetTask, ends: list[float]) -> dict[str, Any]:
    """What a cell keeps."""
    epoch = statistics.median(np.diff(ends[1:])) if len(ends) > 2 else ends[1] - ends[0]
    row = {"accuracy": accuracy(predicted, task), "seconds": ends[-1] - ends[0], "epoch_seconds": float(epoch)}
    return row | {"memory": peak_memory_mb()}


@torch.no_grad()
def predictions(method: Published, task: TargetTask) -> np.ndarray:
    """Classes of the test images by the program of the last epoch, in float32 as the scripts test."""
    method.eval()
    found = []
    for start in range(0, len(task.test.labels), 256):
        rows = np.arange(start, min(start + 256, len(task.test.labels)))
        images = method.loader_image(task.test.batch(rows).float(), training=False)
        found.append(method(images.to(method.place.device)).argmax(1).cpu())
    return torch.cat(found).numpy()


def ours(pair: Pair, task: TargetTask, place: Place, precision: str = "auto") -> dict[str, Any]:
    """Our program and training loop, as a user calls them, with the same settings."""
    model, ends = ours_trained(pair, task, place, precision)
    return found(model.predict(task.test), task, ends)


def ours_trained(
    pair: Pair, task: TargetTask, place: Place, precision: str = "auto", start: Sequence[Tensor] = (), also: Sequence[Hook] = ()
) -> tuple[ReprogrammedModel, list[float]]:
    """Our program after training, from ``start`` if it is given, and the clock as for :func:`trained`."""
    model = ReprogrammedModel(EfficientNetLite(), *pair.program(place), task.info).to(place.device)
    with torch.no_grad():
        for parameter, value in zip(trainable(model), start, strict=False):
            parameter.copy_(value)
    training = pair.training(place.epochs, precision, 64 if "batch" in place.switches else None)
    watch = Ends(place.device)
    with tempfile.TemporaryDirectory() as folder:
        training.fit(model, task.train, Run(Path(folder), place.seed, Result("benchmark", place.seed)), [watch, *also])
    return model, watch.ends


class Ends(Hook):
    """The clock before training and after each epoch."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.ends = device, [clock(device)]

    def on_epoch_end(self, run: Run, model: ReprogrammedModel, epoch: int, metrics: dict[str, float]) -> None:
        self.ends.append(clock(self.device))


def accuracy(predicted: np.ndarray, task: TargetTask) -> float:
    return float((predicted == task.test.labels).mean())


def clock(device: torch.device) -> float:
    """Seconds: of this process on a CPU, whatever else the machine does; of the wall on a GPU, when it is done."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def paired_seconds(pair: Pair, task: TargetTask, place: Place, repeats: int) -> dict[str, Any]:
    """Seconds of an epoch of both, in turn, so that a drifting machine hits both; the first epoch of each run warms up."""
    rows = []
    for _ in range(repeats):
        theirs = published(pair, task, place)["epoch_seconds"]
        own = ours(pair, task, place, "float32")["epoch_seconds"]
        floor = floor_seconds(len(task.train.labels), pair.published.batch, place)
        rows.append((theirs, own, floor, input_seconds(pair, task, place)))
    names = ("published", "ours", "floor", "input")
    found = {name: statistics.median(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
    return found | {"faster": statistics.median(t / o for t, o, _, _ in rows), "repeats": repeats}


def input_seconds(pair: Pair, task: TargetTask, place: Place) -> float:
    """Seconds of our input transformation alone: each training image once forward, and back to what is trained."""
    model = ReprogrammedModel(EfficientNetLite(), *pair.program(place), task.info).to(place.device).train()
    rows, batch, ends = np.arange(len(task.train.labels)), pair.published.batch, []
    for _ in range(3):  # the first one warms up
        ends.append(clock(place.device))
        for start in range(0, len(rows), batch):
            (view,) = model.input(task.train.batch(rows[start : start + batch]).float().to(place.device))
            view.sum().backward()
    ends.append(clock(place.device))
    return float(min(np.diff(ends)[1:]))


def floor_seconds(images: int, batch: int, place: Place) -> float:
    """Seconds of what no loop around our source can leave out: each image once forward, and back to its pixels."""
    source = EfficientNetLite().to(place.device)
    pixels = torch.rand(images, 3, place.side, place.side, device=place.device)
    ends = []
    with full_precision(place.device):
        for _ in range(3):  # the first one warms up
            ends.append(clock(place.device))
            for part in pixels.split(batch):
                logits = source(part.requires_grad_(), ()).logits
                F.cross_entropy(logits, torch.zeros(len(part), dtype=torch.long, device=place.device)).backward()
    ends.append(clock(place.device))
    return min(np.diff(ends)[1:])
