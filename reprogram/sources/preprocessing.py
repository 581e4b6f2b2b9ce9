"""A transformers model's own preprocessing as differentiable torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from reprogram.pixels import resize

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # also what timm takes where nothing is said
SAME = 1e-4  # between our normalised values and those of the model's own processor


@dataclass(frozen=True)
class Preprocessing:
    """What the model wants: its side in pixels, and (255 · pixels · ``scale`` + ``offset`` - ``mean``) / ``std``.

    flip: the channels are wanted in the other order (blue first). notes: what had to be guessed, a sentence each.
    """

    size: int
    scale: float
    offset: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool = False
    notes: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, processor: Mapping[str, Any], default_size: int) -> Preprocessing:
        """From the values of a processor, as in ``preprocessor_config.json``."""
        size = processor.get("crop_size") if processor.get("do_center_crop") else processor.get("size")
        size = size if isinstance(size, Mapping) else {"height": size}
        normalises = processor.get("do_normalize", True)
        notes: tuple[str, ...] = ()
        mean: Any = processor.get("image_mean")
        std: Any = processor.get("image_std")
        if normalises and (mean is None or std is None):
            mean, std = IMAGENET_MEAN, IMAGENET_STD
            notes = (
                "The source's files do not define how pixels are normalised; ImageNet's mean and standard deviation are "
                "used. Give source.mean and source.std if it was trained with others.",
            )
        factor = processor.get("rescale_factor")
        return cls(
            size=int(size.get("height") or size.get("shortest_edge") or default_size),
            scale=(1 / 255 if factor is None else float(factor)) if processor.get("do_rescale", True) else 1.0,
            offset=-1.0 if processor.get("rescale_offset") else 0.0,
            mean=_numbers(mean) if normalises else (0.0,),
            std=_numbers(std) if normalises else (1.0,),
            flip=bool(processor.get("do_flip_channel_order")),
            notes=notes,
        )

    def to_processor(self) -> dict[str, Any]:
        """The values as ``preprocessor_config.json`` has them, so that :meth:`of` gives the same again."""
        return {
            "do_resize": True,
            "size": {"height": self.size, "width": self.size},
            "do_rescale": True,
            "rescale_factor": self.scale,
            "rescale_offset": self.offset == -1.0,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "do_flip_channel_order": self.flip,
        }

    @classmethod
    def of_timm(cls, settings: Mapping[str, Any], default_size: int) -> Preprocessing:
        """From timm's ``pretrained_cfg``, with timm's defaults (``timm.data.resolve_data_config``)."""
        size = settings.get("input_size") or (3, default_size, default_size)
        mean, std = settings.get("mean") or IMAGENET_MEAN, settings.get("std") or IMAGENET_STD
        return cls(int(size[-1]), 1 / 255, 0.0, _numbers(mean), _numbers(std))

    def as_measured(self, processor: Callable[[np.ndarray], np.ndarray], channels: int) -> Preprocessing:
        """The same with the numbers that ``processor`` really uses, where they are others than its values say.

        processor: uint8 [H, W, C] -> float [C, H, W], without resizing. Black and one image of each full channel tell
        everything about a function that scales and shifts channels and may put them in another order.
        """
        black = processor(np.zeros((8, 8, channels), np.uint8))[:, 0, 0]
        full = np.zeros((channels, channels))
        for channel in range(channels):
            image = np.zeros((8, 8, channels), np.uint8)
            image[..., channel] = 255
            full[channel] = processor(image)[:, 0, 0] - black
        flip = channels > 1 and not np.allclose(full, np.diag(np.diag(full)), atol=SAME)
        gain = np.diag(full[:, ::-1] if flip else full)
        if not (gain != 0).all() or (flip and not np.allclose(full[:, ::-1], np.diag(gain), atol=SAME)):
            return self  # not a scaling of channels: the values are all that is known
        gain = gain[::-1] if flip else gain  # in the order of the output
        ours = [(255 * self.scale, self.offset - m, s) for m, s in zip(*self._wide(channels), strict=True)]
        same = [abs(scale / s - g) < SAME and abs(shift / s - b) < SAME for (scale, shift, s), g, b in zip(ours, gain, black)]
        if all(same):
            return replace(self, flip=flip)
        std = tuple(float(1 / g) for g in gain)
        return replace(
            self, scale=1 / 255, offset=0.0, mean=tuple(float(0.0 - b * s) for b, s in zip(black, std)), std=std, flip=flip
        )

    def _wide(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return tuple(v * channels if len(v) == 1 else v for v in (self.mean, self.std))  # type: ignore[return-value]

    def settings(self) -> dict[str, Any]:
        """What changes answers, as JSON values."""
        names = ("size", "scale", "offset", "mean", "std", "flip")
        return {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in names}

    def __call__(self, pixels: Tensor) -> Tensor:
        mean = pixels.new_tensor(self.mean).view(1, -1, 1, 1)
        std = pixels.new_tensor(self.std).view(1, -1, 1, 1)
        pixels = pixels.flip(1) if self.flip else pixels
        return (pixels * (255.0 * self.scale) + (self.offset - mean)) / std

    def fit(self, pixels: Tensor, smallest: int | None, multiple: int = 1) -> Tensor:
        """Images in a size that the model reads.

        ``smallest``: it reads every side from there on, in multiples of ``multiple``; None: only its own size.
        """
        height, width = pixels.shape[-2:]
        if smallest is None or height == width == self.size >= smallest:
            wanted = (self.size, self.size)
        else:
            wanted = (max(smallest, height) // multiple * multiple, max(smallest, width) // multiple * multiple)
        return resize(pixels, wanted)


def _numbers(values: float | Sequence[float]) -> tuple[float, ...]:
    """One number for all channels, or one for each."""
    return tuple(map(float, values)) if isinstance(values, Sequence) else (float(values),)
