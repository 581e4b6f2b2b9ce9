"""A transformers model's own preprocessing as differentiable torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Preprocessing:
    """What the model wants: its side in pixels, and (255 · pixels · ``scale`` + ``offset`` - ``mean``) / ``std``."""

    size: int
    scale: float
    offset: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, processor: dict[str, Any], default_size: int) -> Preprocessing:
        """From the content of ``preprocessor_config.json``."""
        size = processor.get("crop_size") if processor.get("do_center_crop") else processor.get("size")
        size = size if isinstance(size, dict) else {"height": size}
        normalises = processor.get("do_normalize", True)
        return cls(
            size=int(size.get("height") or size.get("shortest_edge") or default_size),
            scale=float(processor.get("rescale_factor", 1 / 255)) if processor.get("do_rescale", True) else 1.0,
            offset=-1.0 if processor.get("rescale_offset") else 0.0,
            mean=tuple(processor["image_mean"]) if normalises else (0.0,),
            std=tuple(processor["image_std"]) if normalises else (1.0,),
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        mean = pixels.new_tensor(self.mean).view(1, -1, 1, 1)
        std = pixels.new_tensor(self.std).view(1, -1, 1, 1)
        return (pixels * (255.0 * self.scale) + (self.offset - mean)) / std

    def fit(self, pixels: Tensor, smallest: int | None, multiple: int = 1) -> Tensor:
        """Images in a size that the model reads.

        ``smallest``: it reads every side from there on, in multiples of ``multiple``; None: only its own size.
        """
        height, width = pixels.shape[-2:]
        if smallest is None:
            wanted: tuple[int, ...] = (self.size, self.size)
        else:
            wanted = tuple(max(smallest, side) // multiple * multiple for side in (height, width))
        if wanted == (height, width):
            return pixels
        return F.interpolate(pixels, wanted, mode="bilinear", antialias=True, align_corners=False)
