"""Load transformers models quietly, completely or not at all, and say in one sentence what is wrong.

A model folder may come from a stranger: code that lies in it never runs and is never asked about, special files in it are
refused before transformers opens them, and a configuration may not order more memory than its weights fill.
"""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from reprogram.errors import SourceError
from reprogram.files import check_folder
from reprogram.sources.preprocessing import Preprocessing

WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".h5", ".msgpack")
MOST_TIMES = 16  # bytes of float32 parameters a byte of the weight files: 2 bits a parameter are the least that is known
SLACK = 64 << 20  # bytes of buffers and tied weights that no file holds
LARGEST_RANDOM = 2 << 30  # bytes of parameters that random weights may take where no file says how many there are
MOST_LAYERS = 1000

CAPTURING = "transformers.utils.output_capturing"


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
class Portable(nn.Module):
    """A source around transformers modules that can be pickled and copied.

    transformers hangs hooks on its modules at the first pass, local functions that no pickle can hold; it hangs them
    again where the mark is missing that they are there.
    """

    def __getstate__(self) -> dict[str, Any]:
        seen: dict[int, nn.Module] = {}
        parts = {name: None if part is None else _unhooked(part, seen) for name, part in self._modules.items()}
        return self.__dict__ | {"_modules": parts}


def _unhooked(module: nn.Module, seen: dict[int, nn.Module]) -> nn.Module:
    """The same module, parameters shared, without transformers' recording hooks; ``seen`` keeps shared parts shared."""
    if id(module) not in seen:
        seen[id(module)] = other = copy.copy(module)
        other.__dict__.pop("_output_capturing_hooks_installed", None)
        kept = [(k, h) for k, h in module._forward_hooks.items() if h.__module__ != CAPTURING]
        other._forward_hooks = OrderedDict(kept)
        other._modules = {k: None if m is None else _unhooked(m, seen) for k, m in module._modules.items()}
    return seen[id(module)]


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


def load_preprocessing(name: str, config: Any, **given: Sequence[float] | None) -> Preprocessing | None:
    """How the model reads pixels: as transformers' own image processor does it, else as timm or the files say.

    config: of the model, or of its image tower. given: ``mean`` and ``std`` of the user, which go before whatever the
    files say. None where the model comes without any word about it.
    """
    raw = _processor_values(name)
    side = getattr(config, "image_size", None)
    side = side if isinstance(side, int) or not side else int(side[0])
    default_size = side or 224
    timm = _pretrained_cfg(raw) or _pretrained_cfg(config.to_dict())
    stated = {key: value for key, value in (raw or {}).items() if value is not None}
    if given.get("mean") is not None and given.get("std") is not None:
        values = stated | {"do_normalize": True, "image_mean": given["mean"], "image_std": given["std"]}
        return Preprocessing.of(values, default_size)
    if timm and "image_mean" not in stated:
        return Preprocessing.of_timm(timm, default_size)
    if raw is None:
        return None
    processor = _processor(name)
    if processor is None:
        return Preprocessing.of(raw, default_size)
    defaults = processor.to_dict()
    if side and not {"size", "crop_size"} & stated.keys():  # the model knows better than the class of its processor
        defaults = {key: value for key, value in defaults.items() if key not in ("size", "crop_size")}
    preprocessing = Preprocessing.of(defaults | stated, default_size)
    if raw.get("image_mean", 0) is None or raw.get("image_std", 0) is None:  # null, at which transformers fails
        kind = type(processor)
        defaults |= {key: getattr(kind, key, None) for key in ("image_mean", "image_std")}
        found = Preprocessing.of(defaults | stated, default_size)
        note = f"{name} has no values for its normalisation; those of {kind.__name__} are used."
        return replace(found, notes=found.notes or (note,)) if defaults.get("do_normalize") else found
    try:
        with quiet():
            return preprocessing.as_measured(_plain_processor(processor), int(getattr(config, "num_channels", 3)))
    except Exception:  # a processor that wants something else than an image
        return preprocessing


def _pretrained_cfg(values: dict[str, Any] | None) -> dict[str, Any]:
    """timm's word about preprocessing, which it keeps in the model's own configuration."""
    found = (values or {}).get("pretrained_cfg")
    return found if isinstance(found, dict) else {}


def _processor_values(name: str) -> dict[str, Any] | None:
    """The content of ``preprocessor_config.json``; None where the model comes without one."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        with quiet():
            return ImageProcessingMixin.get_image_processor_dict(name)[0]
    except OSError:
        return None


def _processor(name: str) -> Any:
    """The model's image processor, with the defaults of its class; None where its files name no class that is known."""
    from transformers import AutoImageProcessor
    from transformers import __version__ as version

    way = {"use_fast": False} if version.startswith("4.") else {"backend": "pil"}  # torchvision is not asked for
    try:
        with quiet():
            return AutoImageProcessor.from_pretrained(name, trust_remote_code=False, **way)
    except Exception:  # unknown classes, missing packages: whatever several libraries raise
        return None


def _plain_processor(processor: Any) -> Callable[[np.ndarray], np.ndarray]:
    """uint8 [H, W, C] -> float [C, H, W] by the processor, in the size that the image has."""

    def process(image: np.ndarray) -> np.ndarray:
        kept = {"do_resize": False, "do_center_crop": False, "do_pad": False}
        made = processor(image, return_tensors="np", input_data_format="channels_last", **kept)
        return np.asarray(made["pixel_values"][0], float)

    return process


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
        raise SourceError(f"{name} is a {config.model_type} model; use source=clip, which reads labels from text prompts.")
    if getattr(backbone, "main_input_name", "") != "pixel_values":
        raise SourceError(f"{name} is '{config.model_type}' ({architecture}), not an image model.")
    return AutoModel, architecture
