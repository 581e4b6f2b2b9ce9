"""task=predict at size: does memory stay flat, does a killed run end in the same file, what does it cost beside the model?

    python benchmarks/predict.py --rows 100000 --images 20000

Memory and the kill are measured in processes of their own, with a frozen model of a few thousand weights, because neither
depends on the model. Throughput is measured with the bundled models: the rows that a whole run answers (reading the file,
comparing with the labelled examples, writing) against the same frozen model asked for the same layers of the same inputs
that lie ready in memory. The two take turns, and CPU seconds stand beside wall time for a machine that does other work.
One row in a hundred cannot be read.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import versions, write_page
from hydra import compose, initialize_config_dir
from PIL import Image

from reprogram.applicability.base import Applicability
from reprogram.artifact import from_pretrained, save_pretrained
from reprogram.configuration import config_folder
from reprogram.hooks import Run
from reprogram.inputs.none import NoPrompt
from reprogram.inputs.text import Text
from reprogram.interfaces import SourceModel, TargetInfo
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.result import Result
from reprogram.sources import load_source
from reprogram.targets.base import ArrayExamples, StringExamples
from reprogram.tasks.predict import run as predict
from reprogram.training.loop import Training

ROOT = Path(__file__).parents[1]
WORDS = ("the", "a", "film", "was", "good", "bad", "slow", "and", "very", "long", "not", "my", "best", "friend", "saw", "it")
SIDE = 48  # pixels of the pictures
BAD = 100  # one row in so many cannot be read


def tiny_models(folder: Path) -> tuple[SourceModel, SourceModel]:
    """A language model and an image model of a few thousand random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, ResNetConfig, ResNetForImageClassification

    from reprogram.sources.huggingface import HuggingFaceImageModel
    from reprogram.sources.text import TextSource

    torch.manual_seed(0)
    vocabulary = ["[PAD]", "[UNK]", *WORDS]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, model_max_length=48, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder / "text")
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=48, **shape)).save_pretrained(folder / "text")
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], id2label=dict(enumerate("abcde")))
    ResNetForImageClassification(config).save_pretrained(folder / "images")
    settings = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "images" / "preprocessor_config.json").write_text(json.dumps(settings))
    return TextSource(str(folder / "text")), HuggingFaceImageModel(str(folder / "images"))


def keep_program(source: SourceModel, folder: Path, size: int | None, seed: int) -> Path:
    """A program on 64 labelled inputs, with its labelled examples to compare with. size: side of the source's images."""
    labels = np.arange(64) % 2
    rng = np.random.default_rng([seed, 1])
    if source.spec.kind == "text":
        examples: Any = StringExamples([sentence(rng) for _ in labels], labels)
        info = TargetInfo("words", "text", "classification", ("no", "yes"))
        before: Any = Text()
    else:
        examples = ArrayExamples(rng.integers(0, 255, (64, 3, SIDE, SIDE), dtype=np.uint8), labels)
        info = TargetInfo("pictures", "image", "classification", ("no", "yes"), (3, SIDE, SIDE))
        before = NoPrompt(size=size)
    model = ReprogrammedModel(source, before, RidgeTaps(), info)
    Training(epochs=0).fit(model, examples, Run(folder, 0, Result("reprogram", 0)))
    model.applicability = Applicability.of(model, examples)
    return save_pretrained(model, folder)


def sentence(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(WORDS, int(rng.integers(4, 16))))


