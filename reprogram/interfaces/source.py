"""A frozen source model: what it reads, what it answers, and what its answers cost."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor, nn

from reprogram.fingerprint import of_tensors, with_settings
from reprogram.plain import is_json, plain
from reprogram.registry import name_of
from reprogram.typecheck import check_call


class Tap(NamedTuple):
    """A named layer of a source and how it is pooled to a vector.

    ``pooling`` is a grid size as text for images (``"2"``: average-pooled to 2 x 2 and flattened), and ``mean``,
    ``max`` or ``std`` (standard deviation over positions) for sequences.
    """

    layer: str
    pooling: str = "1"


@dataclass
class SourceOutput:
    """What a source answers for B inputs: ``logits`` [B, S], ``features`` [B, D] or None, ``taps`` {Tap: [B, D']}."""

    logits: Tensor
    features: Tensor | None = None
    taps: dict[Tap, Tensor] = field(default_factory=dict)

    def detach(self) -> SourceOutput:
        """The same values without gradients."""
        features = None if self.features is None else self.features.detach()
        return SourceOutput(self.logits.detach(), features, {k: v.detach() for k, v in self.taps.items()})


@dataclass(frozen=True)
class Vocabulary:
    """What a text source's tokens are, for transformations that speak to it below its tokenizer.

    tokens: V token texts in id order. prefix / suffix: ids that the tokenizer puts around every string.
    encode: strings -> token ids without prefix and suffix. embeddings: the frozen input embeddings [V, D].
    mask: the token that a masked language model fills in; None for other models.
    unread: strings -> (characters without a token that the model knows, all characters), spaces left out.
    """

    tokens: Sequence[str]
    encode: Callable[[Sequence[str]], list[list[int]]]
    embeddings: Callable[[], Tensor]
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    mask: int | None = None
    unread: Callable[[Sequence[str]], list[tuple[int, int]]] | None = None


@dataclass(frozen=True)
class SourceSpec:
    """What a source reads and answers.

    kind: ``"image"`` (pixels in [0, 1], [B, channels, h, w]; the source normalises) or ``"text"`` (list of strings,
        or a dict with ``inputs_embeds``/``input_ids`` [B, L, D]/[B, L], ``attention_mask`` [B, L], padding on the right,
        and optionally ``answer_at`` [B], the position whose token logits are wanted; ``input_ids`` beside
        ``inputs_embeds`` are what stands at each position as far as that is known).
    size: the side in pixels that it was trained at, or the longest token sequence it reads.
    taps: layers that can be read, first to last.
    answers: what :class:`SourceOutput` ``logits`` are: ``"logits"``, ``"log_probabilities"`` or ``"none"``
        (an encoder without a head: S = 0).
    vocabulary: the tokens of a text source.
    read_names: texts -> [n, D], such that products with features of unit length are logits of "this text says what the
        input is"; None for a source that reads no text beside its inputs.
    """

    kind: str
    size: int
    labels: tuple[str, ...]
    channels: int = 3
    feature_size: int | None = None
    taps: tuple[str, ...] = ()
    answers: str = "logits"
    embedding_size: int | None = None
    vocabulary: Vocabulary | None = field(default=None, repr=False, compare=False)
    read_names: Callable[[Sequence[str]], Tensor] | None = field(default=None, repr=False, compare=False)


class SourceModel(nn.Module, ABC):
    """A frozen pretrained model. It owns its preprocessing, is put in eval mode once, and stays there.

    Subclasses set ``name``, ``spec`` and ``differentiable`` and implement :meth:`answer`; they call :meth:`freeze` at
    the end of ``__init__``.
    """

    group: ClassVar[str] = "source."  # where its options stand on the command line
    name: str
    spec: SourceSpec
    differentiable: bool = True
    named_in_programs: ClassVar[bool] = True  # may a saved program, which can come from a stranger, load it by name?
    loading_notes: tuple[str, ...] = ()  # what had to be guessed when it was loaded, a plain sentence each
    queries_each: int = 1  # questions that one input takes
    options: dict[str, Any]  # the arguments that this source was made with, kept by __new__

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        check_call(cls, args, kwargs)
        source = super().__new__(cls)
        made_with = inspect.signature(cls.__init__).bind_partial(source, *args, **kwargs).arguments
        object.__setattr__(source, "options", dict(list(made_with.items())[1:]))  # without self
        return source

    def origin(self) -> dict[str, Any] | None:
        """``{"loader": file name in reprogram.sources, "options": {…}}``: how a saved program finds this source again.

        None where it cannot be told in JSON, as for a module handed over from Python, or must not be told, as for a
        service that would be asked; loading then asks for the source.
        """
        loader, options = name_of("reprogram.sources", type(self)), plain(self.options)
        tellable = self.named_in_programs and loader is not None and is_json(options)
        return {"loader": loader, "options": options} if tellable else None

    @abstractmethod
    def answer(self, source_input: Any, taps: Sequence[Tap] = ()) -> SourceOutput:
        """Raw answer for one prepared input; images arrive as float pixels in [0, 1], [B, C, h, w], any h and w."""

    def forward(self, source_input: Any, taps: Sequence[Tap] = ()) -> SourceOutput:
        if any(module.training for module in self.modules()):  # somebody reached a submodule's own train()
            super().train(False)
        return self.answer(source_input, taps)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.spec.labels

    def freeze(self) -> None:
        """Eval mode, and no gradients of parameters."""
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> SourceModel:
        """Stays in eval mode whatever the caller says: a BatchNorm that moves is a changed source."""
        return super().train(False)

    def settings(self) -> dict[str, Any]:
        """What changes the answers beside the weights, as JSON values: preprocessing, tokenizer, numbers of the model's
        configuration. The default has none."""
        return {}

    def fingerprint(self) -> str:
        """SHA-256 over the weights and :meth:`settings`: two sources that may answer differently differ in it."""
        return with_settings(self.weights_fingerprint(), self.settings())

    def weights_fingerprint(self) -> str:
        """SHA-256 over names, shapes and bytes of all parameters *and* buffers; the same before and after training.

        Programs of schema 1 that were kept before there were :meth:`settings` name their source by it.
        """
        return of_tensors(self.state_dict(keep_vars=True))

    def parameter_count(self) -> int:
        """How many values the model has."""
        return sum(p.numel() for p in self.parameters())

    def counted_as(self, kind: str) -> AbstractContextManager[None]:
        """Queries inside are counted as ``training`` or ``evaluation``. A source that costs nothing counts nothing."""
        return nullcontext()

    def holding_back(self, queries: int) -> AbstractContextManager[None]:
        """Inside, so many training queries of the budget cannot be spent: they are left for a later purpose."""
        return nullcontext()

    def affordable(self, kind: str | None = "training") -> float:
        """Queries of this kind (None: the kind that counts now) that can still be paid for; infinity where an answer
        costs nothing or has no limit."""
        return math.inf

    def price(self, source_inputs: Iterable[Any]) -> int:
        """Queries that asking for these prepared inputs would cost, those answered before being free."""
        return 0

    def bill(self) -> dict[str, Any]:
        """What its answers have cost: ``queries``, and more for a black-box (query-only) source."""
        return {"queries": 0}
