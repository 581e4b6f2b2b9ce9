"""A source model of this project as a black box: it can be asked, counted and cached like a service, with no server.

For trying a black-box run before paying for one, and for seeing what rounding, noise or a label-only service cost.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
import torch

from reprogram.errors import ConfigError
from reprogram.interfaces import SourceModel
from reprogram.ledger import content_key
from reprogram.ranges import Count, NotNegative, Range
from reprogram.sources._asked import AskedSource


class BlackBoxSource(AskedSource):
    """source: the model that is asked. ``answers``, ``decimals``: what it gives away (see :class:`AskedSource`).

    top: how many classes ``answers=top_k`` names. noise: standard deviation added to the logits, the same each time an
    image is asked, as a service with random cropping or a quantised model would show.
    """

    options_of: ClassVar[type] = AskedSource

    def __init__(
        self,
        source: SourceModel,
        answers: str = "probabilities",
        decimals: Annotated[int, Range(0, 15)] | None = None,
        top: Count = 5,
        noise: NotNegative = 0.0,
        **asked: Any,
    ) -> None:
        if noise < 0 or not 1 <= top <= len(source.labels):
            raise ConfigError(f"source.noise={noise} must be at least 0 and source.top={top} from 1 to all classes.")
        super().__init__(
            f"{source.name} (black box)",
            source.labels,
            source.fingerprint()[:16],
            size=source.spec.size,
            channels=source.spec.channels,
            answers=answers,
            decimals=decimals,
            **{"known_as": f"{source.name} behind a wall"} | asked,  # its name in caches and programs of version 0.1.0
        )
        self.decimals, self.top, self.noise = decimals, top, noise
        self._hidden = [source]  # in a list: not a submodule, so no caller can reach its parameters by mistake

    @torch.no_grad()
    def ask(self, images: np.ndarray) -> np.ndarray:
        logits = self._hidden[0](torch.from_numpy(images)).logits.float().numpy()
        if self.noise:
            logits = np.stack([row + self._noise(image) for row, image in zip(logits, images, strict=True)])
        return self.checked(self._shown(logits), len(images))

    def _noise(self, image: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(int(content_key(image)[:16], 16))
        return (self.noise * rng.standard_normal(len(self.labels))).astype(np.float32)

    def _shown(self, logits: np.ndarray) -> np.ndarray:
        if self.answers == "logits":
            return logits if self.decimals is None else logits.round(self.decimals)
        if self.answers == "label":
            return np.eye(logits.shape[1], dtype=np.float32)[logits.argmax(1)]
        values = np.exp(logits - logits.max(1, keepdims=True))
        values /= values.sum(1, keepdims=True)
        if self.answers == "top_k":
            hidden = np.argsort(-values, 1)[:, self.top :]
            np.put_along_axis(values, hidden, 0.0, 1)
        return values if self.decimals is None else values.round(self.decimals)
