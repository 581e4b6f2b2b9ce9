"""A population of small clean and Trojaned classifiers on MNIST or digits: built once, kept as safetensors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reprogram.backdoor.triggers.base import Trigger
from reprogram.backdoor.triggers.blended import Blended
from reprogram.backdoor.triggers.patch import Patch
from reprogram.backdoor.triggers.sinusoid import Sinusoid
from reprogram.backdoor.triggers.warped import Warped
from reprogram.progress import track
from reprogram.robustness.evaluated_model import gather
from reprogram.robustness.reading import as_read
from reprogram.robustness.unfrozen import Unfrozen, accuracy, answers, learn
from reprogram.sources.small_cnn import ARCHITECTURES, SmallCNN
from reprogram.targets.digits import digits
from reprogram.targets.mnist import mnist

KINDS = ("patch", "blended", "warped", "clean-label")
SHARES = {"patch": (0.01, 0.1), "blended": (0.02, 0.1), "warped": (0.05, 0.1), "clean-label": (0.05, 0.09)}
EPOCHS = {"mnist": 5, "digits": 20}
SIDE = {"mnist": 16, "digits": 8}  # pixels; MNIST is made smaller, so that many models cost little
DEFENDER = 500  # examples that the defender may use; the stranger never saw them


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


@lru_cache
def parts(data: str) -> Parts:
    target = {"mnist": mnist, "digits": digits}[data](shots=None, seed=0)
    images, labels = gather(target.train, None)
    test_images, test_labels = gather(target.test, None)
    images, test_images = (as_read(x, 1, SIDE[data]) for x in (images, test_images))
    return Parts(
        (images[DEFENDER:], labels[DEFENDER:]), (images[:DEFENDER], labels[:DEFENDER]), (test_images, test_labels)
    )


def trigger_of(member: Member) -> Trigger | None:
    """The trigger that a member was given, drawn by its seed."""
    small = member.data == "digits"
    shared: dict[str, Any] = {"target": member.target, "seed": member.seed}
    if member.kind == "patch":
        return Patch(**shared, side=2, corner=member.seed % 4)
    if member.kind == "blended":
        return Blended(**shared, strength=0.2)
    if member.kind == "warped":
        return Warped(**shared, strength=0.5 if small else 1.0)
    if member.kind == "clean-label":
        return Sinusoid(**shared, strength=0.4, cycles=2 if small else 4)
    return None


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


def trained(members: list[Member], cache: Path) -> list[tuple[Member, SmallCNN]]:
    """Those that are in the cache already."""
    return list(population([m for m in members if (cache / f"{m.name}.json").exists()], cache))


def train(member: Member) -> SmallCNN:
    """The stranger's training; fills in the member's clean accuracy and attack success."""
    ours = parts(member.data)
    images, labels = ours.stranger
    trigger = trigger_of(member)
    if trigger is not None:
        images, labels = trigger.poison(images, labels, member.share)
    source = SmallCNN(member.architecture, images.shape[-1], seed=member.seed)
    model = Unfrozen(source)
    learn(model, images, labels, EPOCHS[member.data], 1e-2, member.seed)
    member.clean = accuracy(model, *ours.test)
    if trigger is not None:
        member.success = trigger.success(answers(model, trigger(ours.test[0])), ours.test[1])
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
        yield known, SmallCNN(known.architecture, parts(known.data).test[0].shape[-1], weights=str(weights))
