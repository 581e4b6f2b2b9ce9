"""Signals of sensors, hearts, motions and sounds: [C, L] samples, read by a vision model as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.modalities.base import Candidate, Config, Modality, Named

PICTURES = ("line_plot", "gramian", "recurrence", "spectrogram")
SOUNDS = ("mel_spectrogram", "mel_changes")
# plain features: weight against 1 for all pictures
OF_SIGNALS = {"convolutions": 1.0, "proportions": 1.0, "rocket": 1.0, "raw": 0.5}
# of a short signal the counts of a convolution take few values, and its samples are few enough to weigh each: from 128 samples
# down the raw signal counts for twice as much and more
SHORT = 128
# of sounds the weights are kept as they are: labels of few voices say nothing of how much each is worth with others
OF_SOUNDS = {"log_mel": 1.0, "log_mel_changes": 0.5, "mel_convolutions": 0.5, "cepstral_convolutions": 0.5, "tone_patterns": 2.5}
SLOWEST_SOUND = 4000  # samples a second from which a signal is one that is heard
POINTS = 240  # of a line that is shown to a person
INKS = ("#1f5fa8", "#c2571a", "#2b8a4b", "#8a2b7c", "#7a6a1f", "#444")
MOST_SAMPLES, MOST_CHANNELS, MOST_RATE = 10_000_000, 1024, 1_000_000


def of_signals(target: TargetInfo) -> Config:
    """Weights of the plain features of signals, against 1 for all pictures."""
    longest = target.input_shape[2] if target.input_shape else SHORT
    return OF_SIGNALS | {"raw": OF_SIGNALS["raw"] * (1 + SHORT / longest)}


class Series(Modality):
    """Several pictures of one signal, and the signal itself and random convolutions of it beside: a hybrid.

    A batch is float [B, C, L], NaN where a value is missing or a shorter signal has ended, or a list of signals [C, l].
    ``TargetInfo.input_shape``: (channels, samples a second or 1 where nobody said, samples of the longest).
    """

    batch: ClassVar[str] = "series"
    plain_input: ClassVar[str] = "line_plot"

    def candidates(
        self, spec: SourceSpec, target: TargetInfo, source: int = 0, hints: Mapping[str, Any] | None = None
    ) -> list[Candidate]:
        """The hybrid alone: its weights say what to read, and less than that is a hybrid with weights of 0. Few labels cannot
        tell programs apart better than they tell weights, which are held near what was good on other targets. Models that show
        no layers, as those do that are paid by the query, have one picture as a cheaper program beside."""
        sound = target.input_shape is not None and target.input_shape[1] >= SLOWEST_SOUND
        pictures = SOUNDS if sound else PICTURES
        beside = OF_SOUNDS if sound else of_signals(target)
        hybrid: Config = {"side": list(beside.values())} | ({"weigh": "equal"} if sound else {})
        name, tags = "all pictures and the plain signal", ("preferred",)
        found = [self.reading(name, pictures, tuple(beside), ("grouped_ridge", hybrid), source, tags)]
        if not spec.taps:
            found.append(self.reading(pictures[0].replace("_", " "), pictures[:1], (), ("ridge_taps", {}), source))
        return found

    def reading(
        self,
        name: str,
        pictures: Sequence[str],
        features: Sequence[str],
        output: Named,
        source: int,
        tags: tuple[str, ...] = (),
    ) -> Candidate:
        """A program that reads these pictures; its passes are shared with others that read one of them. Plain features are
        read once, with the first."""
        beside = [list(features), *([] for _ in pictures[1:])]
        atoms = tuple(
            ("signal_views", {"pictures": [picture], "features": read}) for picture, read in zip(pictures, beside, strict=True)
        )
        whole: Named = ("signal_views", {"pictures": list(pictures), "features": list(features)})
        return Candidate(name, whole, output, atoms, source=source, tags=tags)

    def shape_problem(self, shape: Sequence[Any]) -> str:
        whole = len(shape) == 3 and all(type(size) is int and size > 0 for size in shape)
        if whole and shape[0] <= MOST_CHANNELS and shape[1] <= MOST_RATE and shape[2] <= MOST_SAMPLES:
            return ""
        return "[channels, samples a second, samples]"

    def shown(self, item: Any, side: int = 224) -> str:
        """Lines in the page, one colour a channel."""
        signal = np.asarray(item, dtype=float).reshape(-1, np.shape(item)[-1])
        low, high = np.nanmin(signal, initial=np.inf), np.nanmax(signal, initial=-np.inf)
        height = side // 2
        lines = []
        for ink, channel in zip(INKS, signal, strict=False):
            known = np.flatnonzero(np.isfinite(channel))
            picked = known[np.unique(np.linspace(0, max(len(known) - 1, 0), POINTS).round().astype(int))] if len(known) else known
            across = picked / max(signal.shape[1] - 1, 1) * (side - 2) + 1
            down = height - 1 - (channel[picked] - low) / max(high - low, 1e-12) * (height - 2)
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
            lines.append(f'<polyline fill="none" stroke="{ink}" points="{points}"/>')
        return f'<svg viewBox="0 0 {side} {height}" width="{side}" height="{height}" role="img">{"".join(lines)}</svg>'
