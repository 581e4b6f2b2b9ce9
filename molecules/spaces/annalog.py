"""ANNalog: a frozen SMILES-to-SMILES transformer that writes medicinal-chemistry analogues of what it reads.

Weights come with the ``annalog`` package (MIT; Dai et al., ChemRxiv 2025-9c1v6): 4.05 million parameters, 3 + 3
post-norm layers, width 256, 8 heads, at most 102 tokens. Only its checkpoint is read, as plain tensors; its vocabulary
is a pickle and is therefore never opened (``VOCABULARY`` below is the same list, which a test compares symbol by
symbol). Decoding here is batched and keeps keys and values, because the package's own decoder reruns the whole prefix
for every token of every sample.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from molecules.spaces.base import Decoded, Memory, Space
from reprogram.errors import DataError, SourceError
from reprogram.interfaces import SourceOutput, SourceSpec, Tap

TOKENS = (
    "<unk> <pad> <sos> <eos> c C ( ) 1 O 2 = N 3 n 4 F - [C@H] [C@@H] Cl / S [nH] 5 o s [C@] # [C@@] Br \\ [O-] [N+] 6 "
    "[n+] [S+] 7 [N-] [C-] [O] [s+] [S@+] . 8 [S@@+] [o+] [n-] [N@@+] [N@] [N@@] [N@+] [S@@] [S@] 9 [C+] %10 %11 %12"
)
VOCABULARY = tuple(TOKENS.split())
UNKNOWN, PAD, START, END = range(4)
CODES = {token: code for code, token in enumerate(VOCABULARY)}
TOKEN = re.compile(r"\[[^\]]*\]|%\d{2}|Br|Cl|.")
WIDTH, LAYERS, HEADS, HIDDEN, LONGEST = 256, 3, 8, 512, 102


class Annalog(Space):
    """The frozen model. ``checkpoint``: another ANNalog checkpoint file; default is the one inside the package."""

    name = "annalog"
    width = WIDTH

    def __init__(self, checkpoint: str | None = None) -> None:
        super().__init__()
        self.encoder, self.decoder = _Encoder(), _Decoder()
        self.load_state_dict(_read(checkpoint))
        self.spec = SourceSpec(
            kind="text",
            size=LONGEST - 2,
            labels=(),
            feature_size=WIDTH,
            taps=tuple(f"encoder.{i}" for i in range(LAYERS)),
            answers="none",
            embedding_size=WIDTH,
        )
        self.freeze()

    def unreadable(self, smiles: str) -> str | None:
        tokens = TOKEN.findall(smiles)
        foreign = sorted({t for t in tokens if t not in CODES})
        if foreign:
            return f"contains {', '.join(foreign)}, which {self.name} has no token for"
        if len(tokens) > LONGEST - 2:
            return f"has {len(tokens)} tokens, {self.name} reads at most {LONGEST - 2}"
        return None if tokens else "is empty"

    def tokens(self, smiles: Sequence[str]) -> Tensor:
        """[B, L] codes with start and end, padded on the right."""
        for text in smiles:
            reason = self.unreadable(text)
            if reason:
                raise DataError(f"The molecule '{text}' {reason}.")
        codes = [torch.tensor([START, *(CODES[t] for t in TOKEN.findall(s)), END]) for s in smiles]
        padded = nn.utils.rnn.pad_sequence(codes, batch_first=True, padding_value=PAD)
        return padded.to(self.decoder.fc_out.weight.device)

    def encode(self, smiles: Sequence[str]) -> Memory:
        codes = self.tokens(smiles)
        return Memory(self.encoder(self.encoder.embed(codes), codes != PAD)[-1], codes != PAD)

    def answer(self, source_input: Sequence[str], taps: Sequence[Tap] = ()) -> SourceOutput:
        """SMILES -> ``features`` [B, 256], the mean over the memory; taps pool any encoder layer."""
        codes = self.tokens(source_input)
        mask = codes != PAD
        layers = self.encoder(self.encoder.embed(codes), mask)
        names = {name: layers[i] for i, name in enumerate(self.spec.taps)}
        features = pool(layers[-1], mask, "mean")
        pooled = {tap: pool(names[tap.layer], mask, tap.pooling) for tap in taps}
        return SourceOutput(features.new_zeros(len(codes), 0), features, pooled)

    def log_probability(self, memory: Memory, smiles: Sequence[str]) -> Tensor:
        codes = self.tokens(smiles)
        logits = self.decoder(codes[:, :-1], memory)
        chosen = logits.log_softmax(-1).gather(2, codes[:, 1:, None]).squeeze(2)
        return (chosen * (codes[:, 1:] != PAD)).sum(1)

    @torch.no_grad()
    def decode(self, memory: Memory, temperature: float = 0.0, generator: torch.Generator | None = None) -> Decoded:
        """Greedy (temperature 0) or sampled; log_probability is the model's own, at temperature 1."""
        total, rows = memory.states.new_zeros(len(memory)), torch.arange(len(memory))
        written = torch.full((len(memory), LONGEST), PAD)
        state = self.decoder.start(memory)
        last = torch.full((len(memory),), START)
        for position in range(LONGEST - 1):
            logits = self.decoder.step(last, position, state)
            logits[:, [UNKNOWN, PAD, START]] = -math.inf
            if temperature > 0:
                last = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator).squeeze(1)
            else:
                last = logits.argmax(-1)
            total[rows] += logits.log_softmax(-1).gather(1, last[:, None]).squeeze(1)
            written[rows, position] = last
            going = last != END
            if not going.all():  # finished rows leave the batch
                rows, last = rows[going], last[going]
                if not len(rows):
                    break
                state.keep(going)
        return Decoded([_text(codes) for codes in written.tolist()], total)

    @torch.no_grad()
    def beam(self, memory: Memory, width: int = 10) -> Decoded:
        """The ``width`` most likely strings of ONE memory, best first (beam search without length normalisation)."""
        state = self.decoder.start(memory.rows([0]))
        beams, scores = torch.full((1, 1), START), torch.zeros(1)
        finished: list[tuple[float, list[int]]] = []
        for position in range(LONGEST - 1):
            logits = self.decoder.step(beams[:, -1], position, state).log_softmax(-1)
            best = (scores[:, None] + logits).flatten().topk(min(width, logits.numel()))
            parent, code = best.indices // len(VOCABULARY), best.indices % len(VOCABULARY)
            beams = torch.cat([beams[parent], code[:, None]], dim=1)
            done = code == END
            finished += [(float(s), b[1:]) for s, b in zip(best.values[done], beams[done].tolist())]
            beams, scores, parent = beams[~done], best.values[~done], parent[~done]
            if len(finished) >= width or not len(beams):
                break
            state.keep(parent)
        finished = sorted(finished, key=lambda pair: -pair[0])[:width]
        return Decoded([_text(codes) for _, codes in finished], torch.tensor([score for score, _ in finished]))


