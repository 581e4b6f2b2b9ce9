"""A linear head on cached source outputs, to its optimum: convex, so no step size and no epochs to choose."""

from __future__ import annotations

import torch
from torch import Tensor

from reprogram.interfaces import OutputMapping, SourceOutput
from reprogram.training.base import loss_for


def fit_head(
    output: OutputMapping,
    outputs: list[SourceOutput],
    labels: Tensor,
    problem: str,
    seed: int = 0,
    penalty: float = 1.0,
    steps: int = 100,
) -> None:
    """L-BFGS on the loss of ``problem`` plus ``penalty`` / (2 N) · |weights|² (scikit-learn's C = 1 / penalty)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parameters = [p for p in output.parameters() if p.requires_grad]
        loss_function = loss_for(problem)
        solver = torch.optim.LBFGS(parameters, max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            solver.zero_grad()
            loss = loss_function(output(outputs), labels)
            loss = loss + penalty / (2 * len(labels)) * sum(
                (p.square().sum() for p in parameters if p.ndim > 1), start=torch.zeros(())
            )
            loss.backward()
            return loss

        solver.step(closure)  # type: ignore[no-untyped-call]
