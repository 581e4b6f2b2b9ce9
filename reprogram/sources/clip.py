"""CLIP with text prompts as source labels (Radford et al. 2021, arXiv 2103.00020).

Each label is put into the prompt templates, the text encoder reads them once, and what is left is a frozen image
classifier: logits = exp(logit_scale) · cos(image, mean text of the label). Zero-shot accuracy depends on the templates
and on the names, so that both are part of the source's options and its fingerprint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import SourceModel, SourceOutput, SourceSpec, Tap
from reprogram.ranges import Length, NotEmpty, Seed
from reprogram.sources._transformers import load_config, load_processor, load_whole, pretrained, random_model
from reprogram.sources.efficientnet import imagenet_labels
from reprogram.sources.pooling import pool_tokens, taps_by_layer
from reprogram.sources.preprocessing import Preprocessing

TEXT_BATCH = 256  # prompts read at once


class CLIPSource(SourceModel):
    """A frozen CLIP image tower with one row of text features a label.

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
        from transformers import AutoModel

        super().__init__()
        self.name = name
        names = tuple(labels) if labels is not None else imagenet_labels()
        prompts = list(templates) if templates is not None else ["This is a photo of a {}."]
        _check_prompts(names, prompts)
        config = load_config(name)
        if config.model_type != "clip":
            raise SourceError(f"{name} is '{config.model_type}', not a CLIP model; use source=huggingface for it.")
        model: Any = (
            load_whole(name, config) if random_weights is None else random_model(AutoModel, config, random_weights)
        )
        self.vision, self.projection = model.vision_model, model.visual_projection
        self.text_features: Tensor
        self.scale: Tensor
        self.register_buffer("text_features", _text_features(model, _tokenizer(name), names, prompts))
        self.register_buffer("scale", model.logit_scale.detach().exp().reshape(1))
        vision = config.vision_config
        processor = load_processor(name)
        if processor is None:
            raise SourceError(f"{name} has no preprocessor_config.json, which says how CLIP reads pixels.")
        self.preprocessing = Preprocessing.of(processor, vision.image_size)
        self.patch = int(vision.patch_size)
        self.freeze()
        self.spec = SourceSpec(
            kind="image",
            size=self.preprocessing.size,
            labels=names,
            channels=int(vision.num_channels),
            feature_size=int(config.projection_dim),
            taps=tuple(f"block_{i + 1}" for i in range(vision.num_hidden_layers)),
        )

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


def _check_prompts(names: Sequence[str], templates: Sequence[str]) -> None:
    if not names or len(set(names)) != len(names):
        raise ConfigError("source.labels of CLIP must be different names, at least one.")
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
def _text_features(model: Any, tokenizer: Any, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """[S, D], unit length: the mean over templates of each label's normalised text features."""
    model.eval()
    total: Tensor | float = 0.0
    longest = model.config.text_config.max_position_embeddings
    for template in templates:
        rows = []
        for start in range(0, len(names), TEXT_BATCH):
            texts = [template.format(name) for name in names[start : start + TEXT_BATCH]]
            tokens = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
            pooled = model.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
            rows.append(F.normalize(model.text_projection(pooled), dim=1))
        total = total + torch.cat(rows)
    assert isinstance(total, Tensor)
    return F.normalize(total, dim=1)
