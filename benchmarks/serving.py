"""A served program: throughput beside its own predict loop, latency, memory, strangers' requests, kills, certificates.

    pip install 'reprogram[all,serving]'
    python benchmarks/serving.py

Everything is on the loopback of one machine; clients and server share its cores, and the model has one thread. Parts that
were measured are kept in ``--cells`` and not run again. Loads are drawn by ``--seeds``; no setting was chosen on them (those of
``detect=true`` were chosen on seed 0, digits and CIFAR-10).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _serving_detection import SIZES, detection
from _serving_load import Client, ServedFolder, closed_loop, free_ports, kills, open_loop, png, request, soak, table
from common import versions, write_page

from reprogram.applicability.base import Applicability
from reprogram.artifact import from_pretrained, save_pretrained
from reprogram.hooks import Run
from reprogram.inputs.none import NoPrompt
from reprogram.interfaces import SourceModel, TargetInfo, TargetTask
from reprogram.malloc_tuning import keep_freed_memory
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.result import Result, finite
from reprogram.robustness.checks.base import Scope
from reprogram.robustness.checks.smoothing import SmoothingCheck
from reprogram.robustness.evaluated_model import EvaluatedModel
from reprogram.serving.detector import Detector
from reprogram.serving.export import Serving, write_repository
from reprogram.sources.efficientnet import EfficientNetLite
from reprogram.targets.base import ArrayExamples
from reprogram.targets.digits import digits
from reprogram.tasks._run import keep_left_out
from reprogram.training.loop import Training

SIDE = 96  # pixels at which the source reads the digits
BATCH = 32
PATH = "/v2/models/{}/infer"


def made(folder: Path, source: SourceModel, task: TargetTask, side: int) -> Path:
    """A kept program that fits one closed form to the labelled examples."""
    model = ReprogrammedModel(source, NoPrompt(size=side), RidgeTaps(), task.info)
    Training(epochs=0).fit(model, task.train, Run(folder / "run", 0, Result("reprogram", 0)))
    model.applicability = Applicability.of(model, task.train)
    keep_left_out(model, task, 0)
    return save_pretrained(model, folder / "program")


def digit_programs(folder: Path, count: int) -> dict[str, str]:
    """``count`` programs on one EfficientNet-Lite0: digits from 16 labels a class, other labels each."""
    source = EfficientNetLite("efficientnet_lite0")
    found = {}
    for seed in range(count):
        task = digits(shots=16, seed=seed)
        found[f"digits-{seed}"] = str(made(folder / f"digits-{seed}", source, task, SIDE))
    return found


def tiny_program(folder: Path) -> dict[str, str]:
    """Two programs on a random network of a few thousand weights: the server's own work is all that counts."""
    import transformers

    from reprogram.sources.huggingface import HuggingFaceImageModel

    torch.manual_seed(0)
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], id2label=dict(enumerate("abcde")))
    transformers.ResNetForImageClassification(config).save_pretrained(folder / "resnet")
    settings = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "resnet" / "preprocessor_config.json").write_text(json.dumps(settings))
    source, found = HuggingFaceImageModel(str(folder / "resnet")), {}
    images, labels = colours(60, 0)
    for name, classes, own in (("colours", ("red", "green", "blue"), labels), ("red", ("red", "other"), np.minimum(labels, 1))):
        info = TargetInfo(name, "image", "classification", classes, (3, 12, 12))
        examples = ArrayExamples(images, own)
        found[name] = str(made(folder / name, source, TargetTask(info, examples, examples), 32))
    return found


def colours(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 110, (count, 3, 12, 12), dtype=np.uint8)
    images[np.arange(count), labels] += 130
    return images, labels


def served(folder: Path, programs: dict[str, str], detectors: dict[str, Detector] | None = None) -> ServedFolder:
    port = free_ports()
    return ServedFolder(write_repository(folder, programs, Serving(port=port), detectors or {}), port)


