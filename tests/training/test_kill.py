"""Real processes: SIGKILL at three points, and two processes that train one program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import json, sys, time
from pathlib import Path
import numpy as np, torch
from dataclasses import dataclass
from torch import nn
from reprogram.hooks import Hook, Run
from reprogram.interfaces import InputTransformation, OutputMapping, SourceModel, SourceOutput, SourceSpec, TargetInfo
from reprogram.model import ReprogrammedModel
from reprogram.result import Result
from reprogram.targets.base import ArrayExamples
from reprogram.training.augment import Affine
from reprogram.training.distributed import processes
from reprogram.training.loop import Training

class Tiny(SourceModel):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.name, self.spec = "tiny", SourceSpec("image", 8, ("a", "b", "c"))
        self.layer = nn.Linear(192, 3)
        self.freeze()
    def answer(self, x, taps=()):
        return SourceOutput(self.layer(x.flatten(1)))

@dataclass(eq=False)
class Shift(InputTransformation):
    def build(self, spec, target):
        self.delta = nn.Parameter(torch.zeros(3, 8, 8))
    def forward(self, batch):
        return [batch + self.delta]

@dataclass(eq=False)
class First(OutputMapping):
    def forward(self, outputs):
        return outputs[0].logits[:, :2]

class Slow(Hook):
    def on_epoch_end(self, run, model, epoch, metrics):
        print(epoch, flush=True)
        time.sleep(0.05)

folder, resume = Path(sys.argv[1]), sys.argv[2] == "resume"
rng = np.random.default_rng(0)
labels = np.arange(24) % 2
images = (rng.random((24, 3, 8, 8)) * 0.5 + labels[:, None, None, None] * 0.3).astype(np.float32)
info = TargetInfo("t", "image", "classification", ("a", "b"), (3, 8, 8))
model = ReprogrammedModel(Tiny(), Shift(), First(), info)
run = Run(folder, 0, Result("reprogram", 0), resume=resume)
history = Training(epochs=30, batch_size=8, augment=Affine(), checkpoint_seconds=0.0).fit(
    model, ArrayExamples(images, labels), run, [Slow()])
if processes().main:
    numbers = {"loss": [row["loss"] for row in history.epochs], "program": model.program()["input.delta"].double().sum().item()}
    (folder / "numbers.json").write_text(json.dumps(numbers))
"""


def start(folder: Path, mode: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", SCRIPT, str(folder), mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def numbers(folder: Path) -> dict:
    return json.loads((folder / "numbers.json").read_text())


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert start(folder, "new").wait(120) == 0
    return numbers(folder)


def test_a_run_killed_at_three_points_ends_with_the_same_numbers(never_killed, tmp_path):
    mode = "new"
    for last_epoch, delay in ((1, 0.0), (9, 0.02), (17, 0.04)):
        process = start(tmp_path, mode)
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= last_epoch:
                time.sleep(delay)
                os.kill(process.pid, signal.SIGKILL)
                break
        process.wait(30)
        assert not (tmp_path / "numbers.json").exists()
        mode = "resume"
    assert start(tmp_path, "resume").wait(120) == 0
    assert numbers(tmp_path) == never_killed


def test_two_processes_train_the_same_program_as_one(never_killed, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "29611"]
    root = Path(__file__).parents[2]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run([*launch, str(script), str(tmp_path), "new"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    together = numbers(tmp_path)
    assert together["program"] == pytest.approx(never_killed["program"], rel=1e-4)
