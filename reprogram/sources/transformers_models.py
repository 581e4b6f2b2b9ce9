"""Loading what transformers can read: a hub name, a local folder, or a GGUF file, as encoder or language model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError, SourceError, nearest
from reprogram.files import check_folder
from reprogram.sources._transformers import check_config, pretrained, random_model

DISCRIMINATORS = ("electra", "funnel")  # trained to tell replaced tokens, so that "ForPreTraining" fills in no mask
HEADS = {"encoder": "AutoModel", "masked_lm": "AutoModelForMaskedLM", "causal_lm": "AutoModelForCausalLM"}


class Checkpoint:
    """Where a model lies: ``where`` and ``options`` are what every ``from_pretrained`` takes."""

    def __init__(self, model: str) -> None:
        path = Path(model).expanduser()
        self.model, self.where, self.folder = model, model, None
        self.options: dict[str, Any] = {}
        gguf = path if path.suffix == ".gguf" else None
        if path.is_dir():
            found = sorted(path.glob("*.gguf"))
            if not (path / "config.json").exists():
                if len(found) != 1:
                    raise SourceError(
                        f"source.model={model} is no model folder: config.json or exactly one .gguf file is needed, "
                        f"{len(found)} .gguf files are there."
                    )
                gguf = found[0]
            self.folder, self.where = path, str(path)
        elif path.is_absolute() or model.startswith((".", "~")) or gguf:
            if not path.is_file():
                raise SourceError(
                    f"source.model={model} does not exist: a hub name, a folder or a .gguf file is needed."
                )
            self.folder, self.where = path.parent, str(path.parent)
        if self.folder is not None:
            check_folder(self.folder, SourceError)
        if gguf is not None:
            self.options = {"gguf_file": gguf.name}

    def load(self, auto: Any, **more: Any) -> Any:
        """``auto.from_pretrained`` with its errors in one sentence."""
        try:
            return pretrained(auto, self.where, **self.options, **more)
        except ImportError as error:
            raise SourceError(f"source.model={self.model} needs a package: {first_line(error)}") from error
        except Exception as error:  # what a stranger's files make several libraries raise
            raise SourceError(f"source.model={self.model} cannot be loaded: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """The first line of an error, as a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") + "." if lines else f"{type(error).__name__}."


def load_network(checkpoint: Checkpoint, head: str, random_weights: int | None) -> tuple[str, Any]:
    """The head that was chosen (``auto`` resolved) and the network in float32, evaluation mode.

    Every weight that the answer depends on must be in the checkpoint: a head that transformers would quietly fill with
    random numbers is an error. The unused pooler of encoders is dropped for the same reason. Of an encoder-decoder (T5,
    BART) the encoder is loaded.
    """
    config = load_config(checkpoint)
    saved = _saved_as(config)
    asked, head = head, saved if head == "auto" else head
    if head not in HEADS:
        raise ConfigError(f"source.head={head} is not a head; {nearest(head, ['auto', *HEADS])}")
    if head != "encoder" and _has_decoder(config):
        raise SourceError(
            f"source.model={checkpoint.model} is an encoder-decoder ({config.model_type}), of which only the encoder is "
            f"read; use source.head=encoder instead of {head}."
        )
    if (head == "causal_lm" and saved == "masked_lm") or (head == "masked_lm" and saved == "causal_lm"):
        raise SourceError(
            f"source.model={checkpoint.model} was saved as {saved}, so it has no weights for source.head={head}; "
            f"use source.head={saved} or encoder."
        )
    network, missing = _network(checkpoint, config, head, random_weights)
    if missing and asked == "auto" and head != "encoder":  # saved without its head
        head = "encoder"
        network, missing = _network(checkpoint, config, head, random_weights)
    if missing:
        instead = [other for other in dict.fromkeys((saved, "encoder")) if other != head]
        advice = f"use source.head={instead[0]}" if instead else "the checkpoint is not whole"
        raise SourceError(
            f"source.model={checkpoint.model} has no weights for source.head={head} ('{missing[0]}' and "
            f"{len(missing) - 1} more are missing); {advice}."
        )
    if getattr(network.base_model, "pooler", None) is not None:
        network.base_model.pooler = nn.Identity()  # not None, which SqueezeBERT would call
    return head, network.eval()


def load_config(checkpoint: Checkpoint) -> Any:
    """The checkpoint's configuration."""
    import transformers

    return checkpoint.load(transformers.AutoConfig)


def is_causal(config: Any, head: str) -> bool:
    """Will ``head`` be read as a model that goes from left to right?"""
    return (_saved_as(config) if head == "auto" else head) == "causal_lm"


def _network(checkpoint: Checkpoint, config: Any, head: str, random_weights: int | None) -> tuple[Any, list[str]]:
    """The network in float32, and the weights that its answer needs and the checkpoint lacks."""
    import transformers

    auto = getattr(transformers, HEADS[head])
    if head == "encoder" and _text_encoder(config):
        auto = transformers.AutoModelForTextEncoding
    network: Any
    missing: list[str] = []
    if random_weights is not None:
        network = random_model(auto, config, random_weights).float()
    else:
        check_config(auto, config, checkpoint.folder, f"source.model={checkpoint.model}")
        network, info = checkpoint.load(auto, dtype=torch.float32, output_loading_info=True)
        missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)
    if _has_decoder(config):
        whole, network = network, network.get_encoder()
        if network is whole:
            raise SourceError(f"source.model={checkpoint.model} ({config.model_type}) has no encoder that reads text.")
        missing = [key for key in missing if "decoder" not in key]
    return network, missing


def _text_encoder(config: Any) -> bool:
    """T5 and its kin have an encoder class of their own, as which checkpoints are saved too."""
    from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING

    found: Any = MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(config), None)
    return found is not None and found.__name__.endswith("EncoderModel")


def _has_decoder(config: Any) -> bool:
    return bool(getattr(config, "is_encoder_decoder", False)) or _text_encoder(config)


def _saved_as(config: Any) -> str:
    saved = " ".join(getattr(config, "architectures", None) or ())
    if _has_decoder(config) or (config.model_type in DISCRIMINATORS and "ForPreTraining" in saved):
        return "encoder"
    if config.model_type == "xlnet":  # reads a token's own place too, unless it is hidden by a permutation
        return "encoder"
    if "ForMaskedLM" in saved or "ForPreTraining" in saved:
        return "masked_lm"
    if "ForCausalLM" in saved or "LMHeadModel" in saved or config.model_type in ("llama", "gpt2", "qwen2"):
        return "causal_lm"
    return "encoder"


class _Answer(dict[str, Any]):
    """The states alone, whichever way a head asks for them; whatever else it asks for is None."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.get(name)

    def __getitem__(self, key: Any) -> Any:
        return self.get("last_hidden_state") if key in (0, "last_hidden_state") else () if isinstance(key, slice) else None


class _Given(nn.Module):
    """Stands where a language model's body was: answers the states that it is given."""

    @property
    def decoder(self) -> _Given:  # OPT's head asks the decoder inside its body
        return self

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> Any:
        return _Answer(last_hidden_state=inputs_embeds)


class HeadAlone:
    """The language model without its body: states [B, 1, D] -> token logits [B, 1, V].

    Shares every weight with ``network``. A vocabulary-sized product for one position a string instead of for all.
    """

    def __init__(self, network: Any) -> None:
        self.network = copy.copy(network)
        self.network._modules = dict(network._modules)
        self.network._modules[network.base_model_prefix] = _Given()

    def __call__(self, states: Tensor) -> Tensor:
        return self.network(inputs_embeds=states).logits
