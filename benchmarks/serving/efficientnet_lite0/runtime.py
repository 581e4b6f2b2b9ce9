"""EfficientNet-Lite0 as a service: PNG images in (base64, all of one size), probabilities of 1,000 classes out.

mlserver start benchmarks/serving
"""

from __future__ import annotations

import asyncio
import base64
import io

import numpy as np
import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from PIL import Image

from reprogram.sources.efficientnet import EfficientNetLite


class EfficientNetLite0(MLModel):
    async def load(self) -> bool:
        torch.set_num_threads(1)  # one request at a time on one core: several threads would fight
        self._source = EfficientNetLite("efficientnet_lite0")
        self._turn = asyncio.Lock()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = list(payload.inputs[0].data)
        async with self._turn:
            probabilities = await asyncio.to_thread(self._answer, images)
        output = NumpyCodec.encode_output("probabilities", probabilities)
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])

    @torch.no_grad()
    def _answer(self, images: list[str]) -> np.ndarray:
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(image)))) for image in images])
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        return self._source(batch).logits.softmax(1).numpy()
