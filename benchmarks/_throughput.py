"""How busy the client keeps a server: its rate beside that of a plain load loop."""

from __future__ import annotations

import base64
import io
import json
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from PIL import Image

from reprogram.sources.remote import RemoteSource


def measure_throughput(
    url: str, side: int = 96, batch: int = 32, workers: int = 2, images: int = 768
) -> dict[str, Any]:
    """Images a second of the client against a plain load loop with the same batch size and as many connections.

    The load loop sends one prepared body again and again; the client encodes, sends, checks and keeps every answer.
    The two take turns in blocks, so that other work on the machine meets both alike.
    """
    rng = np.random.default_rng(0)
    low = torch.from_numpy(rng.random((images, 3, 12, 12)).astype(np.float32))
    pixels = torch.nn.functional.interpolate(low, size=(side, side), mode="bilinear")
    encoded = []
    for image in (pixels[:batch] * 255).byte().permute(0, 2, 3, 1).numpy():
        raw = io.BytesIO()
        Image.fromarray(image).save(raw, "PNG", compress_level=1)
        encoded.append(base64.b64encode(raw.getvalue()).decode())
    tensor = {"name": "image", "datatype": "BYTES", "shape": [batch, 1], "data": encoded}
    body = json.dumps({"inputs": [tensor]}).encode()
    block = batch * 8
    plain: list[float] = []
    ours: list[float] = []
    with tempfile.TemporaryDirectory() as folder, httpx.Client(timeout=120) as http:
        source = RemoteSource(
            url,
            "efficientnet_lite0",
            "imagenet",
            cache=Path(folder) / "a",
            journal=Path(folder) / "j",
            batch=batch,
            workers=workers,
            timeout=120,
        )

        def send(_: int) -> None:
            http.post(f"{url}/v2/models/efficientnet_lite0/infer", content=body).raise_for_status()

        send(0)
        for start in range(0, images - block + 1, block):
            began = time.perf_counter()
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(send, range(block // batch)))
            plain.append(time.perf_counter() - began)
            began = time.perf_counter()
            source(pixels[start : start + block])
            ours.append(time.perf_counter() - began)
    rate_plain, rate_ours = (block * len(t) / sum(t) for t in (plain, ours))
    return {
        "accuracy": 0.0,
        "queries": 0,
        "plain_per_second": rate_plain,
        "client_per_second": rate_ours,
        "share": rate_ours / rate_plain,
        "median_share": statistics.median(p / o for p, o in zip(plain, ours, strict=True)),
        "blocks": len(plain),
        "block": block,
    }
