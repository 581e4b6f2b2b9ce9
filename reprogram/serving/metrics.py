"""What Prometheus reads of a served program, what is logged, and how far new inputs have drifted from the labelled ones."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import deque
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reprogram.locks import open_own

if TYPE_CHECKING:
    from reprogram.serving.wishes import Wishes

WINDOW = 500  # inputs that drift is measured on
EVERY = 50  # inputs between two measurements
MOST_CLASSES = 100  # with a counter of their own
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
log = logging.getLogger("reprogram.serving")


@cache
def _prometheus() -> dict[str, Any]:
    """Made when a model is loaded: MLServer decides until then whether several processes count together."""
    from prometheus_client import Counter, Gauge, Histogram

    return {
        "requests": Counter("reprogram_requests", "Requests by outcome", ["model", "outcome"]),
        "items": Counter("reprogram_inputs", "Inputs by outcome", ["model", "outcome"]),
        "answers": Counter("reprogram_answers", "Answers by class", ["model", "label"]),
        "outside": Counter("reprogram_outside", "Inputs that lie outside of the labelled examples", ["model"]),
        "hardened": Counter("reprogram_hardened", "Certificates, abstentions and suspicious inputs", ["model", "what"]),
        "seconds": Histogram("reprogram_request_seconds", "Time of a request", ["model"], buckets=SECONDS),
        "batch": Histogram("reprogram_batch_inputs", "Inputs in one pass", ["model"], buckets=SIZES),
        "drift": Gauge(
            "reprogram_drift",
            f"Distance (Kolmogorov-Smirnov) of the last {WINDOW} inputs' similarities from those of the labelled examples",
            ["model"],
            multiprocess_mode="livemostrecent",
        ),
    }


def drift(recent: np.ndarray, labelled: np.ndarray) -> float:
    """Largest distance between the two distribution functions, from 0 (alike) to 1. labelled: sorted."""
    recent = np.sort(recent)
    places = np.concatenate([recent, labelled])
    ours = np.searchsorted(recent, places, "right") / len(recent)
    theirs = np.searchsorted(labelled, places, "right") / len(labelled)
    return float(np.abs(ours - theirs).max())


class Observer:
    """Counts what one model answers. labelled: similarities of labelled examples, sorted. audit: a file that gets one line an
    answer, without the input."""

    def __init__(self, model: str, labelled: np.ndarray, audit: str | None = None) -> None:
        self.model, self.labelled = model, labelled
        self._metrics = _prometheus()
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._new = 0
        self._classes: set[str] = set()
        self._audit = None if audit is None else open_own(Path(audit), os.O_WRONLY | os.O_APPEND)
        self._writing = threading.Lock()

    def batch(self, size: int) -> None:
        """A pass of so many inputs."""
        self._metrics["batch"].labels(self.model).observe(size)

    def refused(self, status: int) -> None:
        """A request that was not answered, by its status."""
        self._metrics["requests"].labels(self.model, str(status)).inc()

    def answered(self, request: str, cells: dict[str, list[Any]], wishes: Wishes, seconds: float) -> None:
        """A request with its answers: counters, one line of the log, and lines of the audit."""
        problems = sum(bool(why) for why in cells["problem"])
        size = len(cells["problem"])
        self._metrics["requests"].labels(self.model, "200").inc()
        self._metrics["seconds"].labels(self.model).observe(seconds)
        for outcome, count in (("answered", size - problems), ("problem", problems)):
            self._metrics["items"].labels(self.model, outcome).inc(count)
        self._count(cells)
        told = {"request": request, "inputs": size, "problems": problems, "seconds": round(seconds, 4)}
        log.info("answered", extra={"fields": {"model": self.model} | told | _asked(wishes)})
        if self._audit is not None:
            self._write_audit(request, cells)

    def _count(self, cells: dict[str, list[Any]]) -> None:
        for label in cells["prediction"]:
            if isinstance(label, str):
                self._classes |= {label} if len(self._classes) < MOST_CLASSES else set()
                self._metrics["answers"].labels(self.model, label if label in self._classes else "other").inc()
        self._metrics["outside"].labels(self.model).inc(cells.get("outside", []).count("yes"))
        hardened = self._metrics["hardened"]
        for label in cells.get("certified", []):
            if label is not None:
                hardened.labels(self.model, "certified" if label else "abstained").inc()
        hardened.labels(self.model, "suspicious").inc(cells.get("suspicious", []).count("yes"))
        near = next((column for name, column in cells.items() if name.startswith("nearest_") and name != "nearest_row"), [])
        fresh = [value for value in near if value is not None]
        self._recent.extend(fresh)
        self._new += len(fresh)
        if self._new >= EVERY and len(self.labelled):
            self._new = 0
            self._metrics["drift"].labels(self.model).set(drift(np.array(self._recent), self.labelled))

    def _write_audit(self, request: str, cells: dict[str, list[Any]]) -> None:
        names = [n for n in ("prediction", "outside", "certified", "radius", "voted", "suspicious", "problem") if n in cells]
        lines = []
        for place in range(len(cells["problem"])):
            line = {"time": time.time(), "model": self.model, "request": request, "place": place}
            lines.append(json.dumps(line | {name: cells[name][place] for name in names}, ensure_ascii=False))
        assert self._audit is not None
        with self._writing:
            os.write(self._audit, ("\n".join(lines) + "\n").encode())

    def close(self) -> None:
        """Close the audit."""
        if self._audit is not None:
            os.close(self._audit)
            self._audit = None


def _asked(wishes: Wishes) -> dict[str, Any]:
    chosen = {name: getattr(wishes, name) for name in ("certify", "vote", "detect")}
    return {name: value for name, value in chosen.items() if value not in ("none", 0)}


class Failures(logging.Filter):
    """Lets pass what is the server's own: a request that was refused is counted, not logged with a trace."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for an error below status 500."""
        error = record.exc_info[1] if record.exc_info else None
        return int(getattr(error, "status_code", 500)) >= 500


class JsonLines(logging.Formatter):
    """One JSON object a line, for every logger of the server. Errors are named by type and place, never with what they say:
    a library's message may quote an input."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line = {"time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"), "level": record.levelname, "logger": record.name}
        if record.exc_info and record.exc_info[0] is not None:
            trace = record.exc_info[2]
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            where = "" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
            return json.dumps(line | {"error": record.exc_info[0].__name__, "where": where})
        return json.dumps(line | {"message": record.getMessage()} | getattr(record, "fields", {}), ensure_ascii=False)
