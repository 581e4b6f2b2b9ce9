"""Any transformers image model by hub name or local folder: ResNet, ViT, ConvNeXt, Swin, DINOv2 backbones, …

The preprocessing (rescaling, mean, standard deviation, size) is the model's own ``preprocessor_config.json``, done in
differentiable torch on pixels in [0, 1]. Only code that ships inside transformers runs, never code of a model folder.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from reprogram.errors import SourceError
from reprogram.interfaces import SourceModel, SourceOutput, SourceSpec, Tap
from reprogram.ranges import Length, NotEmpty, Positive, Seed
from reprogram.sources._transformers import (
    Portable,
    image_class,
    load_config,
    load_model,
    load_preprocessing,
    random_model,
    settings_of,
)
from reprogram.sources.pooling import pool_grid, pool_tokens, taps_by_layer

SMALLEST_SIDE = 32  # pixels; smaller images are enlarged, because strides would leave nothing of them
ANY_SIZE = {  # architectures without position embeddings of a fixed number
    *("convnext", "convnextv2", "dinov2", "dinov2_with_registers", "efficientnet", "focalnet", "mobilenet_v1"),
    *("mobilenet_v2", "poolformer", "pvt_v2", "regnet", "resnet", "swin", "swinv2"),
}


class HuggingFaceImageModel(Portable, SourceModel):
    """A frozen transformers image classifier, or an image backbone without a head (then S = 0 and only features answer).

    name: hub name (``microsoft/resnet-18``) or local folder, as for ``from_pretrained``.
    mean, std: normalisation per channel where the folder has no ``preprocessor_config.json``.
    random_weights: a seed for an untrained copy of the architecture (the ``random_source`` baseline); None: pretrained.

    Taps are ``block_1`` … ``block_n``, the model's hidden states: maps, or patch tokens put back on their grid.
    Raises SourceError for a folder that is missing, truncated, of another architecture, or no image model.
    """

    def __init__(
        self,
        name: NotEmpty,
        mean: Annotated[list[float], Length()] | None = None,
        std: Annotated[list[Positive], Length()] | None = None,
        random_weights: Seed | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        config = load_config(name)
        preprocessing = load_preprocessing(name, config, mean=mean, std=std)
        if preprocessing is None:
            raise SourceError(f"{name} has no preprocessor_config.json; give source.mean and source.std.")
        self.model = (
            load_model(name, config)
            if random_weights is None
            else random_model(image_class(name, config)[0], config, random_weights)
        )
        self.preprocessing = preprocessing
        self.loading_notes = preprocessing.notes
        self._configuration = settings_of(name)
        self.classifier_name = _classifier_name(self.model, config.num_labels)
        self.patch = _patch(config)
        side = getattr(config, "image_size", None) or preprocessing.size
        self.side = int(side if isinstance(side, int) else side[0])  # that it has position embeddings and windows for
        parameters = inspect.signature(self.model.forward).parameters
        self.interpolates = "interpolate_pos_encoding" in parameters
        self.any_size = self.interpolates or config.model_type in ANY_SIZE
        self.freeze()
        self._as_loaded = _plain_attributes(self.model)
        self.spec = self._probe(config)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key != "_as_loaded"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._as_loaded = _plain_attributes(self.model)  # of the copy's own modules

    def settings(self) -> dict[str, Any]:
        """Configuration and preprocessing: beside the weights, what changes an answer."""
        return {"model": self._configuration, "preprocessing": self.preprocessing.settings()}

    def _probe(self, config: Any) -> SourceSpec:
        """What the model reads and answers, from one grey image."""
        size = self.preprocessing.size
        channels = int(getattr(config, "num_channels", 3))
        with torch.no_grad():
            grey = torch.full((1, channels, size, size), 0.5)
            raw, features = self._run(grey, hidden=True)
            if not torch.equal(features, self._run(grey, hidden=False)[1]):
                raise SourceError(f"{self.name} gives two answers to one image; a source must be deterministic.")
        has_head = self.classifier_name is not None
        names = config.id2label or {}
        depth = len(raw.hidden_states) - 1 if raw.get("hidden_states") is not None else 0
        return SourceSpec(
            kind="image",
            size=size,
            labels=tuple(str(names.get(i, f"LABEL_{i}")) for i in range(config.num_labels)) if has_head else (),
            channels=channels,
            feature_size=features.shape[1],
            taps=tuple(f"block_{i + 1}" for i in range(depth)),
            answers="logits" if has_head else "none",
        )

    def answer(self, source_input: Tensor, taps: Sequence[Tap] = ()) -> SourceOutput:
        """Pixels in [0, 1], [B, C, h, w], any h and w -> logits [B, S], features [B, D], taps."""
        wanted = taps_by_layer(taps, self.spec.taps)
        raw, features = self._run(source_input, hidden=bool(wanted))
        logits = raw.logits if self.classifier_name is not None else features.new_zeros(len(features), 0)
        read: dict[Tap, Tensor] = {}
        for layer, of_layer in wanted.items():
            state = self._state(raw, int(layer.removeprefix("block_")))
            grid = (raw.height // self.patch[0], raw.width // self.patch[1])
            for tap in of_layer:
                read[tap] = pool_grid(state, tap.pooling) if state.ndim == 4 else pool_tokens(state, grid, tap.pooling)
        return SourceOutput(logits, features, read)

    def with_random_weights(self, seed: int) -> HuggingFaceImageModel:
        """The same architecture, untrained."""
        return HuggingFaceImageModel(**{**self.options, "random_weights": seed})

    def _run(self, pixels: Tensor, hidden: bool) -> tuple[Any, Tensor]:
        """The model's own output and the features [B, D] that its classifier reads."""
        least = max(SMALLEST_SIDE, *self.patch)
        multiple = self.patch[0] if self.interpolates else 1
        pixels = self.preprocessing.fit(pixels, smallest=least if self.any_size else None, multiple=multiple)
        size = tuple(pixels.shape[-2:])
        resized = self.interpolates and size != (self.side,) * 2
        options = {"interpolate_pos_encoding": True} if resized else {}
        seen: list[Tensor] = []
        handle = None
        if self.classifier_name is not None:
            head = self.model.get_submodule(self.classifier_name)
            handle = head.register_forward_pre_hook(lambda _module, arguments: seen.append(arguments[0]))
        try:
            raw = self.model(self.preprocessing(pixels), output_hidden_states=hidden, return_dict=True, **options)
        except (RuntimeError, ValueError, IndexError) as error:
            if size == (self.side,) * 2 or isinstance(error, torch.cuda.OutOfMemoryError):
                raise
            raise SourceError(
                f"{self.name} cannot read images of {size[0]} x {size[1]} pixels, only its own {self.side}; "
                "use that as input.size, or input.sizes."
            ) from error
        finally:
            if handle is not None:
                handle.remove()
            if size != (self.side,) * 2:  # Swin changes its windows for good when it reads another size
                _restore(self._as_loaded)
        raw.height, raw.width = size
        return raw, _as_features(seen[0] if seen else _pooled(raw))

    def _state(self, raw: Any, index: int) -> Tensor:
        """Hidden state ``index`` (0 is the embedding) as [B, C, h, w] where the model offers that, else [B, N, D]."""
        maps = raw.get("reshaped_hidden_states")
        return maps[index] if maps is not None else raw.hidden_states[index]


