"""Does training in front of a frozen language model pay? Rows for the table of ``few_label_sequences.py``.

    python benchmarks/few_label_sequences_trained.py --bbbp PATH --targets bbbp amp --labels 64 --seeds 3 [--cache FOLDER]

Each transformation is trained by gradient with a linear layer on the model's features (the bundled encoder has no
masked-language-model head, so there are no source labels to map); then the multi-layer reading is fitted behind the trained
transformation, too. Splits and labels are those of the other rows.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from common import append_line, read_lines
from few_label_sequences import divide, load, measure

from reprogram.inputs.dense_token_map import DenseTokenMap
from reprogram.inputs.soft_prompt import SoftPrompt
from reprogram.inputs.text import Text
from reprogram.inputs.token_map import TokenMap
from reprogram.interfaces import InputTransformation, to_tensor_labels
from reprogram.model import ReprogrammedModel
from reprogram.outputs.gaussian_process import GaussianProcessMapping
from reprogram.outputs.linear_features import LinearFeatures
from reprogram.sources.minilm import MiniLM
from reprogram.targets.base import StringExamples
from reprogram.training.backpropagation import Backpropagation
from reprogram.training.loop import Training, fit


def transformations(kind: str) -> dict[str, InputTransformation]:
    tokens = "smiles" if kind == "molecule" else "amino_acids"
    apart = "own" if kind == "molecule" else "amino_acids"
    words = "the chemical properties of this molecule" if kind == "molecule" else "the letters of this peptide"
    return {
        "no transformation": Text(apart),
        "token_map (R2DL)": TokenMap(tokens),
        "dense_token_map (ReprogBERT)": DenseTokenMap(tokens),
        "soft_prompt": SoftPrompt(words=words, tokens=apart),
    }


def run(name: str, options: argparse.Namespace, cells: Path) -> None:
    data = load(name, options)
    done = {(c["target"], c["seed"], c["labels"], c["row"]) for c in read_lines(cells)}
    source = MiniLM()
    for labels in options.labels:
        for seed in range(options.seeds):
            train, test = divide(data, "stratified", seed, labels)
            known = StringExamples([data.strings[i] for i in train], data.labels[train])
            asked = StringExamples([data.strings[i] for i in test], data.labels[test])
            for title, before in transformations(data.info.kind).items():
                first, second = f"{title} + linear_features", f"{title} + several layers, gaussian_process"
                if (name, seed, labels, second) in done or (title == "no transformation" and options.skip_plain):
                    continue
                started = time.process_time()
                model = ReprogrammedModel(source, before, LinearFeatures(), data.info)
                rate = 0.002 if title.startswith("dense") else 0.01
                training = Training(options.epochs, 16, Backpropagation(learning_rate=rate))
                fit(model, known, training, seed)
                scores = {first: model.predict_proba(asked)}
                reading = GaussianProcessMapping()
                reading.build(source.spec, data.info)
                behind = ReprogrammedModel(source, before.eval(), reading, data.info, build=False)
                reading.fit(behind.collect(known), to_tensor_labels(known.labels))
                scores[second] = behind.predict_proba(asked)
                for row, values in scores.items():
                    cell = {"target": name, "split": "stratified", "seed": seed, "labels": labels, "group": "trained"}
                    cell |= {"row": row, "cpu_seconds": time.process_time() - started, "test": len(test)}
                    metrics = measure(data, np.asarray(values), test)
                    append_line(cells, json.dumps(cell | metrics))
                    print(name, labels, seed, row, metrics, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bbbp", type=Path, help="CSV with smiles,p_np")
    parser.add_argument("--esol", type=Path, help="CSV with smiles,log_solubility")
    parser.add_argument("--targets", nargs="+", default=["bbbp", "amp"])
    parser.add_argument("--labels", type=int, nargs="+", default=[64])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--skip-plain", action="store_true", help="leave out the rows without a transformation")
    parser.add_argument("--cache", type=Path, default=Path(".cache/few_label_sequences"))
    options = parser.parse_args()
    cells = options.cache / "cells.jsonl"
    for name in options.targets:
        run(name, options, cells)
    print(json.dumps({"cells": len(read_lines(cells)), "versions": {"torch": torch.__version__}}))


if __name__ == "__main__":
    main()
