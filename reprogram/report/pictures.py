"""Images for people: the learned program as a picture, and examples before and after it."""

from __future__ import annotations

import io

import numpy as np
import torch
from torch import Tensor

from reprogram.interfaces import Examples
from reprogram.modalities import modality
from reprogram.model import ReprogrammedModel

SIDE = 144  # pixels of a shown image


def png(image: Tensor, side: int = SIDE) -> bytes:
    """[C, h, w] in [0, 1] -> PNG; small images keep hard pixels."""
    from PIL import Image

    pixels = (image.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    array = pixels.permute(1, 2, 0).numpy()
    picture = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array[..., :3])
    way = Image.Resampling.NEAREST if max(array.shape[:2]) < side else Image.Resampling.LANCZOS
    buffer = io.BytesIO()
    picture.resize((side, side), way).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def beside(left: Tensor, right: Tensor, side: int = SIDE) -> bytes:
    """Two images in one PNG: before and after."""
    from PIL import Image

    sheet = Image.new("RGB", (2 * side + 6, side), "white")
    for place, image in ((0, left), (side + 6, right)):
        sheet.paste(Image.open(io.BytesIO(png(image, side))), (place, 0))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


@torch.no_grad()
def views(model: ReprogrammedModel, examples: Examples, rows: np.ndarray) -> tuple[Tensor, list[Tensor]]:
    """Target images [n, C, H, W] and what the source reads for them, one [n, 3, h, w] a view."""
    batch = examples.batch(rows)
    return batch, [view.detach().cpu() for view in model.input(batch.to(model.device))]


@torch.no_grad()
def prompt(model: ReprogrammedModel) -> list[tuple[Tensor, float]]:
    """What the source reads for a plain grey image, one ([3, h, w], contrast) a view; empty without a prompt.

    Works for every method. A faint prompt is shown with more contrast, up to eight times.
    """
    shape = model.target.input_shape
    if model.input.trainable() == 0 or not modality(model.target.kind).pixels or shape is None:
        return []
    shown = []
    for view in model.input(torch.full((1, *shape), 0.5, device=model.device)):
        change = view[0].cpu() - 0.5
        contrast = min(0.5 / max(float(change.abs().max()), 1e-6), 8.0)
        shown.append((0.5 + change * contrast, contrast))
    return shown


def chosen_examples(labels: np.ndarray, answers: np.ndarray, confidence: np.ndarray, most: int = 8) -> np.ndarray:
    """Rows to show: for right answers one a class in order, then the most confident mistakes, half of each."""
    right, wrong = np.flatnonzero(answers == labels), np.flatnonzero(answers != labels)
    one_each = [int(right[labels[right] == c][0]) for c in np.unique(labels[right])]
    mistakes = wrong[np.argsort(-confidence[wrong], kind="stable")][: most // 2]
    return np.array([*one_each[: most - len(mistakes)], *mistakes], dtype=int)
