"""What can be chosen for a program: an input transformation before the source, an output mapping behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor, nn

from reprogram.errors import DataError
from reprogram.interfaces.source import SourceOutput, SourceSpec, Tap
from reprogram.interfaces.target import TargetInfo
from reprogram.plain import plain
from reprogram.registry import name_of
from reprogram.typecheck import check_call


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
    without_labels: ClassVar[bool] = False  # answers as it was built, before anything is learned
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
