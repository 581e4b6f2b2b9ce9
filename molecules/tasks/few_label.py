"""The closed loop: few measured molecules -> reprogrammed predictor -> design where it applies -> predicted against real.

With an RDKit property as the laboratory the real value of every designed molecule is known, and so is the gap; with a
table of measurements (ESOL) only the prediction is.
"""

from __future__ import annotations

import csv
import io
from typing import Annotated, Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig
from scipy.stats import spearmanr

from molecules import chemistry, recipe, report
from molecules.constraints.config import ConstraintConfig
from molecules.objective import Objective, Scored, Term
from molecules.oracles.descriptor import descriptor
from molecules.oracles.predictor import KNOWN, Predictor
from molecules.run_search import Found, search
from molecules.starts import zinc_file
from molecules.targets import molecules_csv
from reprogram.applicability.base import Applicability
from reprogram.artifact import save_pretrained
from reprogram.errors import ConfigError
from reprogram.hooks import Run
from reprogram.interfaces import SourceModel, TargetTask
from reprogram.model import ReprogrammedModel
from reprogram.progress import console, progress
from reprogram.ranges import Amount, Count, NotEmpty, NotNegative, Range, Share
from reprogram.report.blocks import facts, table
from reprogram.report.charts import scatter
from reprogram.result import finite, write_atomically
from reprogram.tasks._run import start
from reprogram.training.loop import Training, fit

HELD_OUT = 200  # molecules that only measure the predictor
TRUSTED = 0.3  # share of held-out variance below which the verdict warns
JUDGED = 20  # best designed molecules that the report compares with reality


OPTIONS: dict[str, Any] = {
    "property": NotEmpty | None,
    "table.path": NotEmpty | None,
    "table.smiles": NotEmpty,
    "table.value": NotEmpty | None,
    "labels": Annotated[int, Range(4, 10**7)],
    "members": Annotated[int, Range(2, 1000)],
    "confidence_bound": NotNegative,
    "applicability_threshold": Share,
    "budget": Amount,
    "stop_at": float | None,
    "diversity.bucket": Count | None,
    "diversity.min_score": float,
}


def run(config: DictConfig) -> float | None:
    """One loop, top to bottom. Returns the mean real value of the best designed molecules, or the predicted one."""
    context = start(config)
    target = measure(context)
    known = target.train.batch(np.arange(len(target.train)))
    recipe.hold(context, known)
    models = learn(context, target)
    quality = judge_predictor(Predictor(models=list(models)), target)
    found = design(context, models, known)
    best = sorted((s for s in found.calls if s.feasible), key=lambda s: (s.rank, -s.call), reverse=True)
    gap = compare(context.config["property"], best[:JUDGED], target)
    write(context, found, best, quality | gap)
    return gap.get("real_mean", gap.get("predicted_mean"))


def measure(context: Run) -> TargetTask:
    """The measured molecules: the user's table, or ZINC molecules with an RDKit property as ``measured.csv``."""
    settings = context.config
    path, smiles, value = settings["table"]["path"], "smiles", settings["property"]
    test_size: float = HELD_OUT
    if value is not None:
        path = str(context.dir / "measured.csv")
        write_measured(context, path, value, settings["labels"] + HELD_OUT)
    elif path is None or settings["table"]["value"] is None:
        raise ConfigError("table.path and table.value must be given where property=null.")
    else:
        smiles, value, test_size = settings["table"]["smiles"], settings["table"]["value"], 0.2
    target = molecules_csv(
        path, smiles, value, labels=settings["labels"], problem="regression", test_size=test_size, seed=context.seed
    )
    return target


def write_measured(context: Run, path: str, name: str, count: int) -> None:
    """A table of ``count`` ZINC molecules with an RDKit property, as if it had been measured."""
    function, lines = descriptor(name), zinc_file().read_text().split()
    found: dict[str, float] = {}
    for row in np.random.default_rng([context.seed, 7]).permutation(len(lines)).tolist():
        cleaned = chemistry.clean(lines[row])
        mol = chemistry.parse(cleaned.smiles) if cleaned else None
        if cleaned is not None and mol is not None:
            found[cleaned.smiles] = function(mol)
        if len(found) == count:
            break
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["smiles", name])
    writer.writerows(found.items())
    write_atomically(context.dir / "measured.csv", text.getvalue())


def learn(context: Run, target: TargetTask) -> list[ReprogrammedModel]:
    """An ensemble of programs around one frozen source, each from a random 80% of the labels; kept in ``program/``."""
    settings = context.config
    if settings["members"] < 2:
        raise ConfigError(f"members is {settings['members']}; an ensemble needs at least 2.")
    source: SourceModel = instantiate(settings["source"]).to(context.device)
    rng = np.random.default_rng([context.seed, 8])
    known = "\n".join(target.train.batch(np.arange(len(target.train)))) + "\n"
    models = []
    for member in range(settings["members"]):
        model = ReprogrammedModel(
            source, instantiate(settings["input"]), instantiate(settings["output"]), target.info
        )  # fmt: skip
        rows = np.sort(rng.permutation(len(target.train))[: max(2, round(0.8 * len(target.train)))])
        fit(model, target.train.subset(rows), Training(epochs=0), seed=context.seed + member)
        model.applicability = Applicability.of(model, target.train, target.train_rows)
        folder = save_pretrained(model, context.dir / "program" / f"member_{member + 1}")
        write_atomically(folder / KNOWN, known)
        models.append(model)
    return models


