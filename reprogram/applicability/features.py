"""Any input as the frozen model sees it: the direction of its features (Sun et al. 2022, arXiv 2204.06507)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from reprogram.applicability.base import Measure
from reprogram.interfaces import SourceOutput

WIDEST = 256  # numbers kept of an example


@dataclass
class FeatureSketches(Measure):
    """Pooled features (else the layers that the program reads, else the answers) of all views, each of length 1, averaged;
    beyond 256 numbers their random projection (Achlioptas 2003), whose seed is fixed. Compared by cosine."""

    similarity: ClassVar[str] = "cosine"
    reads_outputs: ClassVar[bool] = True
    kept_as: ClassVar[torch.dtype] = torch.float16

    def sketch(self, batch: Any, outputs: list[SourceOutput]) -> np.ndarray:
        with torch.no_grad():
            views = [F.normalize(_read(output).float().cpu(), dim=1) for output in outputs]
            alike = [view for view in views if view.shape == views[0].shape]
            rows = torch.stack(alike).mean(0)
            if rows.shape[1] > WIDEST:
                rows = rows @ projection(rows.shape[1])
            return F.normalize(rows, dim=1).half().numpy()

    def alike(self, rows: np.ndarray, known: np.ndarray) -> np.ndarray:
        a, b = (_unit(part.astype(np.float32)) for part in (rows, known))
        return np.minimum(a @ b.T, 1.0)


def _read(output: SourceOutput) -> Tensor:
    if output.features is not None and output.features.shape[1]:
        return output.features
    taps = [value for tap, value in output.taps.items() if tap.pooling != "side"]
    return torch.cat([F.normalize(tap.float(), dim=1) for tap in taps], 1) if taps else output.logits


@lru_cache(maxsize=4)
def projection(width: int) -> Tensor:
    """[width, 256] of signs; numpy promises RandomState's stream for ever."""
    signs = np.random.RandomState(0).randint(0, 2, (width, WIDEST)) * 2 - 1
    return torch.from_numpy(signs.astype(np.float32) / WIDEST**0.5)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
