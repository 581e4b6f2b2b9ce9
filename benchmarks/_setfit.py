"""SetFit (Tunstall et al. 2022, arXiv 2209.11055) in an environment of its own; run by few_label_text.py.

    SETFIT_PYTHON benchmarks/_setfit.py MODEL_FOLDER DEVICE

Each line read is a task, JSON with ``train``, ``labels``, ``test`` and ``seed``; each line answered is JSON with
``predictions``, ``steps`` and the seconds of training: of the clock, and of the processor. The settings are the paper's: pairs
of R = 20 iterations, one epoch, batches of 16, and a logistic regression on the trained encoder.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from typing import Any

ITERATIONS, BATCH = 20, 16


def train(folder: str, device: str, task: dict[str, Any]) -> dict[str, Any]:
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    model = SetFitModel.from_pretrained(folder, device=device)
    with tempfile.TemporaryDirectory() as output:
        arguments = TrainingArguments(
            output_dir=output,
            batch_size=BATCH,
            num_epochs=1,
            num_iterations=ITERATIONS,
            seed=task["seed"],
            report_to="none",
            save_strategy="no",
            show_progress_bar=False,
        )
        data = Dataset.from_dict({"text": task["train"], "label": task["labels"]})
        clock, processor = time.perf_counter(), time.process_time()
        Trainer(model=model, args=arguments, train_dataset=data).train()
        seconds = {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - processor}
    predictions = [int(p) for p in model.predict(task["test"])]
    return {"predictions": predictions, "steps": -(-2 * ITERATIONS * len(task["train"]) // BATCH)} | seconds


def main() -> None:
    folder, device = sys.argv[1:3]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # the libraries print on their way
    for line in sys.stdin:
        answers.write(json.dumps(train(folder, device, json.loads(line))) + "\n")


if __name__ == "__main__":
    main()
