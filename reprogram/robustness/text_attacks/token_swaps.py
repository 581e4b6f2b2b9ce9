"""Gradient-guided token swaps (HotFlip, Ebrahimi et al. 2018, arXiv 1712.06751)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from reprogram.interfaces import Vocabulary
from reprogram.ranges import Count
from reprogram.robustness.losses import margin, wrong
from reprogram.robustness.text_attacks.base import STOP_WORDS, EvaluatedStrings, TextAttack, TextModel, ask_texts


def token_swaps(
    loss_of: Callable[[Tensor], Tensor], tokens: Tensor, embeddings: Tensor, most: int = 3, candidates: int = 8,
    allowed: Tensor | None = None, places: Tensor | None = None,
) -> tuple[Tensor, Tensor, int]:  # fmt: skip
    """Swap the token whose first-order gain in loss is largest, ``most`` times.

    loss_of: embeddings [B, L, D] -> losses [B], larger is worse for the model. tokens [L]: of one text. embeddings
    [V, D]. allowed [V] or [L, V], places [L]: masks of tokens that may be written and of positions that may change.
    Returns the tokens [L], their loss [1] and the number of sequences asked. Each step tries the best ``candidates``
    for real.
    """
    tokens, asked = tokens.clone(), 0
    length = len(tokens)
    open_places = torch.ones(length, dtype=torch.bool) if places is None else places.clone()
    best = loss_of(embeddings[tokens][None]).detach()
    for _ in range(most):
        point = embeddings[tokens][None].detach().requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(loss_of(point).sum(), point)
        gain = gradient[0] @ embeddings.T - (gradient[0] * point.detach()[0]).sum(1, keepdim=True)
        gain[~open_places] = -float("inf")
        gain[torch.arange(length), tokens] = -float("inf")
        if allowed is not None:
            gain = gain.masked_fill(~allowed, -float("inf"))
        values, flat = gain.flatten().topk(min(candidates, gain.numel()))
        flat = flat[torch.isfinite(values)]
        if not len(flat):
            break
        tried = tokens.repeat(len(flat), 1)
        tried[torch.arange(len(flat)), flat // len(embeddings)] = flat % len(embeddings)
        with torch.no_grad():
            losses = loss_of(embeddings[tried])
        asked += 1 + len(flat)
        winner = int(losses.argmax())
        if float(losses[winner]) <= float(best):
            break
        best, tokens = losses[winner : winner + 1], tried[winner]
        open_places[int(flat[winner]) // len(embeddings)] = False
    return tokens, best, asked


@dataclass
class TokenSwaps(TextAttack):
    """Whole words for other whole words of the source's vocabulary, led by the gradient at its input embeddings.

    vocabulary: of a source that reads strings as they are. answer: source input (a dict of ``inputs_embeds`` [B, L, D]
    and ``attention_mask``) -> target logits [B, T]. longest: tokens that the source reads. Words of several tokens stay
    as they are. The broken text is read and answered again as a string.
    """

    vocabulary: Vocabulary = field(
        default_factory=lambda: Vocabulary((), lambda strings: [], lambda: torch.empty(0, 0))
    )
    answer: Callable[[dict[str, Any]], Tensor] | None = None
    longest: int = 512
    candidates: Count = 8
    cosine: float = 0.5

    access: ClassVar[str] = "white_box"

    @classmethod
    def on(cls, model: EvaluatedStrings, **options: Any) -> Self | None:
        """For sources with a vocabulary that read the strings as they are written."""
        program = model.program
        source, vocabulary = program.source, program.source.spec.vocabulary
        if not source.differentiable or vocabulary is None or not model.reads_as_written():
            return None

        def answer(view: dict[str, Any]) -> Tensor:
            return program.output([program.ask(view)])

        return cls(seed=model.seed, vocabulary=vocabulary, answer=answer, longest=source.spec.size, **options)

    def __post_init__(self) -> None:
        self._table = self.vocabulary.embeddings().detach().float()
        self._unit = F.normalize(self._table, dim=1) if len(self._table) else self._table
        self._whole = self._whole_words()

    @property
    def constraint(self) -> str:
        return f"at most {self.most} words, each for a token of embedding cosine >= {self.cosine:g}, led by gradients"

    def _whole_words(self) -> Tensor:
        """[V]: tokens that a reader would call a word, and that are read back as themselves."""
        rows = [i for i, t in enumerate(self.vocabulary.tokens) if t.isalpha() and len(t) > 2 and t not in STOP_WORDS]
        read = self.vocabulary.encode([self.vocabulary.tokens[i] for i in rows])
        mask = torch.zeros(len(self._table), dtype=torch.bool)
        mask[[i for i, ids in zip(rows, read, strict=True) if ids == [i]]] = True
        return mask

    def _one(self, model: TextModel, text: str, label: Tensor, row: int) -> tuple[str, int, float]:
        words = self.split(text)
        if bool(wrong(ask_texts(model, [text]), label)):
            return text, 1, 0.0
        ids, places = self._read(words)
        if not places or self.vocabulary.encode([text])[0] != ids:
            return text, 1, 0.0  # this tokenizer does not read word by word
        device = self._table.device
        tokens, may_change = torch.tensor(ids, device=device), torch.zeros(len(ids), dtype=torch.bool, device=device)
        may_change[list(places)] = True
        near = self._whole.to(device) & (self._unit[tokens] @ self._unit.T >= self.cosine)

        def loss_of(points: Tensor) -> Tensor:
            assert self.answer is not None
            return margin(self.answer(self._surrounded(points)), label.expand(len(points)))

        found, _, asked = token_swaps(loss_of, tokens, self._table, self.most, self.candidates, near, may_change)
        changed = torch.nonzero(found != tokens).flatten().tolist()
        for place in changed:
            new = self.vocabulary.tokens[int(found[place])]
            words[places[place]] = new.capitalize() if words[places[place]][0].isupper() else new
        return "".join(words), 2 + asked, len(changed) / len(places)

    def _read(self, words: list[str]) -> tuple[list[int], dict[int, int]]:
        """Token ids of the words one after the other, and token position -> word for words of a single token."""
        ids: list[int] = []
        places: dict[int, int] = {}
        room = self.longest - len(self.vocabulary.prefix) - len(self.vocabulary.suffix)
        spoken = [i for i, word in enumerate(words) if not word.isspace()]
        for i, read in zip(spoken, self.vocabulary.encode([words[i] for i in spoken]), strict=True):
            if len(read) == 1 and bool(self._whole[read[0]]) and len(ids) < room:
                places[len(ids)] = i
            ids += read
        return ids, places

    def _surrounded(self, points: Tensor) -> dict[str, Any]:
        """Embeddings [B, L, D] of the words between what the source's tokenizer puts around them."""
        ends = [
            self._table[list(ids)].expand(len(points), -1, -1)
            for ids in (self.vocabulary.prefix, self.vocabulary.suffix)
        ]
        room = self.longest - ends[0].shape[1] - ends[1].shape[1]
        whole = torch.cat([ends[0], points[:, :room], ends[1]], 1)
        mask = torch.ones(whole.shape[:2], dtype=torch.long, device=whole.device)
        return {"inputs_embeds": whole, "attention_mask": mask}