def _plain_attributes(model: nn.Module) -> list[tuple[nn.Module, dict[str, Any]]]:
    """Numbers and names that modules keep beside their weights, as they are now."""
    kept = []
    for module in model.modules():
        plain = {k: v for k, v in vars(module).items() if isinstance(v, int | float | str | tuple) and k != "training"}
        kept.append((module, plain))
    return kept


def _restore(kept: list[tuple[nn.Module, dict[str, Any]]]) -> None:
    for module, plain in kept:
        vars(module).update(plain)


def _as_features(tensor: Tensor) -> Tensor:
    return tensor.mean(1) if tensor.ndim == 3 else tensor.flatten(1)


def _pooled(raw: Any) -> Tensor:
    """Of a backbone: its pooled output, or else the class token, or else the mean over the last map."""
    if raw.get("pooler_output") is not None:
        return raw.pooler_output
    last = raw.last_hidden_state
    return last[:, 0] if last.ndim == 3 else last.mean((2, 3))


def _classifier_name(model: nn.Module, labels: int) -> str | None:
    """The submodule whose input are the penultimate features; None for a backbone without a head."""
    if not type(model).__name__.endswith(("ForImageClassification", "ForImageClassificationWithTeacher")):
        return None
    if isinstance(getattr(model, "classifier", None), nn.Module):
        return "classifier"
    heads = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and m.out_features == labels]
    if not heads:
        raise SourceError(f"{type(model).__name__} has no classification layer that could be found.")
    return heads[-1]


def _patch(config: Any) -> tuple[int, int]:
    patch = getattr(config, "patch_size", None) or 1
    return (patch, patch) if isinstance(patch, int) else (int(patch[0]), int(patch[-1]))
