"""Images: float pixels in [0, 1], read by a vision model at one or several sizes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.modalities.base import Candidate, Config, Modality, Named

DEPTHS = ((5 / 16, "4"), (8 / 16, "4"), (11 / 16, "4"), (15 / 16, "2"), (1.0, "2"))  # of the layers, and their grids
PROMPT_SIDE = 96  # pixels at which a trained prompt is tried
HARD_PIXELS = 64  # smaller images are shown with hard pixels


class Image(Modality):
    """Several layers at several sizes; drawings profit from early layers, photographs from late ones."""

    batch: ClassVar[str] = "images"
    pixels: ClassVar[bool] = True
    plain_input: ClassVar[str] = "none"
    normalise: ClassVar[str] = "l2"
    prompts: ClassVar[tuple[Named, ...]] = (("low_rank", {"size": PROMPT_SIDE}), ("full", {"size": PROMPT_SIDE}))
    changes: ClassVar[str | None] = "pixels"
    simplifies: ClassVar[bool] = True

    def default_layers(self, spec: SourceSpec) -> tuple[str, ...]:
        """The ends of the later stages on 4x4 and 2x2 grids."""
        layers = [name for name in spec.taps if name != "head"]
        if not layers:
            return ()
        picked = {layers[max(round(depth * len(layers)) - 1, 0)]: grid for depth, grid in DEPTHS}
        return tuple(f"{layer}@{grid}" for layer, grid in picked.items())

    def candidates(
        self, spec: SourceSpec, target: TargetInfo, source: int = 0, hints: Mapping[str, Any] | None = None
    ) -> list[Candidate]:
        photographs = (hints or {}).get("photographs")
        if photographs is None:
            photographs = target.input_shape is not None and target.input_shape[0] == 3
        return _Listing(spec, target, photographs, source).all()

    def pool_view(self, spec: SourceSpec, photographs: bool) -> tuple[Named, int]:
        return ("views", {"sizes": [_side(spec.size, 0.57)], "flip": photographs}), 2 if photographs else 1

    def variants(self, item: Any, count: int, seed: int) -> list[Any]:
        """Moved by up to 4% of its side, the border repeated, with noise of 0.02. item: float [C, H, W] in [0, 1]."""
        import numpy as np

        rng, (height, width) = np.random.default_rng(seed), item.shape[1:]
        most = max(1, round(0.04 * min(height, width)))
        padded = np.pad(item, ((0, 0), (most, most), (most, most)), "edge")
        copies = []
        for top, left in rng.integers(0, 2 * most + 1, (count, 2)):
            moved = padded[:, top : top + height, left : left + width]
            copies.append(np.clip(moved + rng.normal(0, 0.02, item.shape), 0, 1).astype(np.float32))
        return copies

    def simplified(self, item: Any) -> dict[str, list[Any]]:
        """Sixteen values a channel, the median of 2 x 2 pixels, a slight blur (Xu et al. 2018), JPEG, moved by a pixel."""
        import numpy as np
        from scipy.ndimage import gaussian_filter, median_filter

        moved = np.pad(item, ((0, 0), (1, 0), (1, 0)), "edge")[:, :-1, :-1]
        return {
            "values": [np.rint(item * 15).astype(np.float32) / 15],
            "median": [median_filter(item, (1, 2, 2), mode="nearest")],
            "blur": [gaussian_filter(item, (0, 0.7, 0.7), mode="nearest")],
            "jpeg": [_as_jpeg(item)],
            "moved": [np.ascontiguousarray(moved)],
        }

    def shown(self, item: Any, side: int = 224) -> str:
        """A picture inside the page, whole and upright."""
        picture = _picture(item)
        small = max(picture.size) <= HARD_PIXELS
        picture.thumbnail((side, side))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG" if small else "JPEG", quality=85)
        data = base64.b64encode(buffer.getvalue()).decode()
        kind, how = ("png", ' class="hard"') if small else ("jpeg", "")
        return f'<img{how} alt="" src="data:image/{kind};base64,{data}">'


class _Listing:
    """The candidates of one source and target."""

    def __init__(self, spec: SourceSpec, target: TargetInfo, photographs: bool, source: int) -> None:
        self.spec, self.target, self.photographs, self.source = spec, target, photographs, source
        self.full = spec.size
        self.small = tuple(sorted({_side(self.full, share) for share in (0.43, 0.57)}))  # 96 and 128 of 224
        self.several = (*self.small, _side(self.full, 0.72))

    def all(self) -> list[Candidate]:
        spec, full, small, several = self.spec, self.full, self.small, self.several
        labels = self.target.problem == "classification" and spec.answers != "none" and len(spec.labels) > 0
        taps = [tap for tap in spec.taps if tap != "head"]
        found = []
        if labels:
            found.append(self.program("label map, 1 scale", small[-1:], ("top_k", {})))
        if spec.feature_size:
            found.append(self.program("linear probe", (full,), ("linear_features", {}), kind="baseline"))
            found.append(self.program("features, ridge", small[-1:], ("ridge_taps", _features(spec))))
        if taps:
            late = ("ridge_taps", self.late(taps))
            found.append(self.program("layers, full size", (full,), ("ridge_taps", {})))
            found.append(self.program("late layers, 1 scale", (several[-1],), late, flip=self.photographs))
            found.append(self.program("layers, 3 scales", several, ("ridge_taps", {})))
            found.append(self.program("late layers, all scales", (*several, full), late, flip=self.photographs))
        if spec.feature_size:
            head = _features(spec) | {"average": 2 if self.photographs else 1}
            scales = (*several, full)
            found.append(self.program("features, all scales", scales, ("ridge_taps", head), flip=self.photographs))
        if labels and not spec.feature_size:
            found += self.answers()
        elif labels:
            scales = (*several, full)
            found.append(self.program("label map, all scales", scales, ("top_k", {}), flip=self.photographs))
        return found

    def answers(self) -> list[Candidate]:
        """A query-only model shows its answers and nothing else: one query an image and view, few views first, so that
        a small budget ends between two candidates. Drawings are also shown inverted, photographs also mirrored."""
        ridge: Named = ("ridge_taps", {})
        small, quarter = self.several[:-1], _side(self.full, 0.29)
        few = (quarter, *self.several, self.full) if self.photographs else (quarter, *small)
        many = few if self.photographs else (quarter, *self.several)
        drawing = not self.photographs
        return [
            self.program("answers, ridge", small[-1:], ridge),
            self.program("answers, ridge, 2 scales", small, ridge),
            self.program("answers, ridge, few views", few, ridge, invert=drawing),
            self.program("answers, ridge, many views", many, ridge, flip=self.photographs, invert=drawing),
            self.program("label map, many views", many, ("top_k", {}), flip=self.photographs, invert=drawing),
        ]

    def late(self, taps: Sequence[str]) -> Config:
        """The last stages on 2x2 grids, and the pooled features."""
        depth = len(taps)
        layers = [f"{taps[max(0, round(depth * share) - 1)]}@2" for share in (10 / 16, 14 / 16, 15 / 16)]
        return {"layers": list(dict.fromkeys(layers)), "average": 2 if self.photographs else 1}

    def program(
        self,
        name: str,
        sizes: tuple[int, ...],
        output: Named,
        flip: bool = False,
        invert: bool = False,
        kind: str = "program",
    ) -> Candidate:
        sizes = tuple(dict.fromkeys(sizes))
        shared = {"flip": flip} | ({"invert": True} if invert else {})
        atoms = tuple(("views", {"sizes": [size]} | shared) for size in sizes)
        return Candidate(name, ("views", {"sizes": list(sizes)} | shared), output, atoms, kind, self.source)


def _picture(item: Any) -> Any:
    """Pixels [C, H, W], uint8 or float in [0, 1], as a picture of 8 bits."""
    import numpy as np
    from PIL import Image as Pictures

    pixels = np.asarray(item)
    if pixels.dtype != np.uint8:
        pixels = np.clip(np.rint(pixels.astype(float) * 255), 0, 255).astype(np.uint8)
    return Pictures.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)[..., :3])


def _as_jpeg(pixels: Any) -> Any:
    """Float [C, H, W] in [0, 1] as JPEG of quality 75 keeps it."""
    import numpy as np
    from PIL import Image as Pictures

    parts = [pixels] if len(pixels) in (1, 3) else [channel[None] for channel in pixels]
    kept = []
    for part in parts:
        buffer = io.BytesIO()
        _picture(part).save(buffer, "JPEG", quality=75)
        read = np.asarray(Pictures.open(buffer), np.float32) / 255
        kept.append(read[None] if read.ndim == 2 else read.transpose(2, 0, 1))
    return np.ascontiguousarray(np.concatenate(kept))


def _side(full: int, share: float) -> int:
    """A share of the source's own size, on the grid of 32 pixels that convolutional networks halve to."""
    return max(32, round(full * share / 32) * 32)


def _features(spec: SourceSpec) -> Config:
    """The pooled features and little else: where they are no layer of their own, the last layer's mean beside them."""
    layer = "head" if "head" in spec.taps else spec.taps[-1] if spec.taps else None
    return {"layers": [f"{layer}@1"] if layer else [], "head": layer != "head"}
