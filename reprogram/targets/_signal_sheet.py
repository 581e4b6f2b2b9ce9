"""A picture for the report: test signals, and beside each what the source reads of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CELL, GAP, CHANNELS = 128, 6, 6  # pixels of a picture, between them; channels that are drawn
INKS = ((31, 95, 168), (194, 87, 26), (43, 138, 75), (138, 43, 124), (122, 106, 31), (68, 68, 68))


@torch.no_grad()
def sheet(signals: Tensor, model: nn.Module) -> bytes:
    """PNG: one row a signal [C, L], drawn in its own range, then each view of it."""
    from PIL import Image

    made: Any = model
    views = [view.detach().cpu().clamp(0, 1) for view in made.input(signals.to(made.device))]
    page = Image.new("RGB", ((CELL + GAP) * (2 + len(views)), (CELL + GAP) * len(signals)), "white")
    for row, signal in enumerate(signals.cpu().numpy()):
        page.paste(drawn(signal, 2 * CELL, CELL), (0, row * (CELL + GAP)))
        for place, view in enumerate(views):
            pixels = (view[row] * 255).round().byte().permute(1, 2, 0).numpy()
            picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :3])
            page.paste(picture.resize((CELL, CELL)), ((2 + place) * (CELL + GAP), row * (CELL + GAP)))
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def drawn(signal: np.ndarray, width: int, height: int) -> Any:
    """A line a channel of [C, L], all in one range; a missing value leaves a gap."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    known = signal[np.isfinite(signal)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    last = int(np.flatnonzero(np.isfinite(signal).any(0)).max(initial=1))
    for ink, channel in zip(INKS[:CHANNELS], signal, strict=False):
        for run in _runs(channel):
            across = run / max(last, 1) * (width - 5) + 2
            down = height - 3 - (channel[run] - low) / max(high - low, 1e-12) * (height - 6)
            points = list(zip(across.tolist(), down.tolist(), strict=True))
            pen.line(points if len(points) > 1 else [*points, *points], fill=ink)
    return picture


def _runs(channel: np.ndarray) -> Sequence[np.ndarray]:
    """Places of values that follow each other without a gap."""
    places = np.flatnonzero(np.isfinite(channel))
    return [run for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(run)]
