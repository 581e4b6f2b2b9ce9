"""Any transformers encoder, masked or causal language model, frozen, by hub name, folder or GGUF file.

Strings are tokenised without padding and batched by length; padding is always on the right and masked, so neither a
missing padding token nor a tokenizer's own padding side matters. What is too long for the model is cut, which
:mod:`reprogram.sources.reading` counts before a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import SourceModel, SourceOutput, SourceSpec, Tap, Vocabulary
from reprogram.ranges import NotEmpty, Range, Seed
from reprogram.sources._transformers import Portable, settings_of
from reprogram.sources.input_embeddings import InputEmbeddings, close, fed_by, positions
from reprogram.sources.length_buckets import length_buckets
from reprogram.sources.pooling import taps_by_layer
from reprogram.sources.token_pooling import pool_states
from reprogram.sources.tokenizers import Tokenizer, load_tokenizer
from reprogram.sources.transformers_models import (
    Checkpoint,
    HeadAlone,
    first_line,
    is_causal,
    load_config,
    load_network,
)

MOST_TOKENS = 1 << 18  # in one forward pass
NAME_SCALE = 10.0  # of cosines between a string and what a class is called: an inverse temperature that sentence encoders share

PARTS = ("spec", "_embeddings", "_token_logits")  # made of the network again where a copy is opened


class TextSource(Portable, SourceModel):
    """A frozen language model with taps ``embeddings``, ``layer_1`` … ``layer_L``, pooled ``mean``, ``max``, ``std``.

    An encoder answers features (the mean of its last layer). A masked language model answers one logit for each token
    of its vocabulary at the string's first mask token (``[MASK]``; without one, at the first token); a causal one for
    the token that would come next. Those tokens are its source labels.

    model: hub name, local folder, or ``.gguf`` file.
    head: ``auto`` (what the checkpoint was saved as), ``encoder``, ``masked_lm`` or ``causal_lm``.
    tokenizer: ``own``, or a tokenisation whose tokens are the vocabulary, such as ``amino_acids``.
    max_length: tokens read of a string, specials included; None for all that the model has positions for.
    tokens_per_batch: padded tokens in one forward pass.
    random_weights: a seed for an untrained copy of the architecture; None for the pretrained weights.
    """

    def __init__(
        self,
        model: NotEmpty,
        head: str = "auto",
        tokenizer: str = "own",
        max_length: Annotated[int, Range(3, 10**6)] | None = None,
        tokens_per_batch: Annotated[int, Range(1, 10**7)] = 2048,
        random_weights: Seed | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.name = name or Path(model).name
        if not 1 <= tokens_per_batch <= MOST_TOKENS:
            raise ConfigError(f"source.tokens_per_batch={tokens_per_batch} must be at least 1, at most {MOST_TOKENS:,}.")
        self.tokens_per_batch = tokens_per_batch
        checkpoint = Checkpoint(model)
        self._configuration = settings_of(checkpoint.where, **checkpoint.options)
        causal = is_causal(load_config(checkpoint), head)
        self.tokenizer: Tokenizer = load_tokenizer(checkpoint, tokenizer, causal)
        self.head, self.network = load_network(checkpoint, head, random_weights)
        self.max_length = self._longest(max_length)
        self.freeze()
        self._embeddings = InputEmbeddings(self.network, self.name)
        try:
            self._layers = self._probe()
            self._token_logits = self._head()
        except SourceError:
            raise
        except Exception as error:  # of an architecture that wants something else than ids and a mask
            kind = self.network.config.model_type
            raise SourceError(f"{self.name} ({kind}) cannot read a string: {first_line(error)}") from error
        self.spec = self._describe()

    def settings(self) -> dict[str, Any]:
        """How strings become tokens and where the answer is read: beside the weights, what changes it."""
        return {
            "model": self._configuration,
            "tokenizer": self.tokenizer.digest(),
            "head": self.head,
            "max_length": self.max_length,
        }

    def _longest(self, wanted: int | None) -> int:
        """The least of what the user wants, what the model has positions for and what its tokenizer was made for."""
        limit = min(positions(self.network), self.tokenizer.max_length)
        room = len(self.tokenizer.prefix) + len(self.tokenizer.suffix) + 1
        if wanted is not None and not room <= wanted <= limit:
            raise ConfigError(
                f"source.max_length={wanted} must lie between {room} and {limit}, what {self.name} reads."
            )
        return min(wanted or limit, limit)

    @torch.no_grad()
    def _probe(self) -> int:
        """How many of the hidden states have a place for each token; also whether the model sees padding."""
        self._sees_padding = False
        row = [*self.tokenizer.prefix, self._embeddings.ordinary(self.tokenizer), *self.tokenizer.suffix]
        row = (row * 3)[: min(3, self.max_length)] if len(row) < 3 else row
        ids, mask = torch.tensor([row]), torch.ones(1, len(row), dtype=torch.long)
        alone = self._body({"input_ids": ids, "attention_mask": mask}, hidden=True)
        self._width = int(alone.last_hidden_state.shape[-1])
        states = alone.hidden_states or ()
        padding = torch.full((1, 2), self.tokenizer.padding)
        beside = {"input_ids": torch.cat([ids, padding], 1), "attention_mask": torch.cat([mask, padding * 0], 1)}
        if len(row) + 2 <= self.max_length:
            padded = self._body(beside, hidden=False).last_hidden_state[:, : len(row)]
            self._sees_padding = not close(padded, alone.last_hidden_state)
        whole = [state.ndim == 3 and state.shape[:2] == ids.shape for state in states]
        return whole.index(False) if False in whole else len(whole)

    @torch.no_grad()
    def _head(self) -> Callable[[Tensor], Tensor] | None:
        """States [B, 1, D] -> token logits [B, 1, V] by the head alone; None without a head. SourceError where the head
        needs more than the states that it is given."""
        if self.head == "encoder":
            return None
        alone: Callable[[Tensor], Tensor] = HeadAlone(self.network)
        ids = torch.tensor([[*self.tokenizer.prefix, self._embeddings.ordinary(self.tokenizer), *self.tokenizer.suffix]])
        mask = torch.ones_like(ids)
        states = self._body({"input_ids": ids, "attention_mask": mask}, hidden=False).last_hidden_state
        whole = self.network(input_ids=ids, attention_mask=mask).logits
        try:
            if close(alone(states), whole):
                return alone
        except Exception:  # a head that asks its body for something else
            pass
        raise SourceError(
            f"The language-model head of {self.name} ({self.network.config.model_type}) cannot be read on its own; "
            "use source.head=encoder."
        )

    def _describe(self) -> SourceSpec:
        tokens = self.tokenizer.tokens
        vocabulary = Vocabulary(
            tokens=tokens,
            encode=self.tokenizer.encode,
            embeddings=self._embeddings.table,
            prefix=self.tokenizer.prefix,
            suffix=self.tokenizer.suffix,
            mask=self.tokenizer.mask if self.head == "masked_lm" else None,
            unread=self.tokenizer.unread,
        )
        layers = ("embeddings", *(f"layer_{i}" for i in range(1, self._layers)))
        return SourceSpec(
            kind="text",
            size=self.max_length,
            labels=() if self.head == "encoder" else tuple(tokens),
            channels=0,
            feature_size=self._width,
            taps=layers if self._layers else (),
            answers="none" if self.head == "encoder" else "logits",
            embedding_size=self._embeddings.width,
            vocabulary=vocabulary,
            read_names=self._read_names,
        )

    @torch.no_grad()
    def _read_names(self, texts: Sequence[str]) -> Tensor:
        """Each text as the model reads any other string, [n, D]."""
        features = self.answer(list(texts)).features
        assert features is not None
        return NAME_SCALE * torch.nn.functional.normalize(features, dim=1)

    def answer(self, source_input: Sequence[str] | Mapping[str, Tensor], taps: Sequence[Tap] = ()) -> SourceOutput:
        """Strings, or a dict of ``inputs_embeds`` [B, L, D] or ``input_ids`` [B, L] with ``attention_mask`` [B, L]
        (padding on the right) -> logits [B, S], features [B, D] and taps, in the order of the input."""
        taps_by_layer(taps, self.spec.taps)
        padded = source_input if isinstance(source_input, Mapping) else self.tokenise(source_input)
        if "attention_mask" not in padded or not {"input_ids", "inputs_embeds"} & padded.keys():
            raise SourceError(f"{self.name} reads strings, or embeddings with their attention mask; found {sorted(padded)}.")
        lengths = padded["attention_mask"].sum(1).tolist()
        if not lengths:
            raise SourceError(f"{self.name} was given no strings.")
        if "inputs_embeds" in padded:
            self._embeddings.check(self.tokenizer, lambda part: self._body(part, hidden=False).last_hidden_state)
        buckets = length_buckets(lengths, self.tokens_per_batch, equal=self._sees_padding)
        parts = [self._forward(padded, rows, lengths[rows[-1]], taps) for rows in buckets]
        order = torch.tensor([row for rows in buckets for row in rows]).argsort().to(parts[0].logits.device)
        return SourceOutput(
            torch.cat([p.logits for p in parts])[order],
            torch.cat([p.features for p in parts if p.features is not None])[order],
            {tap: torch.cat([p.taps[tap] for p in parts])[order] for tap in taps},
        )

    def tokenise(self, strings: Sequence[str]) -> dict[str, Tensor]:
        """``input_ids`` and ``attention_mask`` [B, L], cut to ``max_length`` with the specials kept."""
        room = self.max_length - len(self.tokenizer.prefix) - len(self.tokenizer.suffix)
        # a string without a token on a model without specials still needs one position
        rows = [
            [*self.tokenizer.prefix, *ids[:room], *self.tokenizer.suffix] or [self.tokenizer.padding]
            for ids in self.tokenizer.encode(strings)
        ]
        width = max(map(len, rows), default=0)
        padded = [row + [self.tokenizer.padding] * (width - len(row)) for row in rows]
        device = self._embeddings.device
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = torch.arange(width, device=device) < lengths.unsqueeze(1)
        return {"input_ids": torch.tensor(padded, dtype=torch.long, device=device), "attention_mask": mask.long()}

    def _body(self, part: Mapping[str, Tensor], hidden: bool) -> Any:
        """The model below its head on one batch of ids, or of embeddings that stand in their place."""
        ids, mask = part["input_ids"], part["attention_mask"]
        extra = {"use_cache": False} if self.head == "causal_lm" else {}
        body = self.network.base_model
        embeddings = part.get("inputs_embeds")
        with nullcontext() if embeddings is None else fed_by(self._embeddings.module, ids, embeddings):
            return body(input_ids=ids, attention_mask=mask, output_hidden_states=hidden, **extra)

    def _forward(self, padded: Mapping[str, Tensor], rows: list[int], width: int, taps: Sequence[Tap]) -> SourceOutput:
        """One batch of about equally long strings, padding beyond the longest of them left out."""
        part = {key: value[rows][:, :width] for key, value in padded.items() if key != "answer_at"}
        mask = part["attention_mask"]
        answer_at = padded["answer_at"][rows] if "answer_at" in padded else None
        at = self._position(part, mask, answer_at)
        if "input_ids" not in part:
            part["input_ids"] = self._embeddings.stand_ins(mask, self.tokenizer, answer_at)
        out = self._body(part, hidden=bool(taps))
        last = out.last_hidden_state
        named = dict(zip(self.spec.taps, out.hidden_states or (), strict=False))
        read = {tap: pool_states(named[tap.layer], mask, tap.pooling).float() for tap in taps}
        if self._token_logits is None:
            return SourceOutput(last.new_zeros(len(rows), 0), pool_states(last, mask, "mean").float(), read)
        state = last[torch.arange(len(rows), device=last.device), at]
        pooled = pool_states(last, mask, "mean") if self.head == "masked_lm" else state
        logits = self._token_logits(state.unsqueeze(1)).squeeze(1)[:, : len(self.spec.labels)]
        return SourceOutput(logits.float(), pooled.float(), read)

    def _position(self, part: Mapping[str, Tensor], mask: Tensor, at: Tensor | None) -> Tensor:
        """Where the token logits are read: [B]."""
        if self.head == "causal_lm":
            return mask.sum(1) - 1
        if at is not None:
            return at
        if "input_ids" not in part or self.tokenizer.mask is None:
            return torch.zeros(len(mask), dtype=torch.long, device=mask.device)
        return (part["input_ids"] == self.tokenizer.mask).long().argmax(1)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k not in PARTS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._embeddings = InputEmbeddings(self.network, self.name)
        self._token_logits = None if self.head == "encoder" else self._head()
        self.spec = self._describe()

    def with_random_weights(self, seed: int) -> TextSource:
        """The same architecture and tokenizer, untrained."""
        return type(self)(**(self.options | {"random_weights": seed}))
