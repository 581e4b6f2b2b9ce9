"""Data of a source's own labels: what inspecting, washing and strengthening learn from and measure with."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from reprogram.backdoor.detection.integrity import CheckedFile, check_files
from reprogram.configuration import own_error
from reprogram.errors import ConfigError, DataError, ReprogramError
from reprogram.interfaces import SourceModel, TargetTask
from reprogram.modalities import modality
from reprogram.result import write_atomically
from reprogram.robustness.evaluated_model import gather
from reprogram.robustness.reading import as_read
from reprogram.targets.base import draw
from reprogram.tasks._run import whole_target


@dataclass
class OwnData:
    """Images [N, C, H, W], with its own labels [N]: to learn from, and to measure."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def checked_source(config: DictConfig) -> tuple[SourceModel, list[CheckedFile]]:
    """The source, loaded only after its files were looked at."""
    options: Any = OmegaConf.to_container(config.source, resolve=True)
    files = check_files(options)
    return instantiate(config.source), files


def another(config: DictConfig, path: str, option: str) -> tuple[SourceModel, list[CheckedFile]]:
    """A second source like the first, with the weights of a safetensors file or a folder of a transformers model.

    An error names the ``option`` that the path comes from.
    """
    second = config.copy()
    key = "weights" if "weights" in config.source else "name"
    OmegaConf.update(second, f"source.{key}", path)
    try:
        return checked_source(second)
    except (ReprogramError, InstantiationException) as error:
        if (ours := own_error(error)) is None:
            raise
        raise ConfigError(f"{option}={path} is no second model like the source: {ours}") from error


def has_own_labels(source: SourceModel, target: TargetTask) -> bool:
    """Are the target's classes the labels of this source?"""
    info = target.info
    return modality(info.kind).pixels and info.problem == "classification" and len(info.classes) == len(source.labels)


def own_data(config: DictConfig, source: SourceModel, examples: int | None, test: int | None, device: str) -> OwnData:
    """``examples`` training images (None: all), stratified by the seed, and ``test`` held-out ones, of the target.

    Raises ConfigError where the target's classes are not the source's labels, DataError where a class has no example.
    """
    target = whole_target(config)
    if not has_own_labels(source, target):
        raise ConfigError(
            f"task={config.task.name} needs examples of the source's own labels: {source.name} has "
            f"{len(source.labels):,} labels, but target={target.info.name} has {len(target.info.classes)} classes."
        )
    found = read_as_it_is(config, target, examples, test, device)
    channels, side = source.spec.channels, source.spec.size
    return replace(
        found, images=as_read(found.images, channels, side), test_images=as_read(found.test_images, channels, side)
    )


def read_as_it_is(
    config: DictConfig, target: TargetTask, examples: int | None, test: int | None, device: str
) -> OwnData:
    """The same in the target's own size and colours. DataError names a class without any example."""
    known = np.asarray(target.train.labels)
    absent = sorted(set(range(len(target.info.classes))) - set(known.tolist()))
    if absent:
        name = target.info.classes[absent[0]]
        raise DataError(f"The clean set has no example of class '{name}'; every class needs some.")
    rows = draw(known, config.seed, total=None if examples is None else min(examples, len(known)))
    return OwnData(
        *gather(target.train.subset(rows), None, device), *gather(target.test, test, device, config.seed)
    )  # fmt: skip


def keep_source(source: SourceModel, folder: Path) -> Path:
    """The changed copy as safetensors, for ``source.name=FOLDER`` (transformers) or ``source.weights=FILE``."""
    from safetensors.torch import save

    from reprogram.sources.huggingface import HuggingFaceImageModel

    if isinstance(source, HuggingFaceImageModel):
        model: Any = source.model
        model.save_pretrained(folder)
        write_atomically(folder / "preprocessor_config.json", json.dumps(source.preprocessing.to_processor(), indent=2) + "\n")
        return folder
    path = folder / "model.safetensors"
    write_atomically(path, save({k: v.detach().cpu().contiguous() for k, v in source.state_dict().items()}))
    return path


def loads_with(source: SourceModel, path: Path) -> str:
    """How the kept copy is named on the command line."""
    return f"source.name={path}" if path.is_dir() else f"source.weights={path}"
