"""Any callable as a classifier that attacks can work on: images in, one tensor of logits out, whatever the model answers.

What is unusual about an answer (a tuple, half or double precision, an input changed in place, logits so large that the
cross-entropy is exactly zero) is evened out here, so that no attack fails on it or is made weak by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError
from reprogram.robustness.losses import margin

LARGE_MARGIN = 30.0  # logits further apart leave the cross-entropy and its gradient at 0 in float32
USUAL_MARGIN = 5.0  # the median margin after large logits are scaled down


class Classifier:
    """images [N, C, H, W] in [0, 1], float32 -> logits [N, T], float32 and of moderate size.

    model: any callable. Its answer may be a tensor, a tuple or list that starts with one, a mapping with ``logits``, or
    an object that has them. scale: logits are divided by it; no answer and no order of classes changes.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.copies, self.logarithm, self.scale = False, False, 1.0
        parameters = model.parameters() if isinstance(model, nn.Module) else ()
        self.dtype = next((p.dtype for p in parameters if p.is_floating_point()), torch.float32)

    def __call__(self, images: Tensor) -> Tensor:
        logits = self.raw(images)
        if self.logarithm:
            logits = logits.clamp(min=1e-12).log()
        return logits if self.scale == 1 else logits / self.scale

    def raw(self, images: Tensor) -> Tensor:
        """The model's own answers as one float32 tensor."""
        x = images.to(self.dtype) if images.dtype != self.dtype else images
        return _tensor(self.model(x.clone() if self.copies else x)).float()

    def look(self, images: Tensor, batch_size: int) -> Tensor:
        """The raw answers [N, T] to all images. Raises ConfigError, with what the model said, where it cannot be asked."""
        first = images[:batch_size].clone()
        try:
            with torch.no_grad():
                before = first._version
                self.raw(first)
                self.copies = first._version != before  # even if no value changed: autograd refuses such an input
                return torch.cat([self.raw(part) for part in images.split(batch_size)])
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ConfigError(
                f"The model failed on images {list(first.shape)}: {reason}. "
                "Robustness checks give it float32 images [N, C, H, W] in [0, 1] and expect logits [N, T]; "
                "wrap a model that reads another layout, such as [N, H, W, C], in a function that turns them."
            ) from error

    def even(self, raw: Tensor, labels: Tensor) -> bool:
        """Scale large logits down; True if it was needed. ``raw`` [N, T]: the answers, after the logarithm if any."""
        typical = float(margin(raw, labels).abs().nanmedian())
        if not LARGE_MARGIN < typical < float("inf"):
            return False
        self.scale = typical / USUAL_MARGIN
        return True


def _tensor(answer: Any) -> Tensor:
    """The logits in what a model answered."""
    found = answer
    if isinstance(found, Mapping):
        found = found.get("logits", next(iter(found.values()), None))
    elif isinstance(getattr(found, "logits", None), Tensor):
        found = found.logits
    elif isinstance(found, tuple | list) and found:
        found = found[0]
    if not isinstance(found, Tensor):
        raise ConfigError(
            f"Robustness checks need logits as a tensor [N, T]; this model answers {type(answer).__name__}. "
            "Wrap it in a function that returns its logits."
        )
    return found
