"""A kept program on inputs without labels: a stream in, ``predictions.csv`` out, every row in its place."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from omegaconf import DictConfig, OmegaConf

from reprogram.artifact import describe_program
from reprogram.errors import ConfigError, Interrupted
from reprogram.hooks import Run
from reprogram.modalities import modality
from reprogram.model import ReprogrammedModel
from reprogram.prediction.answers import check_kind, columns
from reprogram.prediction.formats import Writer, check_out, write_as
from reprogram.prediction.stream import NAME, Growing, Lines, answer_chunk, header, write_all
from reprogram.progress import console, progress
from reprogram.ranges import NotEmpty, PositiveShare, Range
from reprogram.result import encoded
from reprogram.targets.unlabelled import Input, Inputs, chunks, open_inputs
from reprogram.tasks._on_cluster import on_cluster
from reprogram.tasks._run import load_kept, spent, start

OPTIONS: dict[str, Any] = {
    "task.out": NotEmpty | None,
    "task.confidence": PositiveShare,
    "task.chunk": Annotated[int, Range(1, 100_000)] | None,
    "program": NotEmpty,
}
NOT_NEEDED = ("target.label_column", "target.input_column")
STRINGS, PICTURES = 512, 64  # a chunk


def run(config: DictConfig) -> None:
    """One run, top to bottom."""
    started = time.perf_counter()
    if not config.get("program") or config.program == "auto":
        raise ConfigError("task=predict needs a kept program: program=RUN_FOLDER/program, or a Hub id.")
    inputs = open_inputs(OmegaConf.to_container(config.target, resolve=True))  # type: ignore[arg-type]
    context = start(config)
    kept = describe_program(config.program)
    model = load_kept(config, kept, context.device)
    check_kind(model, inputs.kind, modality(inputs.kind).batch, str(config.target.get("path") or config.target.get("root")))
    inputs.suit(model.target)
    names = header(inputs.columns, columns(model, config.task.confidence))
    more = modality(model.target.kind).writers(_input_column(inputs, names))
    if config.task.out is not None:
        check_out(Path(config.task.out), more)
        _spare_the_inputs(Path(config.task.out), inputs)
    if context.resume and (context.dir / "result.json").exists() and (context.dir / NAME).exists():
        console.print(f"{context.dir / NAME} is complete already.", markup=False)
        _write_out(config, context, _numbers(model, names), more)
        return
    identity, total = _identity(config, inputs, kept)
    growing = Growing(context.dir, names, identity, context.resume)
    before = growing.counts.rows
    began, busy = time.perf_counter(), time.process_time()
    try:
        with progress("predicting", total) as bar:
            bar.advance(before)
            with _answered(config, model, inputs, before) as lines:
                write_all(growing, lines, bar)
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"Stopped after {growing.counts.rows:,} rows; start again with run_dir={context.dir} resume=true to go on."
        ) from error
    finally:
        growing.close()
    seconds, new = time.perf_counter() - began, growing.counts.rows - before
    cost = {"predict_seconds": seconds, "predict_cpu_seconds": time.process_time() - busy, "new_rows": new}
    growing.finish()
    _tell(config, context, model, inputs, growing, spent(model, started) | cost)
    _write_out(config, context, _numbers(model, names), more)


def _write_out(config: DictConfig, context: Run, numbers: list[str], more: Mapping[str, Writer]) -> None:
    """``task.out`` from the finished file, last: where it cannot be written, resume=true writes it, here or elsewhere."""
    if config.task.out is not None:
        write_as(context.dir / NAME, Path(config.task.out), numbers, more)


def _spare_the_inputs(out: Path, inputs: Inputs) -> None:
    """ConfigError where ``task.out`` would replace what is read."""
    if out.exists() and any(file.samefile(out) for file in inputs.files()):
        raise ConfigError(f"task.out={out} is what is read (target.path); give the answers a file of their own.")


@contextmanager
def _answered(config: DictConfig, model: ReprogrammedModel, inputs: Any, skip: int) -> Iterator[Iterator[Lines]]:
    """Chunks of lines, here or on the cluster that ``parallel`` names, one chunk read ahead."""
    size = config.task.chunk or (PICTURES if modality(inputs.kind).batch == "images" else STRINGS)
    stream = chunks(inputs, size, skip)
    if (config.get("parallel") or {}).get("backend") == "dask":
        with on_cluster(config, model, inputs.columns, stream) as lines:
            yield lines
        return
    model.eval()
    answer = partial(answer_chunk, model, own=inputs.columns, confidence=config.task.confidence)
    with ThreadPoolExecutor(1) as reader:
        yield map(answer, _ahead(reader, stream))


def _ahead(reader: ThreadPoolExecutor, stream: Iterator[list[Input]]) -> Iterator[list[Input]]:
    """The next chunk is read while the last one is answered."""
    coming = reader.submit(next, stream, None)
    while (chunk := coming.result()) is not None:
        coming = reader.submit(next, stream, None)
        yield chunk


def _identity(config: DictConfig, inputs: Inputs, kept: dict[str, Any]) -> tuple[str, int | None]:
    """(what a growing file belongs to, the number of rows where it is known without reading them)."""
    digest, count = hashlib.sha256(), 0
    for file in inputs.files():
        found = file.stat()
        digest.update(encoded(f"{file.relative_to(inputs.root)}:{found.st_size}:{found.st_mtime_ns}\n"))
        count += 1
    made = [kept["tensors"]["sha256"], kept["source"]["fingerprint"], kept.get("conformal"), config.task.chunk]
    digest.update(json.dumps([*made, config.task.confidence]).encode())
    return digest.hexdigest(), count if inputs.a_file_each else None


def _input_column(inputs: Any, names: list[str]) -> str:
    """The column of the inputs as ``predictions.csv`` calls it."""
    theirs = dict(zip(inputs.columns, names[names.index("problem") + 1 :], strict=True))
    return theirs[inputs.input_column] if theirs else "row"


def _numbers(model: ReprogrammedModel, names: list[str]) -> list[str]:
    ours = names[: names.index("problem")]
    numbers = [name for name in ours if name.startswith(("p:", "nearest_")) and name != "nearest_row"]
    return numbers + (["prediction", "low", "high"] if model.target.problem == "regression" else [])


def _tell(
    config: DictConfig, context: Run, model: ReprogrammedModel, inputs: Any, growing: Growing, cost: dict[str, Any]
) -> None:
    """``result.json``, and a few lines on the terminal."""
    counts, source = growing.counts, model.source
    share = counts.outside / counts.known if counts.known else None
    sentence = f"{counts.rows - counts.problems:,} of {counts.rows:,} rows have an answer"
    sentence += f"; {counts.outside:,} lie outside what the program learned from." if share is not None else "."
    context.result.data |= {
        "source": {
            "name": source.name,
            "fingerprint": source.fingerprint(),
            "parameters": source.parameter_count(),
        },
        "target": {"name": model.target.name, "kind": inputs.kind, "problem": model.target.problem}
        | {"classes": list(model.target.classes), "notes": inputs.notes},
        "kept": {"folder": str(config.program)},
        "predictions": {
            "rows": counts.rows,
            "answered": counts.rows - counts.problems,
            "problems": [{"row": row, "problem": why} for row, why in counts.first],
            "answers": counts.frequent(),
            "outside": share,
            "confidence": config.task.confidence,
            "examples_of_intervals": None if model.conformal is None else model.conformal.examples,
        },
        "cost": cost,
        "verdict": sentence,
    }
    context.result.write(context.dir)
    for note in inputs.notes:
        console.print(note, markup=False)
    for row, why in counts.first:
        it = "it " if why.startswith(("is ", "has ")) else ""
        console.print(f"row {row} has no answer: {it}{why}", markup=False)
    console.print(f"{sentence}\nresults in {context.dir / NAME}", markup=False)
