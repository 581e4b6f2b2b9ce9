"""What the parts of a reprogrammed model say to each other: the words of the house as types.

Nothing here knows a method. Inputs, sources and outputs meet only in :mod:`reprogram.model`.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from reprogram.errors import DataError
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


@dataclass(frozen=True)
class TargetInfo:
    """What a program must know of its target, small enough to be kept with it.

    kind: ``image``, ``text``, ``sequence`` or ``molecule``.
    problem: ``classification``, ``multilabel`` or ``regression``.
    classes: class names in column order (task names for multilabel, one name for regression).
    input_shape: (channels, height, width) of an image, None for strings.
    """

    name: str
    kind: str
    problem: str
    classes: tuple[str, ...]
    input_shape: tuple[int, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TargetInfo:
        """What :meth:`to_json` wrote."""
        shape = data.get("input_shape")
        return cls(
            name=str(data["name"]),
            kind=str(data["kind"]),
            problem=str(data["problem"]),
            classes=tuple(map(str, data["classes"])),
            input_shape=None if shape is None else tuple(int(s) for s in shape),
        )


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


class Explanation(NamedTuple):
    """A table that shows people what a method has learned (a target token's source tokens, a layer's share)."""

    title: str
    headers: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    note: str = ""


@dataclass(eq=False)
class Method(nn.Module):
    """Shared by input transformations and output mappings: a configuration, and a second step of building.

    A subclass is a ``@dataclass(eq=False)`` whose fields are its hyper-parameters (JSON values only). :meth:`build`
    learns shapes from source and target and creates parameters and buffers, so that ``cls(**config())``, ``build`` and
    ``load_state_dict`` restore it from disk.
    """

    package: ClassVar[str]  # where methods of its kind are found by name

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        check_call(cls, args, kwargs)
        method = super().__new__(cls)
        nn.Module.__init__(method)  # before the dataclass sets its fields
        return method

    @property
    def name(self) -> str:
        """Its name in ``conf/`` and in a saved program: that of its file, or the one that its package declares."""
        return name_of(self.package, type(self)) or type(self).__module__.rpartition(".")[2]

    def config(self) -> dict[str, Any]:
        """The hyper-parameters as JSON values."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}

    def explain(self) -> list[Explanation]:
        """What the method has learned, as tables for the report. The default has nothing to show."""
        return []

    def trainable(self) -> int:
        """Number of values that gradient training changes."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


@dataclass(eq=False)
class InputTransformation(Method, ABC):
    """Maps a target batch to one or several source inputs (views)."""

    package: ClassVar[str] = "reprogram.inputs"
    group: ClassVar[str] = "input."
    reads: ClassVar[str | None] = None  # the kind of target that it is made for; None: whatever the source reads
    own_tokens: ClassVar[int] = 0  # that the source reads beside a string's own and those around every string

    def read(self, item: Any) -> Any:
        """One string of a user's list as :meth:`forward` takes it. Raises DataError with the reason."""
        if isinstance(item, str):
            return str(item)
        shown = repr(item) if item is None or isinstance(item, float) else type(item).__name__
        raise DataError(f"it is no string, but {shown}")

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        """Create parameters for this source and target. The default has none."""

    @abstractmethod
    def forward(self, batch: Any) -> list[Any]:
        """Target batch (images: float [B, C, H, W] in [0, 1]; strings: list[str]) -> source inputs, one a view."""

    def tokenised(self, batch: Sequence[str]) -> list[list[str]]:
        """What the source's tokenizer is to read, one list a view, before anything is cut."""
        return [view for view in self(batch) if isinstance(view, list)]

    def cut(self, batch: Sequence[str]) -> int:
        """How many strings are shortened here and never reach the source's tokenizer whole."""
        return 0

    def side_features(self, batch: Any) -> dict[Tap, Tensor]:
        """Plain features of the batch that stand beside the source's taps, {Tap(name, "side"): [B, F]}.

        A program that reads them beside the frozen model is a *hybrid*. The default has none.
        """
        return {}

    def work(self) -> float:
        """Cost of one example's pass through the source, in units that only passes of one source share."""
        return 1.0

    @classmethod
    def merge(cls, configs: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], list[list[int]]] | None:
        """Options whose views hold those of all ``configs``, and which of its views each of them reads (empty: all).

        None where that cannot be; the default merges equal options only.
        """
        same = all(config == configs[0] for config in configs)
        return (configs[0], [[] for _ in configs]) if same else None

    @classmethod
    def passes(cls, config: dict[str, Any]) -> list[dict[str, Any]]:
        """Options of inputs whose views, in this order, are those of ``config``: passes that programs can share."""
        return [config]


