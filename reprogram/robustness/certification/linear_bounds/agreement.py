"""Is the recorded network the model? Compared at other points, in both precisions, alone and in a batch, again and again.

What a recording cannot see shows here: a model that answers at random or keeps state, branches on its input, mixes the
examples of a batch, changes its input in place, or answers otherwise when gradients are asked for.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from reprogram.robustness.certification.linear_bounds.recording import refusal

Model = Callable[[Tensor], Tensor]
POINTS = 8
EXACT = 1e-6  # largest difference in float64, as a share of the largest logit
CLOSE = 1e-4  # the same in the model's own precision
SMALL = 4096  # inputs of so many values are compared in a batch of 64 too
ROOM = 8.0  # the largest difference in the ball may be this many times the largest that was seen, or the unit of rounding


def rounding_room(found: Tensor, wanted: Tensor) -> float:
    """What any logit may be off by rounding: answers [N, T] in the model's precision against those in float64.

    At least some units of rounding: a few points may agree by luck, and so may one of the logits.
    """
    unit = torch.finfo(found.dtype).eps * float(wanted.abs().max())
    return ROOM * max(_gap(found, wanted), unit)


def _gap(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).abs().max())


class Agreement:
    """``model`` as it is; ``compare`` may be called for several balls. ``holder``: the module inside a plain function."""

    def __init__(self, model: Model, holder: Model | None = None) -> None:
        self.module = model if isinstance(model, nn.Module) else None
        self.model, self.holder = model, holder

    @torch.no_grad()
    def compare(self, recorded: Model, low: Tensor, high: Tensor, quick: bool = False) -> float:
        """Room for rounding; ``recorded`` answers [1, T] to [1, ...] in float64. Raises NotBounded."""
        points = _points(low, high, POINTS // 2 if quick else POINTS)
        wanted = torch.cat([recorded(x) for x in points])
        scale = float(wanted.abs().max()) + 1e-30
        if not torch.isfinite(wanted).all():
            raise refusal("the model", "it answers with values that are not finite")
        exact = self._alone(self.exact, points)
        if not (gap := _gap(exact, wanted)) <= EXACT * scale:
            raise refusal("the model", f"it computes something else at other inputs ({gap:.2g} off)")
        room = rounding_room(exact, wanted)
        for found in self._as_it_is(points, quick):
            if not (gap := _gap(found, wanted)) <= CLOSE * scale:
                raise refusal("the model", f"in batches, again or in its own precision it answers {gap:.2g} otherwise")
            room = max(room, rounding_room(found, wanted))
        return room

    @cached_property
    def exact(self) -> Model:
        """The model in float64, where it can be converted."""
        return self.model if self.module is None else copy.deepcopy(self.module).double()

    @cached_property
    def own(self) -> Model:
        if self.module is None or _precision(self.module) == torch.float64:
            return self.exact
        return copy.deepcopy(self.module)

    def _alone(self, model: Model, points: list[Tensor]) -> Tensor:
        """Each point by itself, the first again at the end. Refuses models that keep state."""
        answers = [_asked(model, x) for x in points]
        holder = model if self.holder is None else self.holder
        before = _state(holder)
        again = _asked(model, points[0])
        if not torch.equal(again, answers[0]):
            raise refusal("the model", "it answers the same input twice in different ways")
        changed = _difference(before, _state(holder))
        if changed is not None:
            raise refusal("the model", f"a pass changes {changed}, so its answers may depend on what was asked before")
        return torch.cat(answers)

    def _as_it_is(self, points: list[Tensor], quick: bool) -> list[Tensor]:
        """All points as one batch, in the model's own precision: plain, in another layout, and with gradients."""
        precision = torch.float64 if self.module is None else _precision(self.module)
        batch = torch.cat(points).to(precision)
        tries = [(batch, True)] if quick else [(batch, True), (batch, False)]
        if batch.ndim == 4 and not quick:
            tries.append((batch.contiguous(memory_format=torch.channels_last), True))
        if not quick and batch[0].numel() <= SMALL:
            tries.append((batch.repeat(8, *[1] * (batch.ndim - 1)), True))  # the batches that attacks ask in
        found = [self._batched(self.own, x, gradient) for x, gradient in tries]
        return [part for answers in found if answers is not None for part in answers.split(len(points))]

    def _batched(self, model: Model, batch: Tensor, gradient: bool) -> Tensor | None:
        """None where the model takes one input at a time: nobody can ask it for a batch either."""
        try:
            with torch.set_grad_enabled(gradient):
                answers = model(batch.clone().requires_grad_(gradient)).detach()
        except (RuntimeError, ValueError):
            return None
        if answers.ndim != 2 or len(answers) != len(batch):
            raise refusal("the model", f"it answers {list(answers.shape)} to a batch of {len(batch)}")
        return answers


def _points(low: Tensor, high: Tensor, count: int) -> list[Tensor]:
    """Two corners, random points and random corners between, each [1, ...]."""
    drawn = torch.Generator().manual_seed(1)
    shares = [torch.full_like(low, s) for s in (0.0, 1.0)]
    while len(shares) < count:
        share = torch.rand(low.shape, generator=drawn, dtype=torch.float64).to(low)
        shares.append(share.round() if len(shares) % 2 else share)
    return [(low + share * (high - low)).double() for share in shares]


def _asked(model: Model, x: Tensor) -> Tensor:
    given = x.clone()
    try:
        answer = model(given)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise refusal("the model", f"it fails at other inputs ({str(error).splitlines()[0][:100]})") from error
    if not torch.equal(given, x):
        raise refusal("the model", "it changes its input in place")
    return answer.detach().double()


def _precision(module: nn.Module) -> torch.dtype:
    floats = (t.dtype for t in (*module.parameters(), *module.buffers()) if t.is_floating_point())
    return next(floats, torch.float32)


def _state(model: Model) -> dict[str, Any]:
    """What a module remembers: tensors and plain values of each of its submodules, copied."""
    if not isinstance(model, nn.Module):
        return {}
    return {
        f"{name}.{key}".lstrip("."): kept
        for name, module in model.named_modules()
        for key, value in {**vars(module), **module._parameters, **module._buffers}.items()
        if (kept := _kept(value)) is not None
    }


def _kept(value: Any) -> Any:
    """A copy that can be compared; None for objects of other kinds."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, bool | int | float | complex | str):
        return value
    if isinstance(value, list | tuple | set | deque):
        return [_kept(entry) for entry in value]
    if isinstance(value, dict):
        return [(repr(key), _kept(entry)) for key, entry in value.items() if not isinstance(key, nn.Module)]
    return None


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """The first name that is new or whose value is another."""
    changed = (name for name, value in after.items() if name not in before or not _alike(before[name], value))
    return next(map(repr, changed), None)


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    return type(one) is type(other) and (one == other or one != one)
