"""Several processes that train one program: ``accelerate launch train.py …``. One process needs nothing of this."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

from reprogram.errors import ConfigError


class Alone:
    """One process."""

    rank, world, main = 0, 1, True

    def sum_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Add up the gradients of all processes, in place."""

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """The value of rank 0."""
        return value


class Together(Alone):
    """Processes that ``accelerate launch`` started."""

    def __init__(self) -> None:
        try:
            from accelerate import PartialState
        except ImportError as error:
            raise ConfigError("Several processes need accelerate: pip install 'reprogram[accelerate]'.") from error
        state = PartialState(cpu=not torch.cuda.is_available())
        self.rank, self.world, self.main = state.process_index, state.num_processes, state.is_main_process

    def sum_gradients(self, parameters: list[nn.Parameter]) -> None:
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            torch.distributed.all_reduce(parameter.grad)

    def gather(self, value: Any) -> list[Any]:
        from accelerate.utils import gather_object

        return gather_object([value])

    def broadcast(self, value: Any) -> Any:
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]


def processes() -> Alone:
    """All processes of this run."""
    return Together() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Alone()
