"""A model that only answers queries: find a program for it within a budget, and pay for no answer twice.

    python docs/examples/black_box.py --budget 1000

Here the service is a function in this process. In yours, replace ``ask``: one HTTP request, one answer. Half a minute on
one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch

from reprogram import ReprogrammedModel, load_source, load_target
from reprogram.inputs import Views
from reprogram.interfaces import to_tensor_labels
from reprogram.ledger import Budget
from reprogram.outputs import RidgeTaps
from reprogram.sources.callable import CallableSource


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="efficientnet_lite0", help="the model that the service runs")
    parser.add_argument("--shots", type=int, default=16, help="labelled images per class")
    parser.add_argument("--budget", type=int, default=1000, help="queries that training may spend")
    parser.add_argument("--test-size", type=int, default=100)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96, 128], help="sides in pixels of what is sent")
    parser.add_argument("--answers", default=str(Path(mkdtemp()) / "answers"), help="folder that keeps every answer")
    args = parser.parse_args()

    hidden = load_source(args.source)

    def ask(images: np.ndarray) -> np.ndarray:
        """float32 [B, channels, h, w] in [0, 1] -> probabilities [B, S]: all that anybody learns of the model."""
        with torch.no_grad():
            return hidden(torch.from_numpy(images)).logits.softmax(1).numpy()

    # Answers are kept on disk: a script that is started again pays for nothing twice.
    source = CallableSource(
        ask, hidden.labels, name="service", size=hidden.spec.size, channels=hidden.spec.channels,
        answers="probabilities", budget=Budget(queries=args.budget), cache=args.answers,
    )  # fmt: skip
    target = load_target("digits", shots=args.shots, test_size=args.test_size)

    # Six queries per image: three sizes, each also inverted. Ridge regression on the logarithms of the answers.
    model = ReprogrammedModel(source, Views(sizes=tuple(args.sizes), invert=True), RidgeTaps(), target.info)
    with source.counted_as("training"):
        outputs = model.collect(target.train)
    model.output.fit(outputs, to_tensor_labels(target.train.labels))
    with source.counted_as("evaluation"):
        accuracy = float((model.predict_proba(target.test).argmax(1) == target.test.labels).mean())

    bill = source.bill()
    print(f"test accuracy {accuracy:.3f} from {len(target.train)} labels")
    print(f"{bill['queries']} queries: {bill['by_kind']}")


if __name__ == "__main__":
    main()
