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
            raise SourceError(f"source.model={self.model} needs a package: {_first_line(error)}") from error
        except Exception as error:  # of several libraries, on files that may hold anything
            raise SourceError(f"source.model={self.model} cannot be loaded: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") + "." if lines else f"{type(error).__name__}."


def load_network(checkpoint: Checkpoint, head: str, random_weights: int | None) -> tuple[str, Any]:
    """The head that was chosen (``auto`` resolved) and the network in float32, evaluation mode.

    Every weight that the answer depends on must be in the checkpoint: a head that transformers would quietly fill with
    random numbers is an error. The unused pooler of encoders is dropped for the same reason.
    """
    import transformers

    config = checkpoint.load(transformers.AutoConfig)
    if head == "auto":
        head = _saved_as(config)
    if head not in HEADS:
        raise ConfigError(f"source.head={head} is not a head; {nearest(head, ['auto', *HEADS])}")
    auto = getattr(transformers, HEADS[head])
    if random_weights is not None:
        network = random_model(auto, config, random_weights).float()
    else:
        check_config(auto, config, checkpoint.folder, f"source.model={checkpoint.model}")
        network, info = checkpoint.load(auto, dtype=torch.float32, output_loading_info=True)
        missing = [key for key in info["missing_keys"] if "pooler" not in key]
        if missing:
            raise SourceError(
                f"source.model={checkpoint.model} has no weights for source.head={head} ('{missing[0]}' and "
                f"{len(missing) - 1} more are missing); use source.head={_saved_as(config)}."
            )
    if hasattr(network.base_model, "pooler"):
        network.base_model.pooler = None
    return head, network.eval()


def _saved_as(config: Any) -> str:
    saved = " ".join(getattr(config, "architectures", None) or ())
    if "ForMaskedLM" in saved or "ForPreTraining" in saved:
        return "masked_lm"
    if "ForCausalLM" in saved or "LMHeadModel" in saved or config.model_type in ("llama", "gpt2", "qwen2"):
        return "causal_lm"
    return "encoder"


class _Given(nn.Module):
    """Stands where a language model's body was: answers the states that it is given."""

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=inputs_embeds)


def head_alone(network: Any) -> Any:
    """The language model without its body: states [B, 1, D] -> token logits [B, 1, V].

    Shares every weight with ``network``. A vocabulary-sized product for one position a string instead of for all.
    """
    alone = copy.copy(network)
    alone._modules = dict(network._modules)
    alone._modules[network.base_model_prefix] = _Given()
    return lambda states: alone(inputs_embeds=states).logits
