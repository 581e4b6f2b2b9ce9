"""EfficientNet-Lite0 as a service that shows its probabilities and nothing else: pixels in [0, 1] -> [B, 1000].

mlserver start benchmarks/serving
"""

from __future__ import annotations

import asyncio

import numpy as np
import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from reprogram.sources.efficientnet import EfficientNetLite


class EfficientNetLite0(MLModel):
    async def load(self) -> bool:
        torch.set_num_threads(1)  # one request at a time on one core: several threads would fight
        self._source = EfficientNetLite("efficientnet_lite0")
        self._turn = asyncio.Lock()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = NumpyCodec.decode_input(payload.inputs[0])
        async with self._turn:
            probabilities = await asyncio.to_thread(self._answer, images)
        output = NumpyCodec.encode_output("probabilities", probabilities)
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])

    @torch.no_grad()
    def _answer(self, images: np.ndarray) -> np.ndarray:
        return self._source(torch.from_numpy(np.ascontiguousarray(images, np.float32))).logits.softmax(1).numpy()
