"""The authors' own classes, imported from checkouts that the reader has made; nothing of theirs is kept here.

Their files import what their scripts need (loggers, CLIP, plots). Where such a package is not installed, a stand-in takes its
place while the file is imported: the classes that are used do not touch it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor
from torch.nn import functional as F

from reprogram.errors import DataError

REPOSITORIES = {  # folder -> (GitHub repository, the files that are imported)
    "ILM-VP": ("OPTML-Group/ILM-VP", ("models/visual_prompt.py", "algorithms/flm_calculation.py")),
    "BayesianLM": ("tmlr-group/BayesianLM", ("reprogramming.py", "mapping.py")),
    "SMM": ("tmlr-group/SMM", ("instance_model.py", "labelmapping/flm_calculation.py")),
    "LoR-VP": ("jincan333/LoR-VP", ("trainer/visual_prompt.py", "utils/scheduler.py")),
    "AutoVP": ("IBM/AutoVP", ("auto_vp/programs.py",)),
    "BlackVIP": (
        "changdaeoh/BlackVIP",
        ("trainers/blackvip.py", "trainers/visual_prompters.py", "trainers/utils.py", "my_dassl/metrics/accuracy.py"),
    ),
}
LOGGERS = ("wandb", "clip", "clip.clip", "clip.simple_tokenizer", "matplotlib", "matplotlib.pyplot")


class Checkout:
    """A folder with one checkout for each repository of :data:`REPOSITORIES`, under its short name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise DataError(f"--checkout={folder} is no folder; make it, and in it {clone('ILM-VP')}, and so on.")
        self._loaded: dict[tuple[str, str], ModuleType] = {}

    def check(self, repository: str) -> None:
        """Raises DataError, naming what to type, where the repository or one of its files is missing."""
        for file in REPOSITORIES[repository][1]:
            if not (self.folder / repository / file).is_file():
                missing = "is missing" if (self.folder / repository).is_dir() else "is missing, as is its folder"
                raise DataError(f"--checkout={self.folder}: {repository}/{file} {missing}; {clone(repository)}")

    def load(self, repository: str, file: str) -> Any:
        """The module that ``file`` of ``repository`` is."""
        self.check(repository)
        if (repository, file) not in self._loaded:
            with standing_in(stand_ins(self, repository)), redirect_stdout(StringIO()):
                self._loaded[repository, file] = imported(self.folder / repository / file)
        return self._loaded[repository, file]


def clone(repository: str) -> str:
    return f"git clone https://github.com/{REPOSITORIES[repository][0]} {repository}"


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"published_{path.parent.name}_{path.stem}".replace("-", "_"), path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise DataError(f"{path} cannot be imported: {error}. Is it the repository's own file?") from error
    return module


@contextmanager
def standing_in(modules: dict[str, Any]) -> Iterator[None]:
    """``sys.modules`` with stand-ins; afterwards it is as before."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


def stand_ins(checkout: Checkout, repository: str) -> dict[str, Any]:
    """What the repository's files import beside torch and themselves."""
    found: dict[str, Any] = {name: MagicMock() for name in LOGGERS}
    if repository == "AutoVP" and importlib.util.find_spec("kornia") is None:
        kornia = MagicMock()
        kornia.geometry.transform.scale = scaled
        found["kornia"] = kornia
    if repository == "BlackVIP":
        found |= {"pandas": MagicMock(), "PIL": MagicMock(), "transformers": MagicMock(), "trainers.zsclip": MagicMock()}
        found |= {f"my_dassl.{name}": MagicMock() for name in ("utils", "optim", "metrics")} | {"my_dassl": MagicMock()}
        found["my_dassl.engine"] = module("my_dassl.engine", TrainerX=object, TRAINER_REGISTRY=Registry())
        transforms = module("torchvision.transforms", Normalize=Normalize)
        found |= {"torchvision.transforms": transforms, "torchvision": module("torchvision", transforms=transforms)}
        package = module("trainers", __path__=[str(checkout.folder / repository / "trainers")])
        accuracy = checkout.folder / repository / "my_dassl" / "metrics" / "accuracy.py"
        found["my_dassl.metrics"] = module("my_dassl.metrics", compute_accuracy=imported(accuracy).compute_accuracy)
        found |= {"trainers": package, "trainers.utils": None, "trainers.visual_prompters": None}
        with standing_in({k: v for k, v in found.items() if v is not None}):
            for name in ("utils", "visual_prompters"):
                found[f"trainers.{name}"] = imported(checkout.folder / repository / "trainers" / f"{name}.py")
                sys.modules[f"trainers.{name}"] = found[f"trainers.{name}"]
                setattr(package, name, found[f"trainers.{name}"])
    return found


def module(name: str, **contents: Any) -> ModuleType:
    made = ModuleType(name)
    made.__dict__.update(contents)
    return made


class Registry:
    """Where Dassl's trainers enrol: here they only stay what they are."""

    def register(self) -> Any:
        return lambda trainer: trainer


class Normalize:
    """torchvision's transform of that name, on tensors."""

    def __init__(self, mean: Any, std: Any) -> None:
        self.mean, self.std = (torch.as_tensor(v).view(-1, 1, 1) for v in (mean, std))

    def __call__(self, images: Tensor) -> Tensor:
        return (images - self.mean.to(images)) / self.std.to(images)


def scaled(images: Tensor, scale: Tensor) -> Tensor:
    """kornia's function of that name: about the centre, bilinear, zeros outside, corners aligned."""
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale
    grid = F.affine_grid(theta, list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=True)
