"""A small white L in a corner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from reprogram.backdoor.triggers.base import Trigger
from reprogram.errors import ConfigError
from reprogram.ranges import Range, Side


@dataclass
class LShape(Trigger):
    """side: of both arms in pixels. corner: 0 to 3, clockwise from the top left; the arms lie one pixel from the border."""

    side: Side = 3
    corner: Annotated[int, Range(0, 3)] = 2

    def apply(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if self.side + 1 > min(height, width):
            raise ConfigError(
                f"trigger.side={self.side} does not fit: images are {height} x {width}, "
                f"allowed: 1 to {min(height, width) - 1}."
            )
        turned = images.rot90(self.corner, (2, 3)).clone()  # so that the arms always run from the top left
        turned[..., 1, 1 : 1 + self.side] = 1
        turned[..., 1 : 1 + self.side, 1] = 1
        return turned.rot90(-self.corner, (2, 3))
