"""The only place where input transformation, source and output mapping meet."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from reprogram.errors import ArtifactError, BudgetSpent, DataError, SourceError
from reprogram.full_precision import full_precision
from reprogram.interfaces import (
    Examples,
    InputTransformation,
    OutputMapping,
    SourceModel,
    SourceOutput,
    Tap,
    TargetInfo,
)
from reprogram.modalities import modality
from reprogram.modalities.batches import is_pixels, is_tensor, to_device
from reprogram.pixels import resize
from reprogram.plain import is_json
from reprogram.progress import progress
from reprogram.targets.base import ArrayExamples, StringExamples
from reprogram.typecheck import check_arguments

if TYPE_CHECKING:
    from reprogram.applicability.base import Applicability
    from reprogram.prediction.conformal import Conformal

READ_AT_ONCE = 32  # examples; more only cost memory on a CPU (at 224 px 0.9 GB for 32, 1.5 GB for 64)
LARGEST_PIXEL = 16.0  # the noise of randomized smoothing leaves [0, 1] by a few; pixels up to 255 by far more
NUMBERS = "buif"  # kinds of numpy arrays
STRINGS_AT_ONCE = 512  # a text source makes its own batches of about equal length out of these
Inputs = Examples | Sequence[str] | Tensor | np.ndarray


class ReprogrammedModel(nn.Module):
    """A frozen source with a program around it: target batch -> target logits [B, T].

    build: create the program's parameters for this source and target (False when the parts are built already).
    precision: the number format that the source runs in now. It is full float32, whatever surrounds it, except inside
    :meth:`stepping`; everything that is measured, cached, fitted in closed form or kept is therefore float32.
    working_size: side in pixels that source inputs are resized to, for cheap early training; None leaves them alone.
    """

    def __init__(
        self,
        source: SourceModel,
        input: InputTransformation,
        output: OutputMapping,
        target: TargetInfo,
        build: bool = True,
    ) -> None:
        super().__init__()
        if build:
            input.build(source.spec, target)
            output.build(source.spec, target)
        self.source, self.input, self.output, self.target = source, input, output, target
        self.precision = torch.float32
        self.working_size: int | None = None
        self.applicability: Applicability | None = None  # what is kept of the labelled examples, to tell what is unlike them
        self.conformal: Conformal | None = None  # how far it was from labels it had not seen, for intervals and sets
        self.left_out: Tensor | None = None  # [N, T] logits of each training example without its label, where known exactly

    def outputs(self, batch: Any) -> list[SourceOutput]:
        """What the source answers, one :class:`SourceOutput` a view; gradients reach the input transformation."""
        batch = _checked(batch)
        with full_precision(self.device):
            side = {tap: values.to(self.device) for tap, values in self.input.side_features(batch).items()}
            answers = [self.ask(view) for view in self.input(batch)]
        return [SourceOutput(a.logits, a.features, a.taps | side) for a in answers] if side else answers

    @contextmanager
    def stepping(self, precision: torch.dtype) -> Iterator[None]:
        """Inside, gradient steps run the source in ``precision``: bfloat16 under autocast, program and loss in float32."""
        before, self.precision = self.precision, precision
        try:
            yield
        finally:
            self.precision = before

    def ask(self, view: Any, taps: Sequence[Tap] | None = None) -> SourceOutput:
        """The source's answer to one prepared view (``taps`` None: those that the output mapping reads)."""
        taps = self.output.taps() if taps is None else taps
        view = self._sized(view)
        with full_precision(self.device):
            if not self.source.differentiable:
                with torch.no_grad():
                    return self.source(view, taps)
            if self.precision == torch.float32:
                return self.source(view, taps)
        with torch.autocast(self.device.type, self.precision):
            answer = self.source(view, taps)
        features = None if answer.features is None else answer.features.float()
        return SourceOutput(answer.logits.float(), features, {k: v.float() for k, v in answer.taps.items()})

    def _sized(self, view: Any) -> Any:
        if self.working_size is None or not is_tensor(view) or view.shape[-1] == self.working_size:
            return view
        return resize(view, self.working_size)

    def forward(self, batch: Any) -> Tensor:
        outputs = self.outputs(batch)
        with full_precision(self.device):
            return self.decide(outputs)

    def decide(self, outputs: list[SourceOutput]) -> Tensor:
        """Target logits [B, T] of source outputs; values [B, 1] in the units of the target."""
        return self.in_units(self.output(outputs))

    def in_units(self, values: Tensor) -> Tensor:
        """What the output mapping answers, in the units of the target: double where it is centred and scaled."""
        if self.target.units is None:
            return values
        middle, scale = self.target.units
        return values.double() * scale + middle

    @property
    def device(self) -> torch.device:
        """Where the model's tensors are."""
        tensor = next((t for t in (*self.source.parameters(), *self.parameters(), *self.buffers())), None)
        return torch.device("cpu") if tensor is None else tensor.device

    def logits(self, examples: Examples, batch_size: int = READ_AT_ONCE, description: str = "predicting") -> Tensor:
        """Target logits [N, T] of examples, in batches, without gradients, on the CPU."""
        self.check_budget(examples)
        with self.batches(examples, batch_size, description) as batches:
            parts = [self(batch) for batch in batches]
        return torch.cat(parts).cpu() if parts else torch.empty(0, len(self.target.classes))

    def collect(
        self, examples: Examples, batch_size: int = READ_AT_ONCE, description: str = "reading"
    ) -> list[SourceOutput]:
        """Source outputs of all examples, one a view, concatenated and without gradients: the cached pass."""
        self.check_budget(examples)
        with self.batches(examples, batch_size, description) as batches:
            parts = [[o.detach() for o in self.outputs(batch)] for batch in batches]
        return [concatenate([part[view] for part in parts]) for view in range(len(parts[0]))]

    def check_budget(self, examples: Examples) -> None:
        """Half a pass is of no use: BudgetSpent, before anything is asked, where the budget cannot pay for all of it."""
        left = self.source.affordable(None)
        if math.isinf(left) or not len(examples):
            return
        with self.batches(examples, READ_AT_ONCE, "what it costs") as batches:
            price = self.source.price(self._sized(view) for batch in batches for view in self.input(batch))
        if price > left:
            raise BudgetSpent(
                f"The source needs {price:,} queries for {len(examples):,} examples and {left:,.0f} are left in the "
                "budget, so none was sent; give a larger budget, or fewer examples or views."
            )

    @contextmanager
    def batches(self, examples: Examples, batch_size: int, description: str) -> Iterator[Iterator[Any]]:
        """Batches in order, on the model's device, with progress; inside, eval mode, float32 and no gradients.

        A context and not a bare generator: an error inside must not leave gradients off until the garbage is collected.
        """
        if isinstance(examples, StringExamples):
            batch_size = max(batch_size, STRINGS_AT_ONCE)
        was_training = self.training
        self.eval()
        context = torch.no_grad() if torch.is_grad_enabled() else nullcontext()
        try:
            with context, self.stepping(torch.float32), progress(description, len(examples)) as bar:
                yield self._each(examples, batch_size, bar)
        finally:
            self.train(was_training)

    def _each(self, examples: Examples, batch_size: int, bar: Any) -> Iterator[Any]:
        for start in range(0, len(examples), batch_size):
            rows = np.arange(start, min(start + batch_size, len(examples)))
            yield to_device(examples.batch(rows), self.device)
            bar.advance(len(rows))

    def probabilities(self, logits: Tensor) -> Tensor:
        """[B, T] -> probabilities (classification: softmax, multilabel: sigmoid), or the values themselves."""
        if not bool(torch.isfinite(logits).all()):
            raise SourceError("The reprogrammed model answered NaN or infinity; check the source and its inputs.")
        if self.target.problem == "classification":
            return logits.softmax(1)
        return logits.sigmoid() if self.target.problem == "multilabel" else logits

    def predict_proba(self, examples: Inputs, batch_size: int = READ_AT_ONCE, errors: str = "raise") -> np.ndarray:
        """[N, T] probabilities (regression: [N, 1] values) of examples, plain strings, or images [N, C, H, W].

        errors: ``nan`` also takes lists of paths and pictures, and answers NaN in the place of what cannot be read.
        """
        if errors == "raise":
            return self.probabilities(self.logits(_unlabelled(examples, modality(self.target.kind).pixels), batch_size)).numpy()
        from reprogram.prediction.frames import forgiving

        return forgiving(self, examples, errors, batch_size)

    def predict(self, examples: Inputs, batch_size: int = READ_AT_ONCE, errors: str = "raise") -> np.ndarray:
        """Class indices [N] (multilabel: 0/1 [N, T]; regression: values [N]). errors: as for :meth:`predict_proba`; an
        answer that is not there is NaN, so that all of them are floats."""
        values = self.predict_proba(examples, batch_size, errors)
        found = values[:, 0]
        if self.target.problem == "classification":
            found = np.nan_to_num(values).argmax(1)
        elif self.target.problem == "multilabel":
            found = (values >= 0.5).astype(int)  # as metrics and predictions.csv have it
        bad = ~np.isfinite(values).all(1)
        if bad.any():
            found = found.astype(float)
            found[bad] = np.nan
        return found

    def predict_table(self, frame: Any, column: str | None = None, confidence: float = 0.9) -> Any:
        """``frame`` (pandas or polars) with the columns of ``predictions.csv`` behind its own: every row, in order.

        column: of the strings, paths, pictures or other objects; None where only one can be meant. confidence: of intervals
        and sets. A row that cannot be read has its reason in ``problem``. DataError where the column is not there.
        """
        from reprogram.prediction.frames import predict_table

        return predict_table(self, frame, column, confidence)

    def program(self) -> dict[str, Tensor]:
        """The tensors that are trained and kept, by name (``input.…``, ``output.…``), on the CPU."""
        parts = {"input": self.input, "output": self.output}
        return {
            f"{part}.{name}": tensor.detach().cpu().clone()
            for part, module in parts.items()
            for name, tensor in module.state_dict().items()
        }

    def load_program(self, tensors: dict[str, Tensor]) -> None:
        """Put back what :meth:`program` gave; every name, shape and type must fit. Raises ArtifactError."""
        expected = self.program()
        if missing := sorted(expected.keys() - tensors.keys()):
            raise ArtifactError(f"The program lacks the tensor '{missing[0]}'.")
        if extra := sorted(tensors.keys() - expected.keys()):
            raise ArtifactError(f"The program has a tensor '{extra[0]}' that its methods do not know.")
        for name, tensor in tensors.items():
            if tensor.shape != expected[name].shape:
                found, wanted = tuple(tensor.shape), tuple(expected[name].shape)
                raise ArtifactError(f"Tensor '{name}' of the program has the shape {found}; its method needs {wanted}.")
            if tensor.dtype != expected[name].dtype:
                kinds = f"{tensor.dtype}; its method needs {expected[name].dtype}"
                raise ArtifactError(f"Tensor '{name}' of the program is {kinds}.".replace("torch.", ""))
            if not bool(torch.isfinite(tensor.double()).all()):
                raise ArtifactError(f"Tensor '{name}' of the program has a NaN or infinite number.")
        for part, module in (("input", self.input), ("output", self.output)):
            prefix = f"{part}."
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})

    def settle(self) -> None:
        """Become the program as it is kept: both parts are made anew from their configuration and their tensors alone.

        Training ends with it, so that nothing that a method remembers beside these can reach a measurement, and what is
        measured is what ``from_pretrained`` gives. Parts that no configuration can describe stay as they are; they cannot
        be saved either. Raises ArtifactError for a program that could not be loaded again.
        """
        made = self.unbuilt_copies()
        if made is None:
            return
        again = ReprogrammedModel(self.source, *made, self.target)
        again.load_program(self.program())
        self.left_out = self.output.left_out  # known to the fit alone
        for part, fresh in zip((self.input, self.output), made, strict=True):
            fresh.to(self.device).train(part.training)
            part.__dict__ = fresh.__dict__  # in place, because callers hold the parts

    def unbuilt_copies(self) -> tuple[InputTransformation, OutputMapping] | None:
        """Both parts as their configuration is read back from a file; None where JSON cannot hold it.

        Raises ConfigError for a value that a kept program may not have.
        """
        made: list[Any] = []
        for part in (self.input, self.output):
            if not is_json(part.config()):
                return None
            options = json.loads(json.dumps(part.config()))
            made.append(type(part)(**check_arguments(type(part), options, f"{part.name} as it would be kept")))
        return made[0], made[1]

    def program_size(self) -> int:
        """Number of values in the program."""
        return sum(t.numel() for t in self.program().values())


