"""What a frozen encoder-decoder of molecules must offer: SMILES to memory, memory to SMILES, and how likely that is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from reprogram.errors import ConfigError
from reprogram.interfaces import SourceModel


def checked_decoder(space: object) -> None:
    """Raises ConfigError where a space has no decoder, as that of routes."""
    if not hasattr(space, "decode"):
        needed = "this search needs a space that reads and writes molecules, as space=annalog"
        raise ConfigError(f"{needed}; this one is for search=routes.")


@dataclass
class Memory:
    """What the decoder looks at: ``states`` [B, L, d] and ``mask`` [B, L] (True where there is a token)."""

    states: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.states)

    def rows(self, index: Sequence[int] | np.ndarray | Tensor) -> Memory:
        """Memories by row; a row may be asked for many times."""
        index = torch.as_tensor(index, dtype=torch.long, device=self.states.device)
        return Memory(self.states[index], self.mask[index])

    def shifted(self, offset: Tensor) -> Memory:
        """The memory moved by ``offset`` ([d], [L, d] or [B, L, d])."""
        return Memory(self.states + offset, self.mask)

    def prompted(self, slots: Tensor) -> Memory:
        """A soft prompt in front of what the decoder looks at: ``slots`` [P, d] before every row."""
        front = slots.expand(len(self), *slots.shape)
        return Memory(torch.cat([front, self.states], dim=1), F.pad(self.mask, (len(slots), 0), value=True))


@dataclass
class Decoded:
    """B decoded strings: ``smiles`` (may be invalid; None where no end came in time) and ``log_probability`` [B]."""

    smiles: list[str | None]
    log_probability: Tensor


class Space(SourceModel):
    """A frozen encoder-decoder. As a :class:`SourceModel` it answers with features of its encoder."""

    width: int  # of the memory

    @abstractmethod
    def unreadable(self, smiles: str) -> str | None:
        """Why the encoder cannot read this molecule, or None when it can."""

    @abstractmethod
    def encode(self, smiles: Sequence[str]) -> Memory:
        """SMILES -> memory; raises DataError for a molecule that :meth:`unreadable` names."""

    @abstractmethod
    def decode(self, memory: Memory, temperature: float = 0.0, generator: torch.Generator | None = None) -> Decoded:
        """One string a memory row: greedy at temperature 0, else sampled with ``generator``."""

    @abstractmethod
    def log_probability(self, memory: Memory, smiles: Sequence[str]) -> Tensor:
        """[B] log p(smiles | memory), differentiable in the memory."""
