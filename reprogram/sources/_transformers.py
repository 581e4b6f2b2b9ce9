"""Load transformers models quietly, completely or not at all, and say in one sentence what is wrong.

A model folder may come from a stranger: code that lies in it never runs and is never asked about, special files in it are
refused before transformers opens them, and a configuration may not order more memory than its weights fill.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reprogram.errors import SourceError
from reprogram.files import check_folder

WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".h5", ".msgpack")
MOST_TIMES = 16  # bytes of float32 parameters a byte of the weight files: 2 bits a parameter are the least that is known
SLACK = 64 << 20  # bytes of buffers and tied weights that no file holds
LARGEST_RANDOM = 2 << 30  # bytes of parameters that random weights may take where no file says how many there are
MOST_LAYERS = 1000


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and notes about unused weights."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def pretrained(auto: Any, where: str, **options: Any) -> Any:
    """``auto.from_pretrained``: the one place where transformers is asked for what lies in a folder or on the hub."""
    with quiet():
        return auto.from_pretrained(where, **options, trust_remote_code=False)


def check_config(auto: Any, config: Any, folder: Path | None, name: str) -> None:
    """SourceError where ``config`` names code of the hub, or orders far more memory than the weights of ``folder`` fill.

    An ``attn_implementation`` with a slash is a repository whose compiled code transformers would fetch and run, whatever
    ``trust_remote_code`` says, where the package ``kernels`` is installed.
    """
    for part in (config, *(getattr(config, key, None) for key in getattr(config, "sub_configs", ()))):
        for key in ("_attn_implementation", "_experts_implementation"):
            if "/" in str(getattr(part, key, None)):
                code = str(getattr(part, key))[:80]
                raise SourceError(f"The configuration of {name} asks for code of the hub ({code}), which is never run.")
    for key, value in config.to_dict().items():
        deep = sum(v for v in value if isinstance(v, int)) if isinstance(value, list) else value
        if ("layer" in key or "depth" in key) and isinstance(deep, int) and deep > MOST_LAYERS:
            raise SourceError(f"The configuration of {name} has {key}={deep:,}; at most {MOST_LAYERS:,} are built.")
    held = sum(f.stat().st_size for f in folder.iterdir() if f.suffix in WEIGHTS and f.is_file()) if folder else 0
    most = MOST_TIMES * held + SLACK if held else LARGEST_RANDOM
    try:
        with torch.device("meta"), quiet():
            model = auto.from_config(config, trust_remote_code=False)
    except Exception:  # an architecture that needs real numbers while it is built; loading it says what else is wrong
        return
    planned = sum(p.numel() for p in model.parameters()) * 4
    if folder is not None and planned > most:  # on the hub, size is a question of what was downloaded
        raise SourceError(
            f"The configuration of {name} orders {planned:,} bytes of parameters, but its weight files have {held:,}."
        )


@contextmanager
def _sentences(name: str, what: str) -> Iterator[None]:
    try:
        with quiet():
            yield
    except SourceError:
        raise
    except Exception as error:  # OSError, HTTP errors, SafetensorError, RuntimeError … of several libraries
        text = " ".join(str(error).split()) or type(error).__name__
        raise SourceError(f"{what} of {name} cannot be read: {text[:200].rstrip('.')}.") from error


def load_config(name: str) -> Any:
    """The configuration of a local folder or hub name."""
    from transformers import AutoConfig

    folder = Path(name)
    if folder.is_dir():
        check_folder(folder, SourceError)
        if not (folder / "config.json").is_file():
            raise SourceError(f"The folder {name} holds no model: config.json is missing.")
    elif name.startswith(("/", ".", "~")) or name.count("/") > 1 or folder.exists() or not name.strip():
        raise SourceError(f"source.name={name} is not a model folder, and not a hub name such as microsoft/resnet-18.")
    try:
        return pretrained(AutoConfig, name)
    except Exception as error:
        text = " ".join(str(error).split())[:160].rstrip(".")
        where = f"The folder {name} holds no readable model" if folder.is_dir() else f"'{name}' is not a local folder"
        hub = "" if folder.is_dir() else " and cannot be loaded from the Hugging Face Hub"
        raise SourceError(f"{where}{hub}: {text}.") from error


def load_processor(name: str) -> dict[str, Any] | None:
    """The content of ``preprocessor_config.json``; None where the model comes without one."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        with quiet():
            return ImageProcessingMixin.get_image_processor_dict(name)[0]
    except OSError:
        return None


NOT_ANSWERS = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "_commit_hash", "use_cache"}


def settings_of(name: str, **options: Any) -> dict[str, Any]:
    """What the model's ``config.json`` says, without what does not change an answer.

    The file itself and not what transformers makes of it, which grows defaults from release to release.
    """
    from transformers import PreTrainedConfig

    with _sentences(name, "The configuration"):
        found = PreTrainedConfig.get_config_dict(name, **options)[0]
    kept = {key: value for key, value in found.items() if key not in NOT_ANSWERS}
    return json.loads(json.dumps(kept, default=str, sort_keys=True))


def load_model(name: str, config: Any) -> nn.Module:
    """The model with every weight from its file, in float32. A weight that is missing would be random: refused."""
    auto, architecture = image_class(name, config)
    return _load(auto, name, config, architecture)


def load_whole(name: str, config: Any) -> nn.Module:
    """The model as it was trained (both towers of CLIP), with every weight from its file, in float32."""
    from transformers import AutoModel

    return _load(AutoModel, name, config, str(config.model_type))


def random_model(auto: Any, config: Any, seed: int) -> nn.Module:
    """The architecture of ``config`` with the weights that ``seed`` draws."""
    check_config(auto, config, _folder(config._name_or_path), str(config._name_or_path) or "the model")
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        return auto.from_config(config, trust_remote_code=False)


def _folder(name: str) -> Path | None:
    return Path(name) if name and Path(name).is_dir() else None


def _load(auto: Any, name: str, config: Any, architecture: str) -> nn.Module:
    check_config(auto, config, _folder(name), name)
    with _sentences(name, "The weights"):
        model, report = pretrained(auto, name, config=config, dtype=torch.float32, output_loading_info=True)
    missing = sorted(report["missing_keys"])
    if missing and all("pooler" in key for key in missing):  # DINO checkpoints come without one
        model.pooler = None
        missing = []
    if missing:
        raise SourceError(
            f"The weights of {name} are not those of {architecture}: {len(missing)} are missing, such as '{missing[0]}'."
        )
    return model


def image_class(name: str, config: Any) -> tuple[Any, str]:
    """The auto class that loads what the checkpoint holds: a classifier with its head, or a bare backbone."""
    from transformers import (
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
        MODEL_MAPPING,
        AutoModel,
        AutoModelForImageClassification,
    )

    architecture = (config.architectures or ["an image classifier"])[0]
    kind = type(config)
    if kind in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING and (
        "ImageClassification" in architecture or not config.architectures
    ):
        return AutoModelForImageClassification, architecture
    backbone: Any = MODEL_MAPPING.get(kind, None)
    backbone = backbone[0] if isinstance(backbone, tuple) else backbone
    if config.model_type in ("clip", "siglip"):
        raise SourceError(f"{name} is a {config.model_type} model; use source=clip for CLIP with text prompts.")
    if getattr(backbone, "main_input_name", "") != "pixel_values":
        raise SourceError(f"{name} is '{config.model_type}' ({architecture}), not an image model.")
    return AutoModel, architecture
