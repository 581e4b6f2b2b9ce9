"""The one training loop: every input transformation, output mapping and optimiser strategy goes through it.

Mapping statistics come from the training pass itself. What is frozen is read once and cached. A run that was killed goes
on from the last complete epoch; random numbers depend on (seed, epoch) alone, so it ends with the same numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from reprogram import machine
from reprogram.errors import BudgetSpent, ConfigError, Interrupted, SourceError
from reprogram.full_precision import full_precision
from reprogram.hooks import Hook, Run
from reprogram.interfaces import Examples, SourceOutput, to_tensor_labels
from reprogram.modalities.batches import to_device
from reprogram.model import ReprogrammedModel, pick
from reprogram.progress import progress
from reprogram.ranges import Amount, Checked, Count, NotNegative, Share, Side
from reprogram.sources.reading import reading_notes
from reprogram.training import adversarial, checkpoint, precision
from reprogram.training.augment import Affine
from reprogram.training.backpropagation import Backpropagation
from reprogram.training.base import BatchLoss, Optimiser, batch_of_outputs, fit_mapping, loss_for, trainable
from reprogram.training.distributed import Alone, processes
from reprogram.training.hold_out_selection import HoldOutSelection


@dataclass
class History:
    """What a training run did: one row an epoch (``epoch``, ``loss``, ``accuracy``), its time and why it ended.

    precision: that gradient steps ran the source in.
    search: what :class:`~reprogram.training.hold_out_selection.HoldOutSelection` measured of a search that sees
    losses only; empty for others.
    notes: what the source cannot read of the training strings, one plain sentence each.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    examples: int = 0
    ended: str = "all epochs done"
    precision: str = "float32"
    search: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def examples_per_second(self) -> float | None:
        """Training examples a second, None before anything was trained."""
        return self.examples / self.seconds if self.seconds > 0 and self.examples else None


@dataclass
class Training(Checked):
    """How a program is trained.

    epochs: passes over the training examples (0 when nothing is trained by steps). batch_size: examples a step.
    optimiser: the strategy. augment: random changes to training images, or None. precision: ``auto``, ``float32`` or
    ``bfloat16`` for the frozen source in gradient steps; nothing else is ever rounded.
    resolutions: [[share, side], …]: until ``share`` of the run, source inputs are
    resized to ``side`` pixels (cheap early steps). patience: end when the training loss has not fallen by 1% for so many
    epochs; 0 never. adversarial: a loss that replaces the plain one, or its name (:mod:`reprogram.training.adversarial`).
    checkpoint_seconds: shortest time between two checkpoints; the last epoch always writes one.
    """

    group: ClassVar[str] = "training."

    epochs: Amount = 20
    batch_size: Count = 64
    optimiser: Optimiser = field(default_factory=Backpropagation)
    augment: Affine | None = None
    precision: str = "auto"
    resolutions: Sequence[tuple[Share, Side]] = ()
    patience: Amount = 0
    adversarial: Any = None
    checkpoint_seconds: NotNegative = 5.0

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ConfigError(f"training.epochs={self.epochs} must be 0 or more.")
        if self.batch_size < 1:
            raise ConfigError(f"training.batch_size={self.batch_size} must be at least 1.")
        if isinstance(self.adversarial, str):
            self.adversarial = adversarial.named(self.adversarial)
        self.adversarial = self.adversarial or None

    def fit(self, model: ReprogrammedModel, examples: Examples, run: Run, hooks: Sequence[Hook] = ()) -> History:
        """Train ``model``'s program on ``examples`` in place; afterwards it is the program as it is kept.

        Raises ConfigError, SourceError, Interrupted.
        """
        model.unbuilt_copies()  # what cannot be kept is said before the work, not after it
        if not len(examples):
            check_without_labels(model)
            return History(ended="there are no labels to learn from")
        with full_precision(model.device):
            history = self.train(model, examples, run, hooks)
            model.settle()
        return history

    def train(self, model: ReprogrammedModel, examples: Examples, run: Run, hooks: Sequence[Hook] = ()) -> History:
        """What :meth:`fit` does before the program takes its kept form; other ways of training override this."""
        return _Fit(self, model, examples, run, hooks).run()

    def side(self, epoch: int) -> int | None:
        """Working size of an epoch (counted from 0)."""
        done = epoch / max(1, self.epochs)
        return next((int(side) for share, side in self.resolutions if done < share), None)