def digit_images(seed: int, count: int) -> np.ndarray:
    """uint8 [N, 1, 8, 8] of test digits, with noise of one grey level so that no two requests are the same."""
    task = digits(shots=16, seed=0)
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(task.test), count)
    pixels = task.test.batch(rows).numpy() * 255 + rng.integers(-1, 2, (count, 1, 8, 8))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def throughput(folder: Path, seed: int, seconds: float) -> dict[str, Any]:
    """The predict loop and the server take turns with the same images; then single images at half of what was reached."""
    programs = digit_programs(folder, 1)
    name, place = next(iter(programs.items()))
    torch.set_num_threads(1)
    model = from_pretrained(place)
    images = digit_images(seed, 8 * BATCH)
    pixels = torch.from_numpy(images).float() / 255
    bodies = [request("image", [png(i) for i in images[s : s + BATCH]]) for s in range(0, len(images), BATCH)]
    singles = [request("image", [png(i)]) for i in images]
    with served(folder / "models", programs) as server:
        loop = turns(lambda: model.predict_proba(pixels[:BATCH], batch_size=BATCH), seconds)
        before = server.cpu_seconds()
        count, took, _ = closed_loop(server.port, PATH.format(name), bodies, 3, seconds)
        cpu = (server.cpu_seconds() - before) / (count * BATCH)
        again = turns(lambda: model.predict_proba(pixels[:BATCH], batch_size=BATCH), seconds)
        one, took_one, _ = closed_loop(server.port, PATH.format(name), singles, BATCH, seconds)
        half = open_loop(server.port, PATH.format(name), singles, one / took_one / 2, seconds, seed)
        bare = call_times(lambda: model.predict_proba(pixels[:1]), seconds)
        wanted = model.predict_proba(pixels[:BATCH])
        right = np.allclose(table(Client(server.port).send("POST", PATH.format(name), bodies[0])[1]), wanted, atol=1e-4)
        return {
            "seed": seed,
            "loop": BATCH * (loop[0] + again[0]) / (loop[1] + again[1]),
            "served": BATCH * count / took,
            "served_singles": one / took_one,
            "cpu_loop": (loop[2] + again[2]) / (BATCH * (loop[0] + again[0])),
            "cpu_served": cpu,
            "median": float(np.median(half)),
            "p99": float(np.quantile(half, 0.99)),
            "requests": len(half),
            "bare_tail": float(np.quantile(bare, 0.99) / np.median(bare)),
            "same_answers": bool(right),
            "ready_after": server.started,
        }


def turns(work: Callable[[], Any], seconds: float) -> tuple[int, float, float]:
    """(calls, seconds, processor seconds) of a loop."""
    begun, busy, calls = time.monotonic(), time.process_time(), 0
    while time.monotonic() - begun < seconds:
        work()
        calls += 1
    return calls, time.monotonic() - begun, time.process_time() - busy


def call_times(work: Callable[[], Any], seconds: float) -> list[float]:
    """Seconds of each call of a loop."""
    end, times = time.monotonic() + seconds, []
    while (begun := time.monotonic()) < end:
        work()
        times.append(time.monotonic() - begun)
    return times


def memory(folder: Path) -> dict[str, Any]:
    """PSS of all processes with one program and with five, after some requests to each."""
    programs, found = digit_programs(folder, 5), {}
    for count in (1, 5):
        some = dict(list(programs.items())[:count])
        with served(folder / f"models{count}", some) as server:
            body = request("image", [png(i) for i in digit_images(0, BATCH)])
            for _ in range(5):
                for name in some:
                    Client(server.port).send("POST", PATH.format(name), body)
            found[str(count)] = server.memory_mb()
    return found | {"ratio": found["5"] / found["1"]}


def tiny_mix(programs: dict[str, str], seed: int) -> list[tuple[str, bytes, np.ndarray]]:
    """Valid requests of one to five pictures, of which one cannot be read, with what the programs answer in Python."""
    rng, mix = np.random.default_rng(seed), []
    for name, place in programs.items():
        model = from_pretrained(place)
        for turn in range(40):
            images, _ = colours(1 + turn % 5, int(rng.integers(10**6)))
            wanted = model.predict_proba(torch.from_numpy(images).float() / 255)
            bad = np.full((1, wanted.shape[1]), np.nan)
            mix.append((PATH.format(name), request("image", [*map(png, images), "bad"]), np.concatenate([wanted, bad])))
    return mix


def strangers(folder: Path, seeds: list[int], count: int) -> dict[str, Any]:
    """Mixed requests, one in ten malformed."""
    programs = tiny_program(folder)
    with served(folder / "models", programs) as server:
        mix = tiny_mix(programs, seeds[0])
        first = server.engine()
        found = soak(server.port, mix, count, seeds[0], server.memory_mb)
        return found | {"crashes": int(server.engine() != first)}


def killed(folder: Path, seeds: list[int], times: int) -> dict[str, Any]:
    """SIGKILL under load, with the tiny source and with EfficientNet-Lite0."""
    found = {}
    for name, programs in (("tiny", tiny_program(folder)), ("efficientnet_lite0", digit_programs(folder, 1))):
        with served(folder / f"models-{name}", programs) as server:
            if name == "tiny":
                mix = tiny_mix(programs, seeds[0])
            else:
                images = digit_images(seeds[0], 4)
                wanted = from_pretrained(programs["digits-0"]).predict_proba(torch.from_numpy(images).float() / 255)
                mix = [(PATH.format("digits-0"), request("image", [png(i) for i in images]), wanted)]
            found[name] = kills(server, mix, times)
    return found


