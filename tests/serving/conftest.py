"""Programs of tiny frozen models, and one real server for all tests of this folder."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reprogram.artifact import from_pretrained
from reprogram.inputs.none import NoPrompt
from reprogram.inputs.signal_views import SignalViews
from reprogram.inputs.text import Text
from reprogram.interfaces import TargetInfo
from reprogram.model import ReprogrammedModel
from reprogram.sources.huggingface import HuggingFaceImageModel
from reprogram.sources.text import TextSource
from reprogram.targets._signals import SignalExamples
from reprogram.targets.base import ArrayExamples, StringExamples

sys.path.insert(0, str(Path(__file__).parent))
from served import WORDS, Running, fit, free_port, pictures, sentences, tones


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory, text_models: Any) -> dict[str, Path]:
    """colours, shades and tones (sounds; one frozen source), films (classes of text), marks (values of text)."""
    import transformers

    root = tmp_path_factory.mktemp("served")
    torch.manual_seed(0)
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=5)
    transformers.ResNetForImageClassification(config).save_pretrained(root / "resnet")
    settings = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (root / "resnet" / "preprocessor_config.json").write_text(json.dumps(settings))
    source = HuggingFaceImageModel(str(root / "resnet"))
    images, labels = pictures(60, 0)
    found = {}
    wanted = {"colours": (("red", "green", "blue"), labels), "shades": (("red", "other"), np.minimum(labels, 1))}
    for name, (classes, own) in wanted.items():
        info = TargetInfo(name, "image", "classification", classes, (3, 12, 12))
        found[name] = fit(root / name, source, NoPrompt(size=32), ArrayExamples(images, own), info)
    sounds, heard = tones(24, 0)
    info = TargetInfo("tones", "series", "classification", ("low", "high"), (1, 4000, 800))
    views = SignalViews(size=32, pictures=("spectrogram",))
    found["tones"] = fit(root / "tones", source, views, SignalExamples(sounds, heard, 800), info)
    text, topics = sentences(60, 0)
    films = TargetInfo("films", "text", "classification", WORDS)
    bert = TextSource(text_models("bert"))
    found["films"] = fit(root / "films", bert, Text(), StringExamples(text, topics), films)
    values = StringExamples(text, topics[:, None] + np.linspace(0, 0.1, 60)[:, None])
    found["marks"] = fit(root / "marks", bert, Text(), values, TargetInfo("marks", "text", "regression", ("mark",)))
    return found


@pytest.fixture(scope="session")
def models(programs: dict[str, Path]) -> dict[str, ReprogrammedModel]:
    return {name: from_pretrained(folder) for name, folder in programs.items()}


@pytest.fixture(scope="session")
def server(programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All programs behind one server with a token."""
    from reprogram.serving.detector import Detector
    from reprogram.serving.export import Serving, write_repository

    folder, port = tmp_path_factory.mktemp("serving"), free_port()
    guard = {"token_env": "SERVING_TOKEN", "body_mb": 4}
    options = {"token_env": "SERVING_TOKEN", "audit": str(folder / "audit.jsonl")}
    model = from_pretrained(programs["colours"])
    detector = Detector.calibrated(model, list(pictures(60, 9)[0].astype(np.float32) / 255))
    repository = write_repository(
        folder / "models",
        {name: str(place) for name, place in programs.items()},
        Serving(port=port, options=options, guard=guard),
        {"colours": detector},
    )
    running = Running(repository, port, folder / "log")
    running.wait()
    yield running
    running.process.send_signal(signal.SIGTERM)
    running.process.wait(30)