class _Fit:
    """One training run: the loop and its state."""

    def __init__(
        self, settings: Training, model: ReprogrammedModel, examples: Examples, run: Run, hooks: Sequence[Hook]
    ) -> None:
        self.settings, self.model, self.examples, self.context, self.hooks = settings, model, examples, run, hooks
        self.labels = to_tensor_labels(examples.labels).to(model.device)
        self.loss_function = loss_for(model.target.problem)
        self.group: Alone = processes()
        self.precision = precision.choose(settings.precision, model.device)
        self.history = History(precision=str(self.precision).removeprefix("torch."))
        self.cached: list[SourceOutput] | None = None
        self.folder, self.recipe = run.dir / "checkpoint", checkpoint.recipe_of(run.recipe, examples.labels)
        self.rows = np.arange(len(examples))  # that steps may use
        self.selection: HoldOutSelection | None = None
        self._saved_at = time.monotonic()

    def run(self) -> History:
        started = time.perf_counter()
        model, settings = self.model, self.settings
        if settings.adversarial and not (trainable(model) and settings.epochs):
            raise ConfigError(
                f"training.adversarial needs a program that is trained by steps; input={model.input.name} with "
                f"output={model.output.name} has nothing to train."
            )
        self.history.notes = reading_notes(model.source, model.input, self.examples)
        self.first_pass()
        if trainable(model) and settings.epochs:
            try:
                self.watch()
                self.epochs()
            except KeyboardInterrupt as error:
                raise Interrupted(
                    f"Stopped after epoch {len(self.history.epochs)}; start again with run_dir={self.context.dir} "
                    "resume=true to continue."
                ) from error
        if self.selection:
            self.history.search = self.selection.finish()
        model.working_size = None
        model.eval()
        self.history.seconds += time.perf_counter() - started
        return self.history

    def first_pass(self) -> None:
        """Statistics and closed forms need what the source answers before anything is trained; so does the cache."""
        model, output = self.model, self.model.output
        frozen_front = model.input.trainable() == 0 and self.settings.augment is None and not self.settings.adversarial
        model.working_size = self.settings.side(0) if trainable(model) else None
        if not (output.statistics or output.closed_form or frozen_front):
            return
        outputs = model.collect(self.examples, description="reading the source")
        self.history.examples += len(self.examples)
        fit_mapping(self.model.output, outputs, self.labels)
        if frozen_front and not self.settings.resolutions:
            self.cached = outputs

    def watch(self) -> None:
        """A search that sees losses only is judged from its start on, on labels that it does not use."""
        if self.settings.optimiser.sees_losses_only:
            self.selection = HoldOutSelection(self.model, self.examples, self.context.seed)
            self.rows = self.selection.searched
            self.selection.judge(0)

    def epochs(self) -> None:
        settings, size = self.settings, len(self.rows)
        steps = -(-size // settings.batch_size)
        settings.optimiser.start(self.model, settings.epochs * steps, self.context.seed)
        first = self.restore()
        with progress("training", settings.epochs) as bar:
            bar.advance(first)
            for epoch in range(first, settings.epochs):
                try:
                    with self.selection.searching() if self.selection else nullcontext():
                        row = self.epoch(epoch, steps)
                except BudgetSpent as error:  # the step that could not be paid for has changed nothing
                    self.history.ended = str(error)
                    if self.selection:
                        with suppress(BudgetSpent):  # a program that was not judged is not kept
                            self.selection.judge(epoch + 1)
                    break
                row |= self.selection.judge(epoch + 1) if self.selection else {}
                self.history.epochs.append(row)
                for hook in self.hooks:
                    hook.on_epoch_end(self.context, self.model, epoch, row)
                last = epoch + 1 == settings.epochs or self.has_converged()
                self.save(epoch + 1, last)
                bar.advance(note=f"loss {row['loss']:.3f}")
                if last:
                    break

    def epoch(self, epoch: int, steps: int) -> dict[str, float]:
        """One pass over the training examples."""
        order = np.random.default_rng([self.context.seed, epoch]).permutation(self.rows)
        generator = torch.Generator().manual_seed(self.context.seed * 1_000_003 + epoch)
        self.model.working_size = self.settings.side(epoch)
        self.model.train()
        seen: list[tuple[list[SourceOutput], Tensor]] = []
        total = 0.0
        correct: float | None = 0.0
        for step in range(steps):
            rows = order[step * self.settings.batch_size : (step + 1) * self.settings.batch_size]
            problem = self.problem(rows, generator, seen)
            if self.settings.adversarial:
                self.settings.adversarial.gone = (epoch * steps + step) / (self.settings.epochs * steps)
            with self.model.stepping(self.precision):
                loss = self.settings.optimiser.step(problem, epoch * steps + step)
            if not np.isfinite(loss):
                raise SourceError(
                    f"The training loss became {loss} in epoch {epoch + 1}; try a smaller training.optimiser.learning_rate."
                )
            total += loss / problem.share * len(rows)
            hits = _correct(problem)
            correct = None if hits is None or correct is None else correct + hits
        self.history.examples += len(order)
        self.next_mapping(seen, last=epoch + 1 == self.settings.epochs)
        row = {"epoch": epoch + 1, "loss": total / len(order)}
        row |= {} if correct is None else {"accuracy": correct / (len(order) / self.group.world)}
        return row if self.model.source.differentiable else row | {"queries": self.model.source.bill()["queries"]}

    def problem(self, rows: np.ndarray, generator: torch.Generator, seen: list[Any]) -> BatchLoss:
        """The batch of this process; augmentation is drawn for the whole batch, so that every process agrees."""
        mine = rows[self.group.rank :: self.group.world]
        share = len(mine) / len(rows)
        labels = self.labels[torch.as_tensor(mine, device=self.labels.device)]
        problem = BatchLoss(self.model, labels, self.loss_function, share=share, group=self.group)
        problem.adversarial = self.settings.adversarial
        problem.observe = self.observer(len(rows), seen)
        if self.cached is not None:
            problem.cached = pick(self.cached, torch.as_tensor(mine, device=self.labels.device))
            return problem
        batch = self.examples.batch(rows)
        if self.settings.augment is not None:
            batch = self.settings.augment(batch, generator)
        batch = batch[self.group.rank :: self.group.world]
        problem.inputs = to_device(batch, self.model.device)
        return problem

    def observer(self, rows: int, seen: list[Any]) -> Callable[[list[SourceOutput], Tensor], None] | None:
        """What looks at the outputs of a training pass, for mappings that are made from them.

        A step that sees every example counts before its own loss: the published rule, which spends a pass on it. Of a
        longer epoch the outputs are kept for the next one. One step late is not the same where a step is an epoch
        (``docs/results/peers.md``).
        """
        output = self.model.output
        if not (output.statistics or output.closed_form):
            return None
        if rows == len(self.rows) and self.group.world == 1 and self.cached is None and not output.closed_form:
            return lambda outputs, labels: fit_mapping(output, outputs, labels)
        return lambda outputs, labels: seen.append((outputs, labels))

    def next_mapping(self, seen: list[tuple[list[SourceOutput], Tensor]], last: bool) -> None:
        """The mapping of the next epoch, from this epoch's training pass. The last epoch keeps the one it trained with."""
        if last or not seen or self.cached is not None:
            return
        gathered = [part for process in self.group.gather(seen) for part in process]
        labels = torch.cat([part[1] for part in gathered])
        fit_mapping(self.model.output, batch_of_outputs([part[0] for part in gathered]), labels)

    def has_converged(self) -> bool:
        """No 1% better training loss within ``patience`` epochs: a rule on the training labels alone."""
        patience, losses = self.settings.patience, [row["loss"] for row in self.history.epochs]
        if not patience or len(losses) <= patience:
            return False
        if min(losses[-patience:]) < 0.99 * min(losses[:-patience]):
            return False
        self.history.ended = f"the training loss did not fall by 1% in {patience} epochs"
        return True

    def save(self, epochs_done: int, last: bool) -> None:
        now = time.monotonic()
        if not self.group.main or not (last or now - self._saved_at >= self.settings.checkpoint_seconds):
            return
        self._saved_at = now
        checkpoint.save(
            self.folder,
            {
                "epochs_done": settings_end(epochs_done, last, self.settings.epochs),
                "program": self.model.program(),
                "optimiser": self.settings.optimiser.state_dict(),
                "history": self.history.epochs,
                "ended": self.history.ended,
                "examples": self.history.examples,
                "selection": self.selection.state_dict() if self.selection else {},
            },
            self.recipe,
        )

    def restore(self) -> int:
        """Number of epochs that are done already."""
        resume = self.group.main and self.context.resume
        state = self.group.broadcast(checkpoint.load(self.folder, self.recipe) if resume else None)
        if state is None:
            return 0
        with checkpoint.understood(self.folder):
            self.model.load_program(state["program"])
            self.settings.optimiser.load_state_dict(state["optimiser"])
            self.history.epochs, self.history.ended = state["history"], state["ended"]
            self.history.examples = state["examples"]
            if self.selection:
                self.selection.load_state_dict(state["selection"])
            return int(state["epochs_done"])


def check_without_labels(model: ReprogrammedModel) -> None:
    """Can the program answer before it has learned anything? Raises ConfigError."""
    if not model.output.without_labels:
        raise ConfigError(
            f"There are no labels, and output={model.output.name} needs some: give output=label_names, which reads the "
            "names of the classes, or target.shots=1 or more."
        )
    if model.input.trainable():
        raise ConfigError(f"There are no labels to train input={model.input.name} with; leave input= out.")


def settings_end(epochs_done: int, last: bool, epochs: Amount) -> int:
    """A run that ended early is not taken up again."""
    return epochs if last else epochs_done


def _correct(problem: BatchLoss) -> float | None:
    """Right answers of the batch; None where there is no such thing, or where the loss kept its logits to itself."""
    if problem.last_logits is None or problem.model.target.problem != "classification":
        return None
    return float((problem.last_logits.argmax(1) == problem.labels).sum())


def peak_memory_mb(device: torch.device | None = None) -> float:
    """Peak resident memory of this process (on CUDA: of the device), in MB."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return machine.peak_memory_mb()


def fit(
    model: ReprogrammedModel,
    examples: Examples,
    training: Training | None = None,
    seed: int = 0,
    folder: Path | None = None,
    hooks: Sequence[Hook] = (),
) -> History:
    """Train from Python, without a run folder unless one is given."""
    import tempfile

    from reprogram.result import Result

    with tempfile.TemporaryDirectory() as temporary:
        run = Run(folder or Path(temporary), seed, Result("reprogram", seed))
        return (training or Training()).fit(model, examples, run, hooks)