def make_table(path: Path, rows: int, seed: int) -> Path:
    """Sentences with an id and a note; one in a hundred is blank."""
    rng = np.random.default_rng([seed, 2])
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "id", "note"])
        for i in range(rows):
            writer.writerow(["" if i % BAD == BAD // 2 else sentence(rng), f"A{i}", f"note, {i}"])
    return path


def make_pictures(folder: Path, count: int, seed: int) -> Path:
    """PNG files in folders of a thousand; one in a hundred is no picture."""
    rng = np.random.default_rng([seed, 3])
    for i in range(count):
        place = folder / f"{i // 1000:03}"
        place.mkdir(parents=True, exist_ok=True)
        if i % BAD == BAD // 2:
            (place / f"{i:06}.png").write_bytes(b"torn")
            continue
        low = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
        low.resize((SIDE, SIDE)).save(place / f"{i:06}.png", compress_level=1)
    return folder


def options(program: Path, data: Path, out: Path) -> list[str]:
    where = ["target=image_folder", f"target.root={data}"]
    if data.is_file():
        where = ["target=csv", f"target.path={data}", "target.input_column=text"]
    return ["task=predict", f"program={program}", *where, f"run_dir={out}", "device=cpu"]


def in_a_process(arguments: list[str], kill_at: int | None = None, out: Path | None = None) -> dict[str, Any]:
    """``result.json`` of a run. kill_at: SIGKILL once so many rows are on disk; then the rows that were."""
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    folder = Path(next(a for a in arguments if a.startswith("run_dir=")).partition("=")[2])
    if kill_at is not None:
        state, done = folder / ".predictions.state.json", 0
        while run.poll() is None and done < kill_at:
            time.sleep(0.005)
            done = json.loads(state.read_text())["counts"]["rows"] if state.exists() else 0
        os.kill(run.pid, signal.SIGKILL)
        run.communicate()
        return {"rows": json.loads(state.read_text())["counts"]["rows"]}
    _, told = run.communicate()
    if run.returncode:
        raise SystemExit(told)
    return json.loads((folder / "result.json").read_text())


def check_size(folder: Path, kind: str, program: Path, make: Callable[[Path, int], Path], few: int, many: int) -> dict[str, Any]:
    """Peak memory for few and for many rows; many of them killed and resumed; bad rows in their places."""
    ending = ".csv" if kind == "table" else ""
    peaks, found = {}, {}
    for rows in (few, many):
        data = make(folder / f"{kind}_{rows}{ending}", rows)
        result = in_a_process(options(program, data, folder / f"{kind}_out_{rows}"))
        peaks[rows], found = result["cost"]["peak_memory_mb"], result
    cut = options(program, data, folder / f"{kind}_cut")
    killed = in_a_process(cut, kill_at=many // 3)["rows"]
    resumed = in_a_process([*cut, "resume=true"])
    whole, again = (folder / name / "predictions.csv" for name in (f"{kind}_out_{many}", f"{kind}_cut"))
    with whole.open(encoding="utf-8", newline="") as file:
        wrong = sum(bool(row["problem"]) != (i % BAD == BAD // 2) for i, row in enumerate(csv.DictReader(file)))
    rows = found["predictions"]["rows"]
    return {
        "rows": many,
        "few": few,
        "peak_mb_few": peaks[few],
        "peak_mb": peaks[many],
        "more_mb": peaks[many] - peaks[few],
        "killed_at": killed,
        "resumed_rows": resumed["cost"]["new_rows"],
        "identical": whole.read_bytes() == again.read_bytes(),
        "bad_rows": rows - found["predictions"]["answered"],
        "rows_out_of_place": wrong + abs(rows - many),
    }


def throughput(folder: Path, program: Path, data: Path, repeats: int) -> dict[str, float]:
    """Rows a second of the bare frozen model and of the whole run, taking turns."""
    model = from_pretrained(program).eval()
    contents = ready(model, data)
    bare: list[tuple[float, float]] = []
    whole: list[tuple[float, float]] = []
    for turn in range(repeats + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        with torch.no_grad():
            for start in range(0, len(contents), at_once := 512 if isinstance(contents, list) else 32):
                model.source(contents[start : start + at_once], model.output.taps())
        took = time.perf_counter() - wall, time.process_time() - cpu
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            config = compose("config", options(program, data, out := folder / f"turn_{program.name}_{turn}"))
        out.mkdir()
        predict(config)
        cost = json.loads((out / "result.json").read_text())["cost"]
        if turn:  # the first one warms up
            bare.append(took)
            whole.append((cost["predict_seconds"], cost["predict_cpu_seconds"]))
    (b_wall, b_cpu), (w_wall, w_cpu) = (np.median(np.array(x), 0) for x in (bare, whole))
    count = len(contents)
    return {
        "rows": count,
        "bare_per_second": count / b_wall,
        "predict_per_second": count / w_wall,
        "wall_share": float(b_wall / w_wall),
        "cpu_share": float(b_cpu / w_cpu),
    }


def ready(model: ReprogrammedModel, data: Path) -> Any:
    """The source's inputs of all rows that can be read, in memory."""
    if data.is_file():
        with data.open(encoding="utf-8", newline="") as file:
            return [row["text"] for row in csv.DictReader(file) if row["text"]]
    pictures = []
    for picture in sorted(data.rglob("*.png")):
        if picture.stat().st_size > 10:
            pictures.append(torch.from_numpy(np.asarray(Image.open(picture).convert("RGB")).copy()).permute(2, 0, 1))
    return torch.cat([model.input(torch.stack(pictures[i : i + 32]) / 255.0)[0] for i in range(0, len(pictures), 32)])


def size(folder: Path, kind: str, make: Any, many: int, given: argparse.Namespace) -> dict[str, Any]:
    """:func:`check_size` with a model of a few thousand weights."""
    text, image = tiny_models(folder)
    program = keep_program(text if kind == "table" else image, folder / f"tiny_{kind}", 32, given.seed)
    return check_size(folder, kind, program, lambda path, rows: make(path, rows, given.seed), given.few, many)


def speed(folder: Path, kind: str, source: str, make: Any, rows: int, given: argparse.Namespace) -> dict[str, float]:
    """:func:`throughput` of a bundled model."""
    program = keep_program(load_source(source), folder / f"full_{kind}", 224, given.seed)
    data = make(folder / ("speed.csv" if kind == "table" else "speed"), rows, given.seed)
    return throughput(folder, program, data, given.repeats)


def page(figures: dict[str, Any]) -> str:
    head = "| inputs | rows | peak MB | peak MB for {few:,} | more MB | killed at row | identical | bad rows | out of place |\n"
    lines = [head.format(few=figures["table"]["few"]) + "|---" * 9 + "|"]
    for kind in ("table", "images"):
        f = figures[kind]
        lines.append(
            f"| {kind} | {f['rows']:,} | {f['peak_mb']:.0f} | {f['peak_mb_few']:.0f} | {f['more_mb']:+.0f} | "
            f"{f['killed_at']:,} | {'yes' if f['identical'] else 'NO'} | {f['bad_rows']:,} | {f['rows_out_of_place']} |"
        )
    lines += ["", "Target: at most 300 MB more, identical, none out of place.", ""]
    lines.append("| inputs | model | rows | bare rows/s | task=predict rows/s | share, wall time | share, CPU time |")
    lines.append("|---" * 7 + "|")
    for kind, name in (("table", "MiniLM"), ("images", "EfficientNet-lite0, 224 pixels")):
        f = figures[f"{kind}_throughput"]
        lines.append(
            f"| {kind} | {name} | {f['rows']:,} | {f['bare_per_second']:.1f} | {f['predict_per_second']:.1f} | "
            f"{f['wall_share']:.2f} | {f['cpu_share']:.2f} |"
        )
    told = [
        f"Target: at least 0.90. Medians of turns on {figures['threads']} threads, seed {figures['seed']}; memory and the kill "
        "with a model of a few thousand weights, in processes of their own.",
    ]
    return "\n".join([*lines, "", *told])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"rows": 100_000, "images": 20_000, "few": 1000, "speed-rows": 2048, "speed-images": 256}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cells", type=Path, help="finished parts as JSON; a stopped benchmark goes on from them")
    parser.add_argument("--page", type=Path, help="write the tables here, as docs/results/predict.md")
    given = parser.parse_args()
    figures: dict[str, Any] = json.loads(given.cells.read_text()) if given.cells and given.cells.exists() else {}
    figures |= {"seed": given.seed, "threads": torch.get_num_threads(), "versions": versions("torch", "transformers")}

    def part(name: str, measure: Callable[[], dict[str, Any]]) -> None:
        if name not in figures:
            figures[name] = measure()
            print(name, json.dumps(figures[name]), flush=True)
        if given.cells:
            given.cells.write_text(json.dumps(figures))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        part("table_throughput", lambda: speed(folder, "table", "minilm", make_table, given.speed_rows, given))
        part("images_throughput", lambda: speed(folder, "images", "efficientnet_lite0", make_pictures, given.speed_images, given))
        part("table", lambda: size(folder, "table", make_table, given.rows, given))
        part("images", lambda: size(folder, "images", make_pictures, given.images, given))
    print(page(figures))
    if given.page:
        sizes = f"--rows {given.rows} --images {given.images}"
        sizes += f" --speed-rows {given.speed_rows} --speed-images {given.speed_images}"
        write_page(given.page, "Predictions at size", f"python benchmarks/predict.py {sizes}", page(figures))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
