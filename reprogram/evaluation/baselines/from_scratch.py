"""A small convolutional network trained on the few labels alone (images only)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from reprogram.evaluation.baselines.base import Baseline, Bench, NotApplicable
from reprogram.interfaces import Examples, to_tensor_labels
from reprogram.modalities import modality
from reprogram.pixels import resize
from reprogram.training import brier
from reprogram.training.augment import Affine

FEWEST = 16  # training examples of which a quarter can be held out


@dataclass
class FromScratch(Baseline):
    """Three blocks of convolution, BatchNorm and pooling; AdamW with one cycle, small random rotations and shifts.

    steps: batches of 64; of several numbers the one that does best on a quarter of the labels, held out, is taken, and the
    network trained again on all. side: images are resized to at most so many pixels. width: channels of the first block.
    """

    steps: tuple[int, ...] = (120, 300)
    side: int = 32
    width: int = 16

    def __call__(self, bench: Bench) -> dict[str, np.ndarray]:
        info = bench.target.info
        if not modality(info.kind).pixels:
            raise NotApplicable("the small network reads images only")
        train, labels = self._images(bench.target.train), to_tensor_labels(bench.target.train.labels)
        offset, scale = 0.0, 1.0
        if info.problem == "regression":
            offset, scale = float(labels.mean()), max(float(labels.std(correction=0)), 1e-6)
            labels = (labels - offset) / scale
        middle, spread = train.mean(), train.std().clamp_min(1e-3)
        train = (train - middle) / spread
        net = self._train(train, labels, bench, self._chosen_steps(train, labels, bench))
        with torch.inference_mode():
            parts = [net((part - middle) / spread) for part in self._images(bench.target.test).split(256)]
        scores = torch.cat(parts)
        if info.problem == "classification":
            scores = scores.softmax(1)
        elif info.problem == "multilabel":
            scores = scores.sigmoid()
        return {"from_scratch": (scores * scale + offset).numpy()}

    def _chosen_steps(self, images: Tensor, labels: Tensor, bench: Bench) -> int:
        """By squared error on held-out training examples; the first where there are too few to hold any out."""
        if len(self.steps) == 1 or len(images) < FEWEST:
            return self.steps[0]
        problem = bench.target.info.problem
        order = np.random.default_rng(bench.seed).permutation(len(images))
        held, kept = np.split(order, [len(order) // 4])
        errors = []
        for steps in self.steps:
            net = self._train(images[kept], labels[kept], bench, steps)
            with torch.inference_mode():
                logits = net(images[held])
            factor = brier.inverse_temperature(logits, labels[held], problem)
            squashed = brier.squash(logits * factor, problem)
            errors.append(float(brier.squared_error(squashed, labels[held], problem).nanmean()))
        return self.steps[int(np.argmin(errors))]

    def _train(self, images: Tensor, labels: Tensor, bench: Bench, steps: int) -> nn.Module:
        from reprogram.training.base import loss_for

        generator = torch.Generator().manual_seed(bench.seed)
        net = self._network(images.shape[1], len(bench.target.info.classes), bench.seed)
        optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
        loss_function, augment = loss_for(bench.target.info.problem), Affine(10.0, 0.1, 0.1, 0.05)
        order = torch.randperm(len(images), generator=generator)
        for _ in range(steps):
            if len(order) < min(64, len(images)):
                order = torch.cat([order, torch.randperm(len(images), generator=generator)])
            rows, order = order[:64], order[64:]
            if len(rows) < 2:  # BatchNorm needs two examples
                rows = rows.repeat(2)
            loss = loss_function(net(augment(images[rows], generator)), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        return net.eval()

    def _network(self, channels: int, outputs: int, seed: int) -> nn.Module:
        widths = (self.width, 2 * self.width, 4 * self.width)
        layers: list[nn.Module] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for before, after in zip((channels, *widths), widths, strict=False):
                layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
                layers += [nn.MaxPool2d(2, ceil_mode=True)]
            return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], outputs))

    def _images(self, examples: Examples) -> Tensor:
        """[N, C, h, w] of all examples, no side longer than ``side``."""
        parts = []
        for start in range(0, len(examples), 256):
            batch = examples.batch(np.arange(start, min(start + 256, len(examples))))
            if max(batch.shape[-2:]) > self.side:
                batch = resize(batch, self.side)
            parts.append(batch)
        return torch.cat(parts)