@dataclass(eq=False)
class OutputMapping(Method, ABC):
    """Maps source outputs to target logits [B, T] (regression: [B, 1]).

    Three ways to learn, any of which a mapping may leave out: by gradient (it has parameters); from statistics of the
    training pass (:meth:`observe` each batch, :meth:`refresh` each epoch); in closed form (:meth:`fit`) from one pass.
    """

    package: ClassVar[str] = "reprogram.outputs"
    group: ClassVar[str] = "output."
    closed_form: ClassVar[bool] = False  # fit() must be called with the outputs of all training examples
    statistics: ClassVar[bool] = False  # observe()/refresh() are fed from the training pass
    reads_pool: ClassVar[bool] = False  # observe_pool() must be called before fit()
    left_out = None  # type: Tensor | None  # after fit: logits [N, T] of each training example without its own label

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        """Create parameters and buffers for S source labels and T target labels."""

    def taps(self) -> tuple[Tap, ...]:
        """The taps that :meth:`forward` reads; the model asks the source for exactly these."""
        return ()

    @abstractmethod
    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        """One :class:`SourceOutput` a view -> target logits [B, T]."""

    def observe(self, outputs: list[SourceOutput], labels: Tensor) -> None:
        """Take statistics of a training batch (detached outputs, labels [B])."""

    def refresh(self) -> None:
        """Turn the statistics seen since the last call into the mapping, and start over."""

    def fit(self, outputs: list[SourceOutput], labels: Tensor) -> None:
        """Closed form, from the outputs of all N training examples (labels [N] or [N, T] with NaN for missing)."""

    def observe_pool(self, outputs: list[SourceOutput]) -> None:
        """Take the outputs of inputs without labels, before :meth:`fit`; one list serves every fit that follows."""

    def weights(self) -> Tensor | None:
        """[S, T] non-negative weight of each source label in each target label, where that makes sense."""
        return None


class Examples(ABC):
    """Labelled inputs that are read in batches. ``labels``: int [N], or float [N, T] (NaN = missing)."""

    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def batch(self, rows: Sequence[int] | np.ndarray) -> Any:
        """Target inputs of these rows: float [B, C, H, W] in [0, 1], or list[str]."""

    @abstractmethod
    def subset(self, rows: Sequence[int] | np.ndarray) -> Examples:
        """The same kind of examples with only these rows, in this order."""


@dataclass
class TargetTask:
    """A new job: few labelled training examples, a test set that is read once, and how the two were split.

    train_rows / test_rows: where each example stands in the user's file (what ``predictions.csv`` shows).
    notes: what was skipped or repaired on the way in, one plain sentence each.
    train_columns / test_columns: the user's own further columns of each example (ids, notes), carried to
        ``predictions.csv``: name -> [N].
    pool: inputs without labels that programs may learn from, a :class:`reprogram.targets.pool.Pool`.
    """

    info: TargetInfo
    train: Examples
    test: Examples
    train_rows: Sequence[Any] = ()
    test_rows: Sequence[Any] = ()
    split: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    train_columns: dict[str, Sequence[str]] = field(default_factory=dict)
    test_columns: dict[str, Sequence[str]] = field(default_factory=dict)
    pool: Any = None

    def pictures(self, model: nn.Module) -> dict[str, bytes]:
        """Title -> PNG of what the reprogrammed model looks at in some test examples, for the report."""
        return {}

    def featurisers(self) -> dict[str, Featuriser]:
        """Names and functions of the plain features that baselines use (pixels, fingerprints, k-mers)."""
        return {}

    def checks(self) -> Sequence[Any]:
        """Hooks that only this kind of target knows; ``robustness=quick|full`` runs them when the program is final."""
        return ()


class Featuriser(ABC):
    """Plain features of target inputs, for baselines and hybrid programs.

    models: the simple models (:mod:`reprogram.evaluation.simple_models`) that its baselines are made with, best known
    first.
    """

    models: tuple[str, ...] = ("logistic",)

    def fit(self, inputs: Any) -> None:
        """Learn a vocabulary from all training inputs, without labels. The default has nothing to learn."""

    def variants(self) -> list[Featuriser]:
        """Other ways to read the same inputs, among which a baseline chooses on the training labels. The default: itself."""
        return [self]

    @abstractmethod
    def __call__(self, batch: Any) -> Any:
        """Target inputs -> float [B, F], an array or a sparse matrix."""


def to_tensor_labels(labels: np.ndarray) -> Tensor:
    """Integer class labels as int64 [N]; everything else as float32."""
    array = np.asarray(labels)
    if np.issubdtype(array.dtype, np.integer):
        return torch.from_numpy(array.astype(np.int64))
    return torch.from_numpy(array.astype(np.float32))
