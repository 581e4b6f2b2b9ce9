"""One training of SetFit (Tunstall et al. 2022, arXiv 2209.11055) in an environment of its own; run by few_label_text.py.

    SETFIT_PYTHON benchmarks/_setfit.py MODEL_FOLDER STEPS SEED < task.json

The task has ``train``, ``labels`` and ``test``; the last line printed is JSON with ``predictions`` and processor seconds.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main() -> None:
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    folder, steps, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    task: dict[str, Any] = json.load(sys.stdin)
    model = SetFitModel.from_pretrained(folder, device="cpu")
    started = time.process_time()
    arguments = TrainingArguments(
        batch_size=16, num_epochs=1, max_steps=steps, seed=seed, report_to="none", save_strategy="no", show_progress_bar=False
    )
    data = Dataset.from_dict({"text": task["train"], "label": task["labels"]})
    Trainer(model=model, args=arguments, train_dataset=data).train()
    seconds = time.process_time() - started
    predictions = [int(p) for p in model.predict(task["test"])]
    print(json.dumps({"predictions": predictions, "cpu_seconds": seconds}))


if __name__ == "__main__":
    main()
