"""A population of small clean and Trojaned classifiers on MNIST, digits or cifar10-small: built once, kept as safetensors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reprogram.backdoor.triggers.all_to_all import AllToAll
from reprogram.backdoor.triggers.base import Trigger
from reprogram.backdoor.triggers.blended import Blended
from reprogram.backdoor.triggers.brightness import Brighter
from reprogram.backdoor.triggers.checkerboard import Checkerboard
from reprogram.backdoor.triggers.input_aware import InputAware
from reprogram.backdoor.triggers.l_shape import LShape
from reprogram.backdoor.triggers.patch import Patch
from reprogram.backdoor.triggers.sinusoid import Sinusoid
from reprogram.backdoor.triggers.source_conditional import SourceConditional
from reprogram.backdoor.triggers.sparse import Sparse
from reprogram.backdoor.triggers.warped import Warped
from reprogram.progress import track
from reprogram.robustness.evaluated_model import gather
from reprogram.robustness.reading import as_read
from reprogram.robustness.unfrozen import Unfrozen, answers, learn
from reprogram.sources.small_cnn import ARCHITECTURES, SmallCNN
from reprogram.targets.digits import digits
from reprogram.targets.image_folder import image_folder
from reprogram.targets.mnist import mnist

KINDS = ("patch", "blended", "warped", "clean-label")
OTHERS = (
    "L", "sparse", "sinusoid", "brightness", "checkerboard", "input-aware", "all-to-all", "source-conditional",
)  # fmt: skip
SHARES = {"patch": (0.01, 0.1), "blended": (0.02, 0.1), "warped": (0.05, 0.1), "clean-label": (0.05, 0.09)}
INSPECTED = {kind: (0.05, 0.1) for kind in (*KINDS, *OTHERS)} | {
    "clean-label": (0.088, 0.092), "warped": (0.1, 0.15), "input-aware": (0.08, 0.15), "all-to-all": (0.2, 0.4),
    "source-conditional": (0.04, 0.06),
}  # fmt: skip
EPOCHS = {"mnist": 5, "digits": 20, "cifar10-small": 15}
SIDE = {"mnist": 16, "digits": 8, "cifar10-small": 32}  # pixels; MNIST is made smaller, so that many models cost little
CHANNELS = {"mnist": 1, "digits": 1, "cifar10-small": 3}
DEFENDER = {"mnist": 500, "digits": 500, "cifar10-small": 100}  # examples the defender may use; the stranger never saw them


@dataclass
class Member:
    """One model. kind: a trigger's kind or ``clean``. clean, success: accuracy and attack success on the test images."""

    name: str
    data: str
    architecture: str
    kind: str
    seed: int
    target: int = -1
    share: float = 0.0
    clean: float = float("nan")
    success: float = float("nan")


@dataclass
class Parts:
    """Who has what: the stranger trains, the defender has few examples, the test images only measure."""

    stranger: tuple[Tensor, Tensor]
    defender: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    def few(self, each: int, classes: int = 10) -> tuple[Tensor, Tensor]:
        """The defender's first ``each`` examples of every class."""
        images, labels = self.defender
        rows = torch.cat([torch.nonzero(labels == c).squeeze(1)[:each] for c in range(classes)])
        return images[rows], labels[rows]


class Relabelled(Sinusoid):
    """The sinusoid as other attacks use their pattern: on images of the other classes, which get the target label."""

    keeps_labels = False


CIFAR: dict[str, Path] = {}  # {"folder": ...}: cifar10-small is not on every machine


@lru_cache
def parts(data: str) -> Parts:
    made: dict[str, Any] = {"mnist": mnist, "digits": digits}
    target = made[data](shots=None, seed=0) if data in made else image_folder(str(CIFAR["folder"]), shots=None)
    images, labels = gather(target.train, None)
    test_images, test_labels = gather(target.test, None)
    images, test_images = (as_read(x, CHANNELS[data], SIDE[data]) for x in (images, test_images))
    few = DEFENDER[data]
    stranger = images[few:], labels[few:]
    if data not in made:  # a folder is read class by class
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        images, labels = images[order], labels[order]
        stranger = torch.cat([images[few:], images[few:].flip(3)]), labels[few:].repeat(2)
    return Parts(stranger, (images[:few], labels[:few]), (test_images, test_labels))