def certificates(folder: Path, seed: int) -> dict[str, Any]:
    """The row of the check ``smoothing`` and the served answers to the same images and seeds."""
    programs, task = digit_programs(folder, 1), digits(shots=16, seed=0)
    name, model = next(iter(programs)), from_pretrained(next(iter(programs.values())))
    images, labels = task.test.batch(range(160, 164)), torch.as_tensor(np.asarray(task.test.labels)[160:164])
    clean = model(images).argmax(1) == labels
    tested = EvaluatedModel(model, images, labels, 10, True, clean, clean.float(), seed=seed)
    row = SmoothingCheck(examples=4, samples=300, sigma=0.1).run(tested, Scope("smoothing", 4, {"l2": 0.15})).rows[0]
    body = {"name": "image", "datatype": "FP32", "shape": [4, 1, 8, 8], "data": images.flatten().tolist()}
    asked = {"certify": "l2", "samples": 300, "sigma": 0.1, "seed": seed}
    with served(folder / "models", programs) as server:
        sent = json.dumps({"inputs": [body], "parameters": asked}).encode()
        reply = Client(server.port).send("POST", PATH.format(name), sent)[1]
    answers = {one["name"]: one["data"] for one in reply["outputs"]}
    right = [task.info.classes[y] == label for y, label in zip(labels.tolist(), answers["certified"], strict=True)]
    radii = [r if ok else 0.0 for r, ok in zip(answers["radius"], right, strict=True)]
    share, median = float(np.mean(np.array(radii) >= 0.15)), float(np.median(radii))
    same = abs(share - row.value) < 1e-9 and abs(median - row.more["median_radius"]) < 1e-9
    return {"seed": seed, "robustness": row.value, "served": share, "median_radius": median, "same": same}


def costs(folder: Path) -> dict[str, Any]:
    """Median seconds, and processor seconds, of a single image with each check."""
    programs, task = digit_programs(folder, 1), digits(shots=16, seed=0)
    name, model = next(iter(programs)), from_pretrained(next(iter(programs.values())))
    detector = Detector.calibrated(model, list(task.test.batch(range(90)).numpy()))
    single = {"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": task.test.batch([160]).flatten().tolist()}
    wishes = {"plain": {}, "input_check=strict": {"input_check": "strict"}, "detect=true": {"detect": True}}
    wishes |= {"vote=10": {"vote": 10}, "certify=l2, 300 samples": {"certify": "l2", "samples": 300}}
    found = {}
    with served(folder / "models", programs, {name: detector}) as server:
        client = Client(server.port)
        for wish, asked in wishes.items():
            sent = json.dumps({"inputs": [single], "parameters": asked}).encode()
            client.send("POST", PATH.format(name), sent)
            times, busy = [], server.cpu_seconds()
            for _ in range(2 if "certify" in wish else 20):
                begun = time.monotonic()
                client.send("POST", PATH.format(name), sent)
                times.append(time.monotonic() - begun)
            found[wish] = {"seconds": float(np.median(times)), "cpu": (server.cpu_seconds() - busy) / len(times)}
    return found


def measured(cells: Path, name: str, work: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """A part as it was kept, or measured now."""
    file = cells / f"{name}.json"
    if not file.exists():
        with tempfile.TemporaryDirectory() as folder:
            found = work(Path(folder))
        cells.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(finite(found)))
    return json.loads(file.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement of throughput and latency")
    parser.add_argument("--requests", type=int, default=100_000, help="of strangers and others, mixed")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--cifar", default=None, help="a folder of CIFAR-10 pictures, train/CLASS and test/CLASS")
    parser.add_argument("--only", nargs="+", help="memory costs killed strangers throughput certificates detection_digits …")
    parser.add_argument("--cells", type=Path, default=Path("outputs/serving_cells"))
    parser.add_argument("--page", type=Path, default=None, help="docs/results/serving.md")
    given = parser.parse_args()
    keep_freed_memory()  # as the command line and the server do
    parts: dict[str, Callable[[Path], dict[str, Any]]] = {
        "memory": memory,
        "costs": costs,
        "killed": lambda folder: killed(folder, given.seeds, given.kills),
        "strangers": lambda folder: strangers(folder, given.seeds, given.requests),
    }
    each: dict[str, Callable[[Path, int], dict[str, Any]]] = {
        "throughput": lambda folder, seed: throughput(folder, seed, given.seconds),
        "certificates": certificates,
    }
    for data in SIZES if given.cifar else [name for name in SIZES if name != "cifar"]:
        each[f"detection_{data}"] = lambda folder, seed, data=data: detection(folder, data, seed, given.cifar)
    wanted = given.only or [*parts, *each]
    found: dict[str, Any] = {name: measured(given.cells, name, work) for name, work in parts.items() if name in wanted}
    for name, one in each.items():
        if name in wanted:
            work = [(f"{name}_{seed}", lambda folder, s=seed, one=one: one(folder, s)) for seed in given.seeds]
            found[name] = [measured(given.cells, *pair) for pair in work]
    if given.page is not None:
        from _serving_page import page

        write_page(given.page, "Serving a program", "python benchmarks/serving.py", page(found, os.cpu_count() or 1))
    print(json.dumps(found | {"seeds": given.seeds, "versions": versions("torch", "mlserver", "reprogram")}))


if __name__ == "__main__":
    main()