def judge_predictor(predictor: Predictor, target: TargetTask) -> dict[str, Any]:
    """On molecules that nothing was learned from."""
    strings = target.test.batch(np.arange(len(target.test)))
    predicted, real = predictor.score(strings), np.asarray(target.test.labels, dtype=float).reshape(-1)
    rest = float(((real - predicted) ** 2).sum() / ((real - real.mean()) ** 2).sum())
    return {
        "held_out": {
            "molecules": len(real),
            "mean_absolute_error": float(np.abs(real - predicted).mean()),
            "r2": 1 - rest,
            "spearman": float(spearmanr(real, predicted).statistic),
        }
    }


def design(context: Run, models: list[ReprogrammedModel], known: list[str]) -> Found:
    """Search by the lower confidence bound of the predictor, from the measured molecules, staying near them."""
    settings = context.config
    options: ConstraintConfig = instantiate(settings["constraints"], _convert_="all")
    options.similarity = max(options.similarity or 0.0, settings["applicability_threshold"])
    predictor = Predictor(
        models=list(models), applicability_threshold=settings["applicability_threshold"], known=known
    )
    term = Term(predictor, confidence_bound=settings["confidence_bound"])
    objective = Objective([term], options.constraints(known), "arithmetic")
    serial = settings | {"parallel": settings["parallel"] | {"backend": "serial"}}
    with progress("designing", settings["budget"]) as bar:
        return search(serial, objective, known, context.dir / "calls.jsonl", [context.seed, 9], bar)


def compare(name: str | None, best: list[Scored], target: TargetTask) -> dict[str, Any]:
    """Predicted against real values of the best designed molecules."""
    measured = np.asarray(target.train.labels, dtype=float).reshape(-1)
    result: dict[str, Any] = {
        "predicted_mean": float(np.mean([next(iter(s.raw.values())) for s in best])) if best else None,
        "lower_bound_mean": float(np.mean([s.score for s in best])) if best else None,
        "measured_mean": float(measured.mean()),
        "measured_best": float(measured.max()),
    }
    if name is not None and best:
        function = descriptor(name)
        real = [function(m) for s in best if (m := chemistry.parse(s.smiles)) is not None]
        result |= {
            "real": real,
            "real_mean": float(np.mean(real)),
            "real_best": float(np.max(real)),
            "gap": result["predicted_mean"] - float(np.mean(real)),
        }
    return result


def write(context: Run, found: Found, best: list[Scored], loop: dict[str, Any]) -> None:
    """The files of a design run, with predicted against real values in front."""
    report.write_csv(
        context.dir / "molecules.csv", sorted(found.calls, key=lambda s: s.listed, reverse=True), found.objective
    )
    report.write_sdf(context.dir / "molecules.sdf", best[: report.IN_SDF], found.objective)
    grid = report.draw(context.dir / "molecules.png", best[: report.PICTURED])
    verdict = verdict_of(context.config["property"], loop)
    context.result.data |= report.summary(found, best, verdict) | {"loop": finite(loop)}
    page = report.page(found, best, verdict, grid)
    page.section("Predicted against real", *compared(context.config["property"], best[:JUDGED], loop))
    page.sections.insert(0, page.sections.pop())
    page.write(context.dir)
    context.result.write(context.dir)
    console.print(f"{verdict}\nresults in {context.dir}", soft_wrap=True)


def verdict_of(name: str | None, loop: dict[str, Any]) -> str:
    """The first sentence of the report."""
    if loop["predicted_mean"] is None:
        return "No feasible molecule was found where the predictor applies."
    explained = loop["held_out"]["r2"]
    doubt = f"The predictor explains only {max(explained, 0):.0%} of held-out variance, so trust nothing below. "
    head = (
        doubt if explained < TRUSTED else ""
    ) + f"The best {JUDGED} designed molecules: predicted {loop['predicted_mean']:.3f}"
    if "real_mean" not in loop:
        return f"{head}, against a measured mean of {loop['measured_mean']:.3f}; their real values are not known."
    return (
        f"{head}, really {loop['real_mean']:.3f} (a gap of {loop['gap']:+.3f}); the measured molecules have a mean of "
        f"{loop['measured_mean']:.3f} and a best of {loop['measured_best']:.3f} {name}."
    )


def compared(name: str | None, best: list[Scored], loop: dict[str, Any]) -> list[Any]:
    """Predicted and real values of the designed molecules, as blocks of the report."""
    predicted = [next(iter(s.raw.values())) for s in best]
    rows = [
        [s.smiles, p, s.score, *([loop["real"][i]] if "real" in loop else [])]
        for i, (s, p) in enumerate(zip(best, predicted))
    ]
    blocks: list[Any] = [facts({f"held out: {k}".replace("_", " "): v for k, v in loop["held_out"].items()})]
    if "real" in loop and len(best) > 1:
        blocks.append(scatter(loop["real"], predicted, "predicted against real values", x="real", y="predicted"))
    headers = ["SMILES", "predicted", "lower bound", *(["real"] if "real" in loop else [])]
    return [
        *blocks,
        table(headers, rows, caption=f"The best {len(best)}; nothing of the real values was used to find them."),
    ]
