"""Frozen features of whole data sets for the label benchmarks, computed once and kept in a folder.

Images: EfficientNet-Lite0, the layers that ``output=ridge_taps`` reads, the pooled features and the logits at 128 px (and
the pooled features at 224 px for the plain linear probe). Strings: MiniLM, all layers, three poolings; molecules as
canonical SMILES with RDKit descriptors beside, peptides with their composition beside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from cached_answers import Answers
from few_label_sequences import POOLINGS, kept, read_taps
from torch import Tensor

from molecules.featurisers import Descriptors
from molecules.targets import molecules_csv
from reprogram.featurisers import Composition
from reprogram.interfaces import Examples, SourceOutput, SourceSpec, Tap, TargetInfo
from reprogram.modalities import modality
from reprogram.sources.efficientnet import EfficientNetLite
from reprogram.sources.minilm import MiniLM
from reprogram.targets.amp import amp
from reprogram.targets.digits import digits
from reprogram.targets.image_folder import image_folder
from reprogram.targets.mnist import mnist

IMAGES, STRINGS = ("digits", "mnist", "cifar10-small"), ("bbbp", "amp")
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
SIDE, SPLIT = 128, 2024  # split: of the rows that settings were chosen on


@dataclass
class Data:
    """One target: ``values`` {name: [N, D]} for all rows, labels [N], and which rows are for the test."""

    info: TargetInfo
    spec: SourceSpec
    values: dict[str, Tensor]
    labels: np.ndarray
    test: np.ndarray
    sizes: list[int] = field(default_factory=list)
    photographs: bool = False

    def outputs(self, rows: np.ndarray) -> list[SourceOutput]:
        """The source's answers for these rows, as a program sees them."""
        index = torch.from_numpy(np.asarray(rows))
        taps = {
            Tap(*name.split("@")): value[index].float() for name, value in self.values.items() if "@" in name
        }
        features = self.values["features"][index].float()
        logits = self.values["logits"][index].float() if "logits" in self.values else torch.zeros(len(index), 0)
        return [SourceOutput(logits, features, taps)]

    def probe(self, rows: np.ndarray) -> np.ndarray:
        """What a plain linear probe reads."""
        return self.values["probe"][torch.from_numpy(np.asarray(rows))].float().numpy()

    def split(self, seed: int, choosing: bool) -> tuple[np.ndarray, np.ndarray]:
        """(rows that may be labelled, rows that judge). While settings are ``choosing``, no test row takes part: 30% of
        the others judge."""
        rest = np.setdiff1d(np.arange(len(self.labels)), self.test)
        if not choosing:
            return np.random.default_rng(seed).permutation(rest), self.test
        order = np.random.default_rng(SPLIT).permutation(rest)
        judge = min(1000, round(0.3 * len(rest)))
        return np.random.default_rng(seed).permutation(order[judge:]), order[:judge]


def load(name: str, folder: Path, cifar: str | None = None, bbbp: str | None = None) -> Data:
    return _images(name, folder, cifar) if name in IMAGES else _strings(name, folder, bbbp)


def _images(name: str, folder: Path, cifar: str | None) -> Data:
    made = {"digits": partial(digits, shots=None), "mnist": partial(mnist, shots=None)}
    task = made[name]() if name in made else image_folder(str(cifar), shots=None)
    source = EfficientNetLite()
    answers = Answers(source, folder / name)
    parts = [
        answers.outputs(examples, [f"{side}:{row}" for row in range(len(examples))], [(SIDE, "plain"), (224, "plain")])
        for side, examples in (("train", task.train), ("test", task.test))
    ]
    near, own = ([part[view] for part in parts] for view in (0, 1))
    values = {f"{tap.layer}@{tap.pooling}": _stack([p.taps[tap] for p in near]) for tap in answers.taps}
    values |= {"features": _stack([p.features for p in near]), "logits": _stack([p.logits for p in near])}
    values["probe"] = _stack([p.features for p in own])
    labels = np.concatenate([task.train.labels, task.test.labels])
    test = np.arange(len(task.train), len(labels))
    shape = task.info.input_shape
    return Data(task.info, source.spec, values, labels, test, photographs=shape is not None and shape[0] == 3)


def _stack(parts: list[Tensor | None]) -> Tensor:
    return torch.cat([part.half() for part in parts if part is not None])


def _strings(name: str, folder: Path, bbbp: str | None) -> Data:
    task = amp(labels=None) if name == "amp" else molecules_csv(str(bbbp), "smiles", "p_np", labels=None, name=name)
    sides: tuple[Examples, ...] = (task.train, task.test)
    strings = [text for side in sides for text in side.batch(np.arange(len(side)))]
    labels = np.concatenate([side.labels for side in sides])
    source = MiniLM()
    read = torch.from_numpy(np.asarray(kept(folder, f"{name}-taps", strings, partial(read_taps, source))))
    plain = {"composition": Composition(AMINO_ACIDS)} if name == "amp" else {"descriptors": Descriptors()}
    layers = list(dict.fromkeys(tap.split("@")[0] for tap in modality(source.spec.kind).default_layers(source.spec)))
    values = {
        f"{layer}@{pooling}": read[:, source.spec.taps.index(layer), j]
        for layer in layers
        for j, pooling in enumerate(POOLINGS)
    }
    for key, featuriser in plain.items():
        values[f"{key}@beside"] = torch.from_numpy(np.asarray(kept(folder, f"{name}-{key}", strings, featuriser)))
    values["features"] = values["probe"] = read[:, -1, 0]
    return Data(task.info, source.spec, values, labels, np.arange(len(task.train), len(labels)))
