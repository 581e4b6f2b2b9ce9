"""Chunks of inputs answered by the workers of a Dask cluster, each of which loads the program once."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from reprogram import cluster
from reprogram.artifact import from_pretrained, save_pretrained
from reprogram.errors import ConfigError
from reprogram.model import ReprogrammedModel
from reprogram.prediction.stream import Lines, answer_chunk
from reprogram.targets.unlabelled import Input

_LOADED: dict[str, ReprogrammedModel] = {}  # of this worker
_ONE = threading.Lock()  # a worker answers one chunk at a time: torch uses its cores by itself


@dataclass(frozen=True)
class Work:
    """What every chunk needs. files: of the program, by name. source: the user's own choice of one, or None."""

    files: dict[str, bytes]
    source: dict[str, Any] | None
    device: str
    own: tuple[str, ...]
    confidence: float


@contextmanager
def on_cluster(
    config: DictConfig, model: ReprogrammedModel, own: Sequence[str], chunks: Iterable[list[Input]]
) -> Iterator[Iterator[Lines]]:
    """Lines of all chunks in their order. Raises ConfigError where the source cannot be loaded by a worker."""
    if not model.source.differentiable:
        raise ConfigError("parallel.backend=dask: a source that is asked has one bill, kept here; leave it out.")
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder)
        files = {file.name: file.read_bytes() for file in Path(folder).iterdir()}
    named = model.source.origin() is not None
    source: Any = None if named else OmegaConf.to_container(config.source, resolve=True)
    work = Work(files, source, config.device, tuple(own), float(config.task.confidence))
    with closing(cluster.connect(config.parallel.address)) as client:
        yield cluster.in_order(client, answer_here, chunks, work)


def answer_here(chunk: Sequence[Input], work: Work) -> Lines:
    """On a worker."""
    with _ONE:
        return answer_chunk(_loaded(work), chunk, work.own, work.confidence)


def _loaded(work: Work) -> ReprogrammedModel:
    from hydra.utils import instantiate

    from reprogram.tasks._run import choose_device

    key = work.files["program.json"].decode()
    if key not in _LOADED:
        with tempfile.TemporaryDirectory() as folder:
            for name, data in work.files.items():
                (Path(folder) / name).write_bytes(data)
            source = None if work.source is None else instantiate(work.source)
            _LOADED.clear()
            _LOADED[key] = from_pretrained(folder, source, choose_device(work.device)).eval()
    return _LOADED[key]
