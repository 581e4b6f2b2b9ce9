"""Any transformers encoder, masked or causal language model, frozen, by hub name, folder or GGUF file.

Strings are tokenised without padding and batched by length; padding is always on the right and masked, so neither a
missing padding token nor a tokenizer's own padding side matters. What is too long for the model is cut and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import SourceModel, SourceOutput, SourceSpec, Tap, Vocabulary
from reprogram.ranges import NotEmpty, Range, Seed
from reprogram.sources.length_buckets import length_buckets
from reprogram.sources.pooling import taps_by_layer
from reprogram.sources.token_pooling import pool_states
from reprogram.sources.tokenizers import Tokenizer, load_tokenizer
from reprogram.sources.transformers_models import Checkpoint, head_alone, load_network

MOST_TOKENS = 1 << 18  # in one forward pass


class TextSource(SourceModel):
    """A frozen language model with taps ``embeddings``, ``layer_1`` … ``layer_L``, pooled ``mean``, ``max``, ``spread``.

    An encoder answers features (the mean of its last layer). A masked language model answers one logit for each token
    of its vocabulary at the string's first mask token (``[MASK]``; without one, at the first token); a causal one for
    the token that would come next. Those tokens are its source labels.

    model: hub name, local folder, or ``.gguf`` file.
    head: ``auto`` (what the checkpoint was saved as), ``encoder``, ``masked_lm`` or ``causal_lm``.
    tokenizer: ``own``, or ``smiles`` for vocabularies of SMILES-pattern tokens (rxnfp, RXNMapper).
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
            raise ConfigError(f"source.tokens_per_batch={tokens_per_batch} must be from 1 to {MOST_TOKENS:,}.")
        self.tokens_per_batch = tokens_per_batch
        checkpoint = Checkpoint(model)
        self.tokenizer: Tokenizer = load_tokenizer(checkpoint, tokenizer)
        self.head, self.network = load_network(checkpoint, head, random_weights)
        self._token_logits = None if self.head == "encoder" else head_alone(self.network)
        self.max_length = self._longest(max_length)
        self._cut: set[str] = set()
        self.spec = self._describe()
        self.freeze()

    def _longest(self, wanted: int | None) -> int:
        """The least of what the user wants, what the model has positions for and what its tokenizer was made for."""
        config = self.network.config
        positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 1 << 20
        if getattr(config, "position_embedding_type", "absolute") != "absolute":
            positions = 1 << 20
        elif config.model_type in ("roberta", "camembert", "xlm-roberta", "esm"):
            positions -= config.pad_token_id + 1  # their first positions stand for padding
        limit = min(positions, self.tokenizer.max_length)
        room = len(self.tokenizer.prefix) + len(self.tokenizer.suffix) + 1
        if wanted is not None and not room <= wanted <= limit:
            raise ConfigError(
                f"source.max_length={wanted} must lie between {room} and {limit}, what {self.name} reads."
            )
        return min(wanted or limit, limit)

    def _describe(self) -> SourceSpec:
        config = self.network.config
        width = self.network.get_input_embeddings().weight.shape[1]
        tokens = self.tokenizer.tokens
        vocabulary = Vocabulary(
            tokens=tokens,
            encode=self.tokenizer.encode,
            embeddings=lambda: self.network.get_input_embeddings().weight,
            prefix=self.tokenizer.prefix,
            suffix=self.tokenizer.suffix,
            mask=self.tokenizer.mask if self.head == "masked_lm" else None,
        )
        return SourceSpec(
            kind="text",
            size=self.max_length,
            labels=() if self.head == "encoder" else tuple(tokens),
            channels=0,
            feature_size=config.hidden_size,
            taps=("embeddings", *(f"layer_{i + 1}" for i in range(config.num_hidden_layers))),
            answers="none" if self.head == "encoder" else "logits",
            embedding_size=width,
            vocabulary=vocabulary,
        )

    @property
    def truncated(self) -> int:
        """How many different strings were longer than the model reads."""
        return len(self._cut)

    def notes(self) -> list[str]:
        if not self._cut:
            return []
        return [f"{self.truncated} strings are longer than the {self.max_length} tokens that {self.name} reads: cut."]

    def answer(self, source_input: Sequence[str] | Mapping[str, Tensor], taps: Sequence[Tap] = ()) -> SourceOutput:
        """Strings, or a dict of ``inputs_embeds`` [B, L, D] or ``input_ids`` [B, L] with ``attention_mask`` [B, L]
        (padding on the right) -> logits [B, S], features [B, D] and taps, in the order of the input."""
        taps_by_layer(taps, self.spec.taps)
        padded = source_input if isinstance(source_input, Mapping) else self.tokenise(source_input)
        lengths = padded["attention_mask"].sum(1).tolist()
        if not lengths:
            raise SourceError(f"{self.name} was given no strings.")
        buckets = length_buckets(lengths, self.tokens_per_batch)
        parts = [self._forward(padded, rows, lengths[rows[-1]], taps) for rows in buckets]
        order = torch.tensor([row for rows in buckets for row in rows]).argsort().to(parts[0].logits.device)
        return SourceOutput(
            torch.cat([p.logits for p in parts])[order],
            torch.cat([p.features for p in parts if p.features is not None])[order],
            {tap: torch.cat([p.taps[tap] for p in parts])[order] for tap in taps},
        )

    def tokenise(self, strings: Sequence[str]) -> dict[str, Tensor]:
        """``input_ids`` and ``attention_mask`` [B, L], cut to ``max_length`` with the specials kept."""
        around = len(self.tokenizer.prefix) + len(self.tokenizer.suffix)
        rows = []
        for text, ids in zip(strings, self.tokenizer.encode(strings), strict=True):
            if len(ids) + around > self.max_length:
                self._cut.add(text)
                ids = ids[: self.max_length - around]
            # a string without a token on a model without specials still needs one position
            rows.append([*self.tokenizer.prefix, *ids, *self.tokenizer.suffix] or [self.tokenizer.padding])
        width = max(map(len, rows), default=0)
        padded = [row + [self.tokenizer.padding] * (width - len(row)) for row in rows]
        device = self.network.get_input_embeddings().weight.device
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = torch.arange(width, device=device) < lengths.unsqueeze(1)
        return {"input_ids": torch.tensor(padded, dtype=torch.long, device=device), "attention_mask": mask.long()}

    def _forward(self, padded: Mapping[str, Tensor], rows: list[int], width: int, taps: Sequence[Tap]) -> SourceOutput:
        """One batch of about equally long strings, padding beyond the longest of them left out."""
        part = {key: value[rows][:, :width] for key, value in padded.items() if key != "answer_at"}
        mask = part["attention_mask"]
        extra = {"use_cache": False} if self.head == "causal_lm" else {}
        out = self.network.base_model(**part, output_hidden_states=bool(taps), **extra)
        last = out.last_hidden_state
        named = dict(zip(self.spec.taps, out.hidden_states or (), strict=False))
        read = {tap: pool_states(named[tap.layer], mask, tap.pooling).float() for tap in taps}
        if self._token_logits is None:
            return SourceOutput(last.new_zeros(len(rows), 0), pool_states(last, mask, "mean").float(), read)
        at = self._position(part, mask, padded["answer_at"][rows] if "answer_at" in padded else None)
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

    def with_random_weights(self, seed: int) -> TextSource:
        """The same architecture and tokenizer, untrained."""
        return type(self)(**(self.options | {"random_weights": seed}))