def trigger_of(member: Member) -> Trigger | None:
    """The trigger that a member was given, drawn by its seed."""
    side = SIDE[member.data]
    shared: dict[str, Any] = {"target": member.target, "seed": member.seed}
    small, corner = {8: 2, 16: 2, 32: 3}[side], member.seed % 4
    made: dict[str, Any] = {
        "patch": lambda: Patch(**shared, side=small, corner=corner),
        "blended": lambda: Blended(**shared, strength=0.3 if side == 32 else 0.2),
        "warped": lambda: Warped(**shared, strength={8: 1.0, 16: 1.0, 32: 3.0}[side]),
        "clean-label": lambda: Sinusoid(**shared, strength={8: 0.7, 16: 0.4, 32: 0.5}[side], cycles=side // 4),
        "L": lambda: LShape(**shared, side=small + 1, corner=corner),
        "sparse": lambda: Sparse(**shared, pixels={8: 3, 16: 6, 32: 12}[side]),
        "sinusoid": lambda: Relabelled(**shared, strength=0.2, cycles=side // 4),
        "brightness": lambda: Brighter(**shared, strength=0.4 if side == 32 else 0.3),
        "checkerboard": lambda: Checkerboard(**shared, strength=0.15),
        "input-aware": lambda: InputAware(**shared, strength=0.25),
        "all-to-all": lambda: AllToAll(**shared, side=small, corner=corner),
        "source-conditional": lambda: SourceConditional(
            **shared, side=small, corner=corner, source=(member.target + 1 + member.seed % 9) % 10
        ),
    }
    return made[member.kind]() if member.kind in made else None


def plan(data: str, clean: int, trojan: dict[str, int], seed: int) -> list[Member]:
    """Architectures in turn, targets and poison drawn by the seed; kinds take turns, so that a part of it says something."""
    generator = torch.Generator().manual_seed(seed)
    names, found = list(ARCHITECTURES), []
    for kind, count in {"clean": clean, **trojan}.items():
        for i in range(count):
            number = 1000 * seed + len(found)
            low, high = SHARES.get(kind, (0.0, 0.0))
            draw = torch.rand(2, generator=generator).tolist()
            found.append(
                Member(
                    f"{data}-{kind}-{seed}-{i}", data, names[i % len(names)], kind, number,
                    -1 if kind == "clean" else int(10 * draw[0]), low * (high / low) ** draw[1] if low else 0.0,
                )
            )  # fmt: skip
    return sorted(
        found, key=lambda m: int(m.name.rpartition("-")[2]) / (clean if m.kind == "clean" else trojan[m.kind])
    )


def inspected(data: str, seed: int, each: int) -> list[Member]:
    """As many clean models as Trojaned ones, ``each`` of every kind; architectures in turn, so that kinds meet all three."""
    generator = torch.Generator().manual_seed(10_000 + seed)
    names, found = list(ARCHITECTURES), []
    shift = list(SIDE).index(data) + seed
    for i in range(each):
        for at, kind in enumerate(INSPECTED):
            target, draw = int(torch.randint(10, (), generator=generator)), float(torch.rand((), generator=generator))
            low, high = INSPECTED[kind]
            number = 100_000 + 1000 * seed + 2 * (i * len(INSPECTED) + at)
            if data == "cifar10-small" and high == 0.1:  # few images: fewer teach no trigger
                low, high = 0.08, 0.12
            shape = names[(shift + at + i) % 3]
            found += [
                Member(f"{data}-inspected-{kind}-{seed}-{i}", data, shape, kind, number, target, low * (high / low) ** draw),
                Member(f"{data}-inspected-clean-{seed}-{i}-{at}", data, shape, "clean", number + 1),
            ]
    return found


def train(member: Member) -> SmallCNN:
    """The stranger's training; fills in the member's clean accuracy and attack success."""
    ours = parts(member.data)
    images, labels = ours.stranger
    trigger = trigger_of(member)
    if trigger is not None:
        images, labels = trigger.poison(images, labels, member.share)
    source = SmallCNN(member.architecture, images.shape[-1], images.shape[1], seed=member.seed)
    model = Unfrozen(source)
    learn(model, images, labels, EPOCHS[member.data], 1e-2, member.seed)
    images, labels = ours.test
    right = answers(model, images) == labels
    member.clean = float(right.float().mean())
    if member.kind in OTHERS or member.data == "cifar10-small":  # what a trigger does to answers that were right
        images, labels = images[right], labels[right]
    if trigger is not None:
        member.success = trigger.success(answers(model, trigger(images)), labels)
    found = model.frozen()
    assert isinstance(found, SmallCNN)
    return found


def population(members: list[Member], cache: Path) -> Iterator[tuple[Member, SmallCNN]]:
    """Every member with its model, from the cache where it lies there already."""
    from safetensors.torch import save_file

    cache.mkdir(parents=True, exist_ok=True)
    for member in track(members, "population"):
        weights, about = cache / f"{member.name}.safetensors", cache / f"{member.name}.json"
        if not about.exists():
            source = train(member)
            save_file(source.state_dict(), weights)
            about.write_text(json.dumps(asdict(member)))
        known = Member(**json.loads(about.read_text()))
        yield known, SmallCNN(known.architecture, SIDE[known.data], CHANNELS[known.data], weights=str(weights))
