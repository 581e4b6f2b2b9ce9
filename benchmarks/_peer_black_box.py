"""BlackVIP's coordinator and SPSA-GC, as its repository has them, around a model that answers queries; and ours beside it."""

from __future__ import annotations

import tempfile
import types
from argparse import Namespace
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from _peer_code import Checkout, Normalize
from _peer_runs import accuracy, clock
from torch import Tensor, nn
from torch.nn import functional as F

from reprogram.hooks import Run
from reprogram.inputs.coarse import Coarse
from reprogram.interfaces import TargetTask
from reprogram.model import ReprogrammedModel
from reprogram.outputs._counts import match_greedily
from reprogram.outputs.frequency import FrequencyMapping
from reprogram.pixels import resize, with_channels
from reprogram.result import Result
from reprogram.sources.efficientnet import EfficientNetLite
from reprogram.training.hold_out_selection import held_out
from reprogram.training.loop import Training
from reprogram.training.spsa_gc import SpsaGc

BATCH, PAIRS = 128, 5
GAINS = {"o": 1.0, "c": 0.01, "a": 0.01, "alpha": 0.4, "gamma": 0.1}  # SPSA_PARAMS of its configuration files
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP, in which its prompt lives


def stepper(code: Checkout, model: nn.Module, searched: nn.Module, device: torch.device) -> Callable[[Tensor, Tensor], Any]:
    """One step of BlackVIP's own trainer, (images, labels) -> what it reports, on the parameters of ``searched``."""
    theirs = code.load("BlackVIP", "trainers/blackvip.py").BLACKVIP
    state = Namespace(**GAINS, step=0, m1=0, b1=0.9, sp_avg=PAIRS, opt_type="spsa-gc", loss_fn=F.cross_entropy)
    state.cfg = Namespace(use_wandb=False)
    state.N_params = sum(p.numel() for p in searched.parameters())
    state.parse_batch_train = lambda batch: batch
    state.spsa_grad_estimate_bi = types.MethodType(theirs.spsa_grad_estimate_bi, state)
    wrapped = nn.Module()
    wrapped.coordinator = nn.Module()
    wrapped.coordinator.dec = searched
    wrapped.forward = model.__call__
    state.model = wrapped

    def step(images: Tensor, labels: Tensor) -> Any:
        state.step += 1
        with on(device), torch.no_grad():
            return theirs.forward_backward(state, (images, labels))

    return step


@contextmanager
def on(device: torch.device) -> Any:
    """Inside, the script's ``.cuda()`` means ``device``."""
    with patch.object(torch.Tensor, "cuda", lambda tensor, *_, **__: tensor.to(device)):
        yield


class Coordinated(nn.Module):
    """Pixels -> CLIP's normalisation -> image + prompt of the coordinator, clipped -> pixels -> source -> mapped logits."""

    def __init__(self, code: Checkout, device: torch.device) -> None:
        super().__init__()
        prompters = code.load("BlackVIP", "trainers/visual_prompters.py")
        self.clipped = code.load("BlackVIP", "trainers/utils.py").clip_clipping
        args = Namespace(TRAINER=Namespace(BLACKVIP=Namespace(E_OUT_DIM=32, SRC_DIM=1568)))
        self.coordinator = prompters.coordinator_init(args).requires_grad_(False)
        self.source = EfficientNetLite()
        self.index: Tensor | None = None
        inverse = [-m / s for m, s in zip(MEAN, STD, strict=True)], [1 / s for s in STD]
        self.into, self.back = Normalize(MEAN, STD), Normalize(*inverse)
        self.to(device)

    def forward(self, pixels: Tensor) -> Tensor:
        image = self.into(pixels)
        prompt, _ = self.coordinator(image)
        logits = self.source(self.back(self.clipped(image + prompt)).clamp(0, 1)).logits.float()
        return logits if self.index is None else logits[:, self.index]


def batch_of(task_part: Any, rows: np.ndarray, side: int, device: torch.device) -> Tensor:
    return with_channels(resize(task_part.batch(rows).float(), side), 3).to(device)


def blackvip(code: Checkout, task: TargetTask, side: int, device: torch.device, seed: int, queries: int) -> dict[str, Any]:
    """Its method without augmentation, on the mapping that its start gives by counts, until ``queries`` are spent."""
    torch.manual_seed(seed)
    model = Coordinated(code, device)
    everything, labels = np.arange(len(task.train.labels)), torch.from_numpy(task.train.labels).long()
    model.train(), model.source.eval()
    with torch.no_grad():
        logits = model(batch_of(task.train, everything, side, device)).cpu()
    one_hot = F.one_hot(labels, 10).double()
    top = F.one_hot(logits.argmax(1), logits.shape[1]).double()
    model.index = match_greedily(torch.stack([top.T @ one_hot, logits.double().softmax(1).T @ one_hot]))[:, 0].to(device)
    start = tested(model, task, side, device)
    step, spent, started = stepper(code, model, model.coordinator.dec, device), len(everything), clock(device)
    generator = torch.Generator().manual_seed(seed)
    while spent + len(everything) * 2 * PAIRS <= queries:
        order = torch.randperm(len(everything), generator=generator)
        model.coordinator.dec.train()
        for rows in order.split(BATCH):
            step(batch_of(task.train, rows.numpy(), side, device), labels[rows].to(device))
        spent += len(everything) * 2 * PAIRS
    seconds = clock(device) - started
    return {"accuracy": tested(model, task, side, device), "start": start, "queries": spent, "seconds": seconds}


@torch.no_grad()
def tested(model: Coordinated, task: TargetTask, side: int, device: torch.device) -> float:
    """Its test switches the decoder alone to evaluation: the encoder still normalises by batches, as its trainer leaves it."""
    model.coordinator.dec.eval()
    parts = torch.arange(len(task.test.labels)).split(100)
    found = [model(batch_of(task.test, rows.numpy(), side, device)).argmax(1).cpu() for rows in parts]
    return accuracy(torch.cat(found).numpy(), task)


def ours(task: TargetTask, side: int, device: torch.device, seed: int, queries: int, settings: str) -> dict[str, Any]:
    """input=coarse output=frequency training=spsa_gc; ``settings``: our defaults, or the published ones."""
    model = ReprogrammedModel(EfficientNetLite(), Coarse(size=side), FrequencyMapping(), task.info).to(device)
    searched = int((~held_out(task.train.labels, seed)).sum())
    each = searched * 2 * PAIRS + len(task.train.labels)
    optimiser = SpsaGc() if settings == "ours" else SpsaGc(pairs=PAIRS, gain=GAINS["a"], probe=GAINS["c"])
    epochs = (queries - 3 * len(task.train.labels)) // each
    training = Training(epochs, 16 if settings == "ours" else BATCH, optimiser, precision="float32")
    start = Training(0).fit
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), seed, Result("benchmark", seed))
        start(model, task.train, run)
        before = accuracy(model.predict(task.test), task)
        model = ReprogrammedModel(EfficientNetLite(), Coarse(size=side), FrequencyMapping(), task.info).to(device)
        started = clock(device)
        history = training.fit(model, task.train, run)
        seconds = clock(device) - started
    found = {"accuracy": accuracy(model.predict(task.test), task), "start": before, "seconds": seconds}
    return found | {"queries": epochs * each + 3 * len(task.train.labels), "kept": history.search["kept"]}