def pool(states: Tensor, mask: Tensor, how: str) -> Tensor:
    """[B, L, d] over the positions where ``mask`` [B, L] -> [B, d]; ``mean``, ``max`` or ``std``."""
    weight = mask[:, :, None].to(states.dtype)
    count = weight.sum(1)
    mean = (states * weight).sum(1) / count
    if how == "mean":
        return mean
    if how == "max":
        return states.masked_fill(~mask[:, :, None], -math.inf).amax(1)
    return (((states - mean[:, None]) ** 2 * weight).sum(1) / count).sqrt()


def _read(checkpoint: str | None) -> dict[str, Tensor]:
    package = find_spec("annalog")
    if checkpoint is None and (package is None or not package.submodule_search_locations):
        raise SourceError("The frozen model 'annalog' is not installed; pip install 'reprogram[design]' brings it.")
    if checkpoint is None:
        checkpoint = str(Path(package.submodule_search_locations[0]) / "ckpt_and_vocab" / "Lev_extended.pt")  # type: ignore[union-attr, index]
    try:
        return torch.load(checkpoint, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise SourceError(f"There is no ANNalog checkpoint at {checkpoint}.") from None


def _text(codes: list[int]) -> str | None:
    if END not in codes:
        return None
    return "".join(VOCABULARY[c] for c in codes[: codes.index(END)])


class _Attention(nn.Module):
    """Multi-head attention with the checkpoint's parameter names."""

    def __init__(self) -> None:
        super().__init__()
        self.fc_q, self.fc_k, self.fc_v, self.fc_o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def keys_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        return _heads(self.fc_k(states)), _heads(self.fc_v(states))

    def forward(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """query [B, T, d]; keys and values [B, heads, L, d / heads]; mask [B, 1, 1, L]."""
        seen = F.scaled_dot_product_attention(_heads(self.fc_q(query)), keys, values, mask, is_causal=causal)
        return self.fc_o(seen.transpose(1, 2).flatten(2))


def _heads(states: Tensor) -> Tensor:
    return states.unflatten(2, (HEADS, WIDTH // HEADS)).transpose(1, 2)


class _FeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc_1, self.fc_2 = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, states: Tensor) -> Tensor:
        return self.fc_2(self.fc_1(states).relu())


class _Layer(nn.Module):
    """One post-norm layer: self-attention, attention to the memory (decoder only), feed-forward."""

    def __init__(self, decodes: bool) -> None:
        super().__init__()
        self.self_attn_layer_norm, self.ff_layer_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.self_attention, self.positionwise_feedforward = _Attention(), _FeedForward()
        if decodes:
            self.enc_attn_layer_norm, self.encoder_attention = nn.LayerNorm(WIDTH), _Attention()

    def finish(self, states: Tensor, memory: tuple[Tensor, Tensor] | None = None, mask: Tensor | None = None) -> Tensor:
        if memory is not None:
            states = self.enc_attn_layer_norm(states + self.encoder_attention(states, *memory, mask))
        return self.ff_layer_norm(states + self.positionwise_feedforward(states))


class _Embedder(nn.Module):
    layers: Sequence[_Layer]

    def __init__(self) -> None:
        super().__init__()
        self.tok_embedding, self.pos_embedding = nn.Embedding(len(VOCABULARY), WIDTH), nn.Embedding(LONGEST, WIDTH)

    def embed(self, codes: Tensor, position: int = 0) -> Tensor:
        """[B, L] codes that start at ``position`` -> [B, L, d]."""
        places = torch.arange(position, position + codes.shape[1], device=codes.device)
        return self.tok_embedding(codes) * math.sqrt(WIDTH) + self.pos_embedding(places)


class _Encoder(_Embedder):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(decodes=False) for _ in range(LAYERS))  # type: ignore[assignment]

    def forward(self, states: Tensor, mask: Tensor) -> list[Tensor]:
        """Embeddings [B, L, d] -> states after each layer."""
        after = []
        for layer in self.layers:
            attended = layer.self_attention(states, *layer.self_attention.keys_values(states), mask[:, None, None])
            states = layer.finish(layer.self_attn_layer_norm(states + attended))
            after.append(states)
        return after


class _Kept:
    """Keys and values of a decoding in progress: of the memory (fixed) and of the tokens so far (growing)."""

    def __init__(self, memory: list[tuple[Tensor, Tensor]], mask: Tensor) -> None:
        self.memory, self.mask = memory, mask
        self.tokens: list[tuple[Tensor, Tensor] | None] = [None] * len(memory)

    def keep(self, rows: Tensor) -> None:
        """Only these rows go on ([B] booleans, or row numbers that may repeat)."""
        self.memory = [(k[rows], v[rows]) for k, v in self.memory]
        self.tokens = [None if kv is None else (kv[0][rows], kv[1][rows]) for kv in self.tokens]
        self.mask = self.mask[rows]


class _Decoder(_Embedder):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(decodes=True) for _ in range(LAYERS))  # type: ignore[assignment]
        self.fc_out = nn.Linear(WIDTH, len(VOCABULARY))

    def forward(self, codes: Tensor, memory: Memory) -> Tensor:
        """Teacher forcing: codes [B, T] -> logits [B, T, V]. Padding on the right is never seen by earlier tokens."""
        states, mask = self.embed(codes), memory.mask[:, None, None]
        for layer in self.layers:
            attended = layer.self_attention(states, *layer.self_attention.keys_values(states), causal=True)
            states = layer.self_attn_layer_norm(states + attended)
            states = layer.finish(states, layer.encoder_attention.keys_values(memory.states), mask)
        return self.fc_out(states)

    def start(self, memory: Memory) -> _Kept:
        kept = [layer.encoder_attention.keys_values(memory.states) for layer in self.layers]
        return _Kept(kept, memory.mask[:, None, None])

    def step(self, last: Tensor, position: int, state: _Kept) -> Tensor:
        """The last code of each row [B] at ``position`` -> logits of the next [B, V]; ``state`` grows by one token."""
        states = self.embed(last[:, None], position)
        for i, layer in enumerate(self.layers):
            keys, values = layer.self_attention.keys_values(states)
            before = state.tokens[i]
            if before is not None:
                keys, values = torch.cat([before[0], keys], dim=2), torch.cat([before[1], values], dim=2)
            state.tokens[i] = (keys, values)
            states = layer.self_attn_layer_norm(states + layer.self_attention(states, keys, values))
            states = layer.finish(states, state.memory[i], state.mask)
        return self.fc_out(states[:, 0])
