"""CLIP (Radford et al. 2021, arXiv 2103.00020) and SigLIP (Zhai et al. 2023, arXiv 2303.15343): prompts as labels.

Each label is put into the prompt templates, the text encoder reads them once, and what is left is a frozen image
classifier: logits = exp(logit_scale) · cos(image, mean text of the label), plus SigLIP's bias. Zero-shot
accuracy depends on the templates and on the names, so that both are part of the source's options and its fingerprint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import SourceModel, SourceOutput, SourceSpec, Tap
from reprogram.ranges import Length, NotEmpty, Seed
from reprogram.sources._transformers import (
    Portable,
    load_config,
    load_preprocessing,
    load_whole,
    pretrained,
    random_model,
    settings_of,
)
from reprogram.sources.efficientnet import imagenet_labels
from reprogram.sources.pooling import pool_tokens, taps_by_layer

TEXT_BATCH = 256  # prompts read at once


class CLIPSource(Portable, SourceModel):
    """A frozen CLIP or SigLIP image tower with one row of text features a label.

    name: hub name (``openai/clip-vit-base-patch32``) or local folder.
    labels: source label names; None takes the 1,000 ImageNet names.
    templates: prompts with ``{}`` where the name goes; their normalised text features are averaged.
    random_weights: a seed for an untrained copy of the architecture; None for pretrained.

    Features are the image embedding before normalisation [B, D]; taps ``block_1`` … are patch tokens on their grid.
    """

    def __init__(
        self,
        name: NotEmpty,
        labels: list[str] | None = None,
        templates: Annotated[list[str], Length()] | None = None,
        random_weights: Seed | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        names = tuple(labels) if labels is not None else _imagenet()
        prompts = list(templates) if templates is not None else ["This is a photo of a {}."]
        _check_prompts(names, prompts)
        config = load_config(name)
        if config.model_type not in ("clip", "siglip"):
            raise SourceError(
                f"{name} is '{config.model_type}', not a CLIP or SigLIP model; use source=huggingface for image models."
            )
        model: Any = (
            load_whole(name, config) if random_weights is None else random_model(_auto_model(), config, random_weights)
        )
        self.vision = model.vision_model
        self.projection = getattr(model, "visual_projection", None) or nn.Identity()  # SigLIP has none
        self.text_features: Tensor
        self.scale: Tensor
        self.register_buffer("text_features", _text_features(model, name, names, prompts))
        self.register_buffer("scale", model.logit_scale.detach().exp().reshape(1))
        self.bias: Tensor | None
        self.register_buffer("bias", model.logit_bias.detach().reshape(1) if config.model_type == "siglip" else None)
        self._configuration = settings_of(name)
        vision = config.vision_config
        preprocessing = load_preprocessing(name, vision)
        if preprocessing is None:
            raise SourceError(f"{name} has no preprocessor_config.json, which says how it reads pixels.")
        self.preprocessing, self.loading_notes = preprocessing, preprocessing.notes
        self.patch = int(vision.patch_size)
        self.freeze()
        self.spec = SourceSpec(
            kind="image",
            size=self.preprocessing.size,
            labels=names,
            channels=int(vision.num_channels),
            feature_size=int(vision.hidden_size if config.model_type == "siglip" else config.projection_dim),
            taps=tuple(f"block_{i + 1}" for i in range(vision.num_hidden_layers)),
            read_names=self._read_names,
        )

    def _read_names(self, texts: Sequence[str]) -> Tensor:
        """Each text by the text tower, which is loaded again because nothing else needs it, times the model's own scale."""
        config = load_config(self.name)
        seed = self.options.get("random_weights")
        model: Any = load_whole(self.name, config) if seed is None else random_model(_auto_model(), config, seed)
        return self.scale * _text_features(model, self.name, texts, ["{}"]).to(self.scale.device)

    def settings(self) -> dict[str, Any]:
        """Configuration and preprocessing; what the prompts say is in the text features."""
        return {"model": self._configuration, "preprocessing": self.preprocessing.settings()}

    def answer(self, source_input: Tensor, taps: Sequence[Tap] = ()) -> SourceOutput:
        """Pixels in [0, 1], [B, C, h, w], any h and w -> S logits, D features, taps."""
        wanted = taps_by_layer(taps, self.spec.taps)
        pixels = self.preprocessing.fit(source_input, smallest=max(32, self.patch), multiple=self.patch)
        height, width = pixels.shape[-2:]
        raw = self.vision(
            pixel_values=self.preprocessing(pixels),
            output_hidden_states=bool(wanted),
            interpolate_pos_encoding=(height, width) != (self.preprocessing.size,) * 2,
        )
        features = self.projection(raw.pooler_output)
        logits = self.scale * F.normalize(features, dim=1) @ self.text_features.T
        logits = logits if self.bias is None else logits + self.bias
        grid = (height // self.patch, width // self.patch)
        read = {
            tap: pool_tokens(raw.hidden_states[int(layer.removeprefix("block_"))], grid, tap.pooling)
            for layer, of_layer in wanted.items()
            for tap in of_layer
        }
        return SourceOutput(logits, features, read)

    def with_random_weights(self, seed: int) -> CLIPSource:
        """The same architecture and prompts, untrained."""
        return CLIPSource(**{**self.options, "random_weights": seed})


def _auto_model() -> Any:
    from transformers import AutoModel

    return AutoModel


def _imagenet() -> tuple[str, ...]:
    """The 1,000 ImageNet names, each of them once."""
    names = list(imagenet_labels())
    for column, name in ((134, "crane bird"), (517, "construction crane")):
        names[column] = name if names[column] == "crane" else names[column]
    return tuple(names)


def _check_prompts(names: Sequence[str], templates: Sequence[str]) -> None:
    if not names:
        raise ConfigError("source.labels of CLIP must be different names, at least one.")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ConfigError(f"source.labels of CLIP must be different names; '{twice[0]}' occurs more than once.")
    for template in templates:
        if template.count("{}") != 1:
            raise ConfigError(f"source.templates: '{template}' must contain {{}} once, where the label goes.")
    if not templates:
        raise ConfigError("source.templates of CLIP must hold at least one prompt.")


def _tokenizer(name: NotEmpty) -> Any:
    from transformers import AutoTokenizer

    try:
        return pretrained(AutoTokenizer, name)
    except Exception as error:  # OSError, ValueError, HTTP errors of several libraries
        raise SourceError(f"The tokenizer of {name} cannot be read: {' '.join(str(error).split())[:160]}.") from error


@torch.no_grad()
def _text_features(model: Any, name: str, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """[S, D], unit length: the mean over templates of each label's normalised text features."""
    model.eval()
    tokenizer = _tokenizer(name)
    projection = getattr(model, "text_projection", None) or nn.Identity()
    total: Tensor | float = 0.0
    for template in templates:
        rows = []
        for part in _tokens(model, tokenizer, name, [template.format(label) for label in names], names):
            rows.append(F.normalize(projection(model.text_model(**part).pooler_output), dim=1))
        total = total + torch.cat(rows)
    assert isinstance(total, Tensor)
    return F.normalize(total, dim=1)


def _tokens(
    model: Any, tokenizer: Any, name: str, texts: Sequence[str], labels: Sequence[str]
) -> Iterator[dict[str, Tensor]]:
    """Batches of prompts as the text tower was trained to read them. SourceError where it reads two labels as the same.

    SigLIP was trained on prompts filled up to its whole length and looks at all of it; CLIP looks at the prompt alone.
    """
    config = model.config.text_config
    longest = min(config.max_position_embeddings, int(tokenizer.model_max_length))
    siglip = model.config.model_type == "siglip"
    seen: dict[tuple[int, ...], str] = {}
    for start in range(0, len(texts), TEXT_BATCH):
        tokens = tokenizer(
            list(texts[start : start + TEXT_BATCH]),
            padding="max_length" if siglip else True,
            truncation=True,
            max_length=longest,
            return_tensors="pt",
        )
        if tokens.input_ids.numel() == 0 or int(tokens.input_ids.max()) >= config.vocab_size:
            raise SourceError(f"The tokenizer of {name} is not that of its text tower ({config.vocab_size:,} tokens).")
        for label, row in zip(labels[start:], tokens.input_ids.tolist(), strict=False):
            other = seen.setdefault(tuple(row), label)
            if other != label:
                raise SourceError(
                    f"{name} reads '{other}' and '{label}' as the same tokens: its tokenizer files (tokenizer.json, or "
                    "vocab.json and merges.txt) are missing or do not fit, or the prompt is longer than it reads."
                )
        mask = {} if siglip else {"attention_mask": tokens.attention_mask}
        yield {"input_ids": tokens.input_ids} | mask