def _checked(batch: Any) -> Any:
    """A target batch in its right range: uint8 pixels become [0, 1]. Raises DataError for what would be read wrongly."""
    if isinstance(batch, str):
        raise DataError("A batch is a list of strings, and this is one string: give [text].")
    if isinstance(batch, np.ndarray) and batch.dtype.kind in NUMBERS:
        raise DataError("A batch is a tensor, and this is an array: give torch.from_numpy(batch), or use predict_proba.")
    if not is_pixels(batch):
        return batch
    if batch.dtype == torch.uint8:
        return batch.float() / 255.0
    if batch.numel() and not _traced(batch) and float(batch.detach().amax()) > LARGEST_PIXEL:
        raise DataError(f"Pixels must lie in [0, 1]; found {float(batch.detach().amax()):.4g}: divide by 255?")
    return batch


def _traced(batch: Tensor) -> bool:
    """A batch without values: on the meta device, or while a function of it is traced or transformed."""
    from torch._C._functorch import peek_interpreter_stack
    from torch.utils._python_dispatch import _get_current_dispatch_mode

    watched = peek_interpreter_stack() is not None or _get_current_dispatch_mode() is not None
    return batch.is_meta or type(batch) not in (Tensor, nn.Parameter) or watched


def _unlabelled(inputs: Inputs, pixels: bool) -> Examples:
    """New inputs as examples whose labels nobody knows."""
    if isinstance(inputs, Examples):
        return inputs
    if isinstance(inputs, str):
        raise DataError("One string is no list of strings: give [text].")
    if hasattr(inputs, "columns"):
        raise DataError("A table is no list of inputs: give one of its columns, or use predict_table.")
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind in NUMBERS:
        inputs = torch.from_numpy(np.ascontiguousarray(inputs if inputs.dtype == np.uint8 else inputs.astype(np.float32)))
    if is_tensor(inputs):
        inputs = inputs.detach() if inputs.dtype != torch.bfloat16 else inputs.detach().float()
        if pixels and not is_pixels(inputs):
            raise DataError(f"Images must have the shape [N, C, H, W]; found {list(inputs.shape)}; give image[None].")
        return ArrayExamples(inputs.cpu().numpy(), np.zeros(len(inputs)))
    if pixels and len(inputs):
        raise DataError("Images are one array or tensor [N, C, H, W]; errors='nan' also reads lists of pictures and paths.")
    items = list(inputs)
    for place, item in enumerate(items):
        if item is None or isinstance(item, bytes | int | float):
            raise DataError(f"Input {place} is no string, but {item!r:.40}; errors='nan' answers NaN in its place.")
    return StringExamples(items, np.zeros(len(items)))


def concatenate(outputs: list[SourceOutput]) -> SourceOutput:
    """Batches of one view as one."""
    first = outputs[0]
    return SourceOutput(
        torch.cat([o.logits for o in outputs]),
        None if first.features is None else torch.cat([o.features for o in outputs if o.features is not None]),
        {tap: torch.cat([o.taps[tap] for o in outputs]) for tap in first.taps},
    )


def pick(outputs: list[SourceOutput], rows: Tensor) -> list[SourceOutput]:
    """Rows of cached source outputs."""
    return [
        SourceOutput(
            o.logits[rows],
            None if o.features is None else o.features[rows],
            {tap: value[rows] for tap, value in o.taps.items()},
        )
        for o in outputs
    ]
