"""A language model fed by embeddings instead of token ids, with the same answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from reprogram.errors import SourceError
from reprogram.sources.tokenizers import Tokenizer

UNLIMITED = 1 << 20  # tokens, for models that have no number of positions


class InputEmbeddings:
    """Where a network looks its tokens up. ``module`` [V] -> D; width: D."""

    def __init__(self, network: Any, name: str) -> None:
        self.name = name
        try:
            module = network.get_input_embeddings()
        except (NotImplementedError, AttributeError):
            module = None
        if not isinstance(getattr(module, "weight", None), Tensor) or module.weight.ndim != 2:
            kind = network.config.model_type
            raise SourceError(f"{name} ({kind}) has no table of token embeddings; such models cannot be read here.")
        self.module: nn.Module = module
        self._checked = False
        self._ordinary: int | None = None
        self._scaled: Tensor | None = None

    @property
    def width(self) -> int:
        return int(self.module.weight.shape[1])  # type: ignore[union-attr,index]

    @property
    def device(self) -> torch.device:
        """Where the embeddings are."""
        return self.module.weight.device  # type: ignore[union-attr,return-value]

    def table(self) -> Tensor:
        """[V, D]: what the module answers for every id, which is not its weight where it scales (BART, Gemma)."""
        weight: Any = self.module.weight
        if type(self.module) is nn.Embedding:
            return weight
        if self._scaled is None or self._scaled.device != weight.device:
            with torch.no_grad():
                self._scaled = self.module(torch.arange(len(weight), device=weight.device))
        return self._scaled

    def ordinary(self, tokenizer: Tokenizer) -> int:
        """The id of a token that no model treats in a way of its own."""
        if self._ordinary is None:
            special = {*tokenizer.special, *tokenizer.prefix, *tokenizer.suffix, tokenizer.padding}
            count = int(self.module.weight.shape[0])  # type: ignore[union-attr,index]
            read = tokenizer.encode(["a A C"])[0]
            self._ordinary = next((i for i in (*read, *range(count - 1, -1, -1)) if i not in special), count - 1)
        return self._ordinary

    def stand_ins(self, mask: Tensor, tokenizer: Tokenizer, answer_at: Tensor | None) -> Tensor:
        """[B, L] ids for embeddings that stand for no token: ordinary ones, the mask token where the answer is read, and
        padding. Models look at ids beside looking them up; see :func:`fed_by`."""
        ids = torch.where(mask > 0, self.ordinary(tokenizer), tokenizer.padding)
        if answer_at is not None and tokenizer.mask is not None:
            ids[torch.arange(len(ids), device=ids.device), answer_at] = tokenizer.mask
        return ids

    def check(self, tokenizer: Tokenizer, states: Callable[[Mapping[str, Tensor]], Tensor]) -> None:
        """Once: embeddings of tokens give the states of their ids. SourceError for models that need the ids as well."""
        if self._checked:
            return
        count = int(self.module.weight.shape[0])  # type: ignore[union-attr,index]
        special = {*tokenizer.special, tokenizer.padding}
        plain = [i for i in range(min(count, len(tokenizer.tokens))) if i not in special]
        row = [*tokenizer.prefix, *plain[:: max(1, len(plain) // 5)][:5], *tokenizer.suffix]
        ids = torch.tensor([row], device=self.device)
        mask = torch.ones_like(ids)
        stand_ins = self.stand_ins(mask, tokenizer, None)
        embeddings = self.table()[ids].detach().clone().requires_grad_()
        advice = "so that nothing can be trained in front of it; use input=text or input=prompt_text"
        with torch.autocast(self.device.type, enabled=False), torch.enable_grad():
            expected = states({"input_ids": ids, "attention_mask": mask})
            fed = states({"input_ids": stand_ins, "attention_mask": mask, "inputs_embeds": embeddings})
            try:
                fed.sum().backward()
            except Exception as error:  # Reformer has no backward pass in evaluation mode
                raise SourceError(f"{self.name} gives no gradient ({type(error).__name__}), {advice}.") from error
        if not close(fed, expected):
            raise SourceError(f"{self.name} reads token ids beside their embeddings, {advice}.")
        self._checked = True


def close(found: Tensor, expected: Tensor) -> bool:
    """The same but for rounding, which in large models is that of their largest states."""
    return found.shape == expected.shape and bool((found - expected).abs().max() <= 1e-3 * expected.abs().max())


def positions(network: Any) -> int:
    """The longest sequence that the network has positions for, by its own table of positions where it has one."""
    config = network.config
    for name, module in network.named_modules():
        weight = getattr(module, "weight", None)
        if name.endswith("position_embeddings") and isinstance(weight, Tensor) and weight.ndim == 2:
            padding = getattr(module, "padding_idx", None)  # RoBERTa, MPNet: the first positions stand for padding
            return len(weight) - (0 if padding is None else int(padding) + 1)
    if getattr(config, "position_embedding_type", "absolute") not in ("absolute", None):
        return UNLIMITED
    if getattr(config, "relative_attention_num_buckets", None) or config.model_type in ("xlnet", "mamba", "bloom"):
        return UNLIMITED
    return getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or UNLIMITED


@contextmanager
def fed_by(table: nn.Module, ids: Tensor, embeddings: Tensor) -> Iterator[None]:
    """Inside, ``table`` (the model's input embeddings) answers ``embeddings`` [B, L, D] when it is asked for ``ids`` [B, L].

    The model goes the way that it goes for ids, so that what it does with them beside looking them up (ESM-2 scales by the
    share of mask tokens, RoBERTa counts positions from the padding id) is done here too; ``inputs_embeds`` would skip it.
    """
    asked = []

    def answer(_module: nn.Module, arguments: tuple[Any, ...], looked_up: Tensor) -> Tensor:
        asked.append(True)
        given, found = embeddings.to(looked_up.dtype), arguments[0] if arguments else None
        if not isinstance(found, Tensor) or found.ndim != 2:
            raise SourceError("The source looks its tokens up in a way of its own, so nothing can be put in their place.")
        if torch.equal(found, ids):
            return given
        if torch.equal(found.T, ids):  # XLNet puts time first
            return given.transpose(0, 1)
        if found.shape[1] > ids.shape[1] and torch.equal(found[:, : ids.shape[1]], ids):  # Longformer pads to its window
            return torch.cat([given, looked_up[:, ids.shape[1] :]], 1)
        raise SourceError("The source looks up other tokens than it is given, so nothing can be put in their place.")

    handle = table.register_forward_hook(answer)
    try:
        yield
    finally:
        handle.remove()
    if not asked:
        raise SourceError("The source does not look its tokens up, so nothing can be put in their place.")
