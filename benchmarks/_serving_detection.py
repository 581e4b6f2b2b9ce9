"""How many attacked and triggered inputs ``detect=true`` finds, and how many honest ones it flags.

Programs on EfficientNet-Lite0 at 96 pixels: digits (8 x 8, from 16 labels a class), MNIST (28 x 28, 16) and CIFAR-10 (32 x 32,
40, pictures cropped and scaled so that no grid of their JPEG files is left). Attacks are white-box PGD and FGSM on the program,
not on the detector, and a patch that the training labels of a second program were poisoned with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from reprogram.backdoor.triggers.patch import Patch
from reprogram.configuration import load
from reprogram.hooks import Run
from reprogram.inputs.none import NoPrompt
from reprogram.interfaces import TargetTask
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.result import Result
from reprogram.robustness.attacks.fgsm import FGSM
from reprogram.robustness.attacks.pgd import PGD
from reprogram.serving.detector import Detector
from reprogram.sources.efficientnet import EfficientNetLite
from reprogram.targets.base import ArrayExamples
from reprogram.targets.digits import digits
from reprogram.targets.mnist import mnist
from reprogram.threat import Threat
from reprogram.training.loop import Training

SIZES = {"digits": (0.1, 0.3), "mnist": (0.05, 0.1, 0.3), "cifar": (1 / 255, 2 / 255, 8 / 255)}  # linf, pixels in [0, 1]
HONEST, TESTED, ATTACKED = 300, 150, 24  # examples to calibrate on, to count false alarms on, to attack
POISONED = 0.25  # share of the training examples that get the patch and the label of the first class


def pictures(data: str, seed: int, cifar: str | None) -> tuple[TargetTask, Tensor, Tensor, Tensor, Tensor]:
    """(task, training pixels and labels, test pixels and labels), float [N, C, H, W]."""
    if data == "cifar":
        task: Any = load("target", "image_folder", root=cifar, shots=40, seed=seed)
    else:
        task = {"digits": digits, "mnist": mnist}[data](shots=16, seed=seed)
    rows = np.random.default_rng(seed).permutation(len(task.test))[: HONEST + TESTED]
    parts: list[Tensor] = []
    for examples, some in ((task.train, np.arange(len(task.train))), (task.test, rows)):
        images = torch.as_tensor(examples.batch(some))
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        if data == "cifar":
            images = interpolate(images[:, :, 3:30, 2:29], size=(32, 32), mode="bicubic").clamp(0, 1)
            images = (images * 255).round() / 255
        parts += [images, torch.as_tensor(np.asarray(examples.labels)[some]).long()]
    return (task, *parts)  # type: ignore[return-value]


def fitted(task: TargetTask, images: Tensor, labels: Tensor, folder: Path) -> ReprogrammedModel:
    model = ReprogrammedModel(EfficientNetLite("efficientnet_lite0"), NoPrompt(size=96), RidgeTaps(), task.info)
    run = Run(folder, 0, Result("reprogram", 0))
    Training(epochs=0).fit(model, ArrayExamples(images.numpy(), labels.numpy()), run)
    return model.eval()


def detection(folder: Path, data: str, seed: int, cifar: str | None) -> dict[str, Any]:
    """Shares above the threshold: of honest test examples, of broken ones for each attack, of triggered ones."""
    torch.set_num_threads(1)
    task, images, labels, test, truth = pictures(data, seed, cifar)
    model = fitted(task, images, labels, folder)
    honest, tested, few = test[:HONEST], test[HONEST:], slice(HONEST, HONEST + ATTACKED)
    detector = Detector.calibrated(model, list(honest.numpy()))

    def flagged(one: Detector, program: ReprogrammedModel, some: Tensor) -> float:
        return float((one.suspicion(program, list(some.detach().numpy())) > one.threshold).mean()) if len(some) else float("nan")

    right = torch.from_numpy(model.predict(test[few])) == truth[few]
    found: dict[str, Any] = {"data": data, "seed": seed, "accuracy": float(right.float().mean())}
    found |= {"promised": detector.false_alarms, "false_alarms": flagged(detector, model, tested), "tested": len(tested)}
    attacks = {f"PGD {eps:.3g}": PGD(Threat("linf", eps), seed=seed, steps=10) for eps in SIZES[data]}
    attacks[f"FGSM {SIZES[data][-1]:.3g}"] = FGSM(Threat("linf", SIZES[data][-1]), seed=seed)  # type: ignore[assignment]
    found["attacks"] = {}
    for name, attack in attacks.items():
        moved = attack(model, test[few], truth[few])
        broken = moved.broken & right
        share = flagged(detector, model, moved.examples[broken])
        found["attacks"][name] = {"broken": int(broken.sum()), "found": share}
    found["attacks"]["trigger"] = triggered(folder, task, (images, labels), (honest, tested, truth[HONEST:]), seed)
    return found


def triggered(folder: Path, task: TargetTask, train: Any, test: Any, seed: int) -> dict[str, Any]:
    """A program from poisoned labels, and how many inputs with the patch that it answers with the first class are found."""
    trigger = Patch(seed=seed)
    images, labels = train[0].clone(), train[1].clone()
    poisoned = torch.rand(len(images), generator=torch.Generator().manual_seed(seed)) < POISONED
    images[poisoned], labels[poisoned] = trigger.apply(images[poisoned]), 0
    model = fitted(task, images, labels, folder)
    honest, tested, truth = test
    detector = Detector.calibrated(model, list(honest.numpy()))
    others = trigger.apply(tested[truth != 0][:ATTACKED])
    hit = torch.from_numpy(model.predict(others)) == 0
    scores = detector.suspicion(model, list(others[hit].numpy())) if hit.any() else np.zeros(0)
    found = float((scores > detector.threshold).mean()) if len(scores) else float("nan")
    return {"broken": int(hit.sum()), "found": found}
