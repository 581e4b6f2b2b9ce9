"""The result page of cross_domain.py, from its finished cells."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
from scipy.stats import t

from reprogram.selection.maps import FOREIGN

READINGS = ("linear", "several layers", "label mapping")
COLUMNS = ("text", "untrained map", "trained map", "soft prompt", "random weights, untrained map", "random weights, trained map")
BASELINES = ("text", "untrained map")
ONCE_MORE = 110  # from this seed on: run once, after everything was chosen and stated on the seeds before
Cell = dict[str, Any]
Found = dict[tuple[str, str, int, str], dict[int, Cell]]


def page(cells: list[Cell], first_seed: int, epochs: int) -> str:
    found: Found = defaultdict(dict)
    for c in cells:
        found[c["source"], c["target"], c["labels"], c["row"]][c["seed"]] = c
    lines = [
        *_answer(cells, found),
        "ROC-AUC (several classes: each against the rest, averaged; esol: Spearman's rank correlation), seeds from",
        f"{first_seed} on. Mean over draws ± standard deviation. Epochs and learning rates were chosen on seeds 0 and 1, the",
        "candidates of `program=auto` on seeds 0 to 9 and training examples that those draws left over; seeds from",
        f"{ONCE_MORE} on were run once, after that.",
        f"The map is `token_map` of the target's tokens, trained for {epochs} epochs under a linear layer; *several layers* is a",
        "ridge on six layers fitted behind it; *label mapping* is `output=bayesian` on the source's own labels, and what stands",
        "in front was trained under it. Unknown: the share of characters without a token of the source, from which on",
        f"`program=auto` races maps ({100 * FOREIGN:.0f} %). Measured on {', '.join(sorted({c['device'] for c in cells}))}.",
        "",
        "| source | target | labels | unknown | draws | reading | trained minus untrained | " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * (7 + len(COLUMNS)),
    ]
    for key in dict.fromkeys((c["source"], c["target"], c["labels"]) for c in cells):
        lines += _rows(key, found)
    told = "Intervals are 95 % intervals of the mean over draws (Student's t); an empty cell was not run, or does"
    told += " not exist; (n): of fewer draws."
    return "\n".join([*lines, "", told, *_random_ahead(cells, found), "", *_auto(cells, found)])


def _rows(key: tuple[str, str, int], found: Found) -> list[str]:
    of = {row: found[(*key, row)] for row in COLUMNS}
    unknown = next(iter(c for row in of.values() for c in row.values()), {}).get("unread", 0.0)
    lines = []
    for reading in READINGS:
        values = {row: {s: c[reading] for s, c in of[row].items() if reading in c} for row in COLUMNS}
        if not any(values.values()):
            continue
        gain = difference(values["trained map"], values["untrained map"])
        shown = [_mean(list(values[row].values()), max(map(len, values.values()))) for row in COLUMNS]
        source, target, labels = key
        draws = max(map(len, values.values()))
        row = [source, target, str(labels), f"{unknown:.0%}", str(draws), reading, gain, *shown]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def difference(first: dict[int, float], second: dict[int, float]) -> str:
    """Mean gain in points over the draws that both have, with its interval."""
    gaps = [100 * (first[s] - second[s]) for s in sorted(first.keys() & second.keys())]
    if not gaps:
        return ""
    gain = f"{np.mean(gaps):+.1f} points"
    if len(gaps) > 2:
        half = float(t.ppf(0.975, len(gaps) - 1)) * np.std(gaps, ddof=1) / len(gaps) ** 0.5
        gain += f" ({np.mean(gaps) - half:+.1f} to {np.mean(gaps) + half:+.1f})"
    return gain


def _mean(values: list[float], draws: int = 0) -> str:
    """Mean ± deviation; how many draws where there are fewer than in the rest of the row."""
    if not values:
        return ""
    fewer = f" ({len(values)})" if len(values) < draws else ""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "") + fewer


def _answer(cells: list[Cell], found: Found) -> list[str]:
    """What a user should do, in a sentence, with what it gains."""
    gains: dict[tuple[bool, str], list[float]] = defaultdict(list)
    for key in dict.fromkeys((c["source"], c["target"], c["labels"]) for c in cells):
        of = {row: found[(*key, row)] for row in (*BASELINES, "trained map")}
        shared = sorted(set.intersection(*map(set, of.values())))
        for reading in READINGS[:2] if shared else ():
            means = {row: float(np.mean([draws[seed][reading] for seed in shared])) for row, draws in of.items()}
            gain = 100 * (means["trained map"] - max(means[row] for row in BASELINES))
            gains[of["text"][shared[0]]["unread"] > FOREIGN, reading].append(gain)
    told = {
        where: ", ".join(f"{np.mean(v):+.1f} with {name}" for (part, name), v in gains.items() if part == where)
        for where in (True, False)
    }
    return [
        "**Leave it to `program=auto`: train a map of tokens only in front of a source that has no tokens for your strings",
        f"(points over the better of text and untrained map, mean of sources and targets: {told[True]}).",
        f"Where the source can read them, training gives {told[False]}; peptides and DNA want the untrained map.**",
        "",
    ]


def _random_ahead(cells: list[Cell], found: Found) -> list[str]:
    """Where random weights do better than the best of the pretrained rows, on the draws that have both."""
    ahead = []
    for source, target, labels in dict.fromkeys((c["source"], c["target"], c["labels"]) for c in cells):
        rows = {row: draws for row in COLUMNS if (draws := found[source, target, labels, row])}
        shared = set.intersection(*map(set, rows.values())) if rows else set()
        mean = {
            (row, reading): float(np.mean([draws[seed][reading] for seed in shared]))
            for row, draws in rows.items()
            for reading in READINGS
            if shared and all(reading in draws[seed] for seed in shared)
        }
        random = max((v for (row, _), v in mean.items() if row.startswith("random")), default=0.0)
        pretrained = max((v for (row, _), v in mean.items() if not row.startswith("random")), default=0.0)
        if random > pretrained:
            ahead.append(f"{source} on {target} at {labels} labels ({random:.3f} against {pretrained:.3f})")
    return ["", f"Random weights are ahead of every pretrained row for {'; '.join(ahead)}."] if ahead else []


def _auto(cells: list[Cell], found: Found) -> list[str]:
    """How far the search is from what the test labels would have picked, and from the best baseline."""
    lines = [
        "## `program=auto`, three minutes",
        "",
        "The best row is picked by the test labels of each draw; the best baseline (text, untrained map) on average over draws.",
        "Differences are in points.",
        "",
        "| source | target | labels | seeds | `auto` | best row | within 1 point | best baseline | difference | chosen |",
        "|" + "---|" * 10,
    ]
    near: list[bool] = []
    oracle: list[bool] = []
    gaps: list[float] = []
    for key in dict.fromkeys((c["source"], c["target"], c["labels"]) for c in cells if c["row"] == "auto"):
        for seeds in (range(ONCE_MORE), range(ONCE_MORE, 10**6)):
            draws = _compared(key, found, seeds)
            if not draws:
                continue
            close = [draw["auto"] >= best(draw) - 0.01 for draw in draws.values()]
            baseline = max(float(np.mean(v)) for v in _by_pair(draws, BASELINES).values())
            autos = [draw["auto"] for draw in draws.values()]
            near, gaps = near + close, [*gaps, 100 * (float(np.mean(autos)) - baseline)]
            oracle += best_on_average(draws)
            names = Counter(found[(*key, "auto")][seed].get("chosen", "") for seed in draws)
            row = [*map(str, key), f"{min(draws)} to {max(draws)}", _mean(autos), _mean([best(draw) for draw in draws.values()])]
            row += [f"{sum(close)} of {len(close)}", f"{baseline:.3f}", f"{gaps[-1]:+.1f}"]
            lines.append("| " + " | ".join([*row, "; ".join(f"{name} ({n})" for name, n in names.most_common())]) + " |")
    if not near:
        return []
    told = f"`auto` is within 1 point of the best row in {np.mean(near):.0%} of {len(near)} cells; it is {np.mean(gaps):+.1f}"
    told += f" points from the best baseline on average, at least {min(gaps):+.1f}. Random weights are no row that it may take."
    spent = [c["seconds"] for c in cells if c["row"] == "auto" and "seconds" in c]
    told += f" A search with its refit took {np.median(spent):.0f} s at the median, {max(spent):.0f} at most, beside other work."
    if oracle:
        told += " Always taking the row that is best on average over the *other* draws, by test labels, is within 1 point"
        told += f" in {np.mean(oracle):.0%} of {len(oracle)} cells."
    return [*lines, "", told]


Draw = dict[Any, float]  # "auto" and (row, reading) -> score


def _compared(key: tuple[str, str, int], found: Found, seeds: range) -> dict[int, Draw]:
    """Draws that have every row, by seed."""
    draws = {}
    for seed, cell in sorted(found[(*key, "auto")].items()):
        rows = {row: found[(*key, row)].get(seed, {}) for row in COLUMNS[:4]}
        if seed in seeds and all(rows.values()):
            draws[seed] = {"auto": cell["auto"]} | {(row, r): c[r] for row, c in rows.items() for r in READINGS if r in c}
    return draws


def best(draw: Draw) -> float:
    """The best row by the draw's test labels."""
    return max(value for pair, value in draw.items() if pair != "auto")


def _by_pair(draws: dict[int, Draw], rows: tuple[str, ...] = COLUMNS) -> dict[Any, list[float]]:
    """(row, reading) -> its score in every draw, of pairs that all draws have."""
    pairs = set.intersection(*(set(draw) for draw in draws.values())) - {"auto"}
    return {pair: [draw[pair] for draw in draws.values()] for pair in sorted(pairs) if pair[0] in rows}


def best_on_average(draws: dict[int, Draw]) -> list[bool]:
    """Is the pair that is best on average over the other draws within 1 point of the best of this one?"""
    values = _by_pair(draws)
    if len(draws) < 2:
        return []
    scores = np.array(list(values.values()))  # [pairs, draws]
    others = scores.sum(1, keepdims=True) - scores
    picked = scores[others.argmax(0), np.arange(len(draws))]
    return [bool(p >= best(draw) - 0.01) for p, draw in zip(picked, draws.values(), strict=True)]
