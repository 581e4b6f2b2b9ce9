"""Cells of ``black_box.py`` as a page: means and deviations over seeds, and the shares of the white box's gain."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

START = "mapping_only (frequency)"
UNPAID = "white box"
INNER = "white box, inner layers, views"
SEARCHED = ("start of every search", "rgf", "spsa_gc", "cma_es", "white box, the searched prompt, top_k")
STAND_INS = {
    1000: ("local stand-in, copy predicts", "local stand-in, service predicts"),
    10000: ("local stand-in, polished by rgf",),
}
WANTED = {1000: 0.75, 10000: 0.90}


def table(
    rows: list[dict[str, Any]], shots: int, test: int = 0, wanted: Sequence[tuple[str, int, int]] = ()
) -> tuple[str, dict[str, Any]]:
    """The page as markdown, and its figures. ``wanted``: (target, seed, budget) of searches; what lacks is named."""
    cells = [row for row in rows if row["target"] != "throughput"]
    targets = list(dict.fromkeys(row["target"] for row in cells))
    kinds = sorted({(row["budget"], row["method"]) for row in cells}, key=_order)
    figures: dict[str, Any] = {"accuracy": {}, "share_of_gain": {}}
    lines = [
        "# A model behind a server, reprogrammed with queries alone",
        "",
        "Written by `python benchmarks/black_box.py --table docs/results/black_box.md`.",
        "",
        "EfficientNet-Lite0 (1,000 ImageNet classes, probabilities as answers, 8-bit images) behind MLServer in its own "
        f"process; {shots} labels a class, ten classes. Test accuracy: mean ± standard deviation over seeds, (number of "
        "seeds); *test* is the number of test images, the same for every seed. *Queries* are training queries, the most "
        "that any target needed; test queries are counted apart.",
        "",
        "| program | budget | queries | test | " + " | ".join(targets) + " |",
        "|---|---|---|---|" + "---|" * len(targets),
    ]
    for budget, method in kinds:
        found = [r for r in cells if (r["budget"], r["method"]) == (budget, method)]
        shown = [_shown([r["accuracy"] for r in found if r["target"] == t]) for t in targets]
        queries = max(r["queries"] for r in found)
        size = " / ".join(str(n) for n in sorted({r.get("test", test) for r in found}))
        lines.append(f"| {method} | {budget or '–'} | {queries or '–'} | {size} | " + " | ".join(shown) + " |")
        figures["accuracy"][f"{method} @ {budget}"] = {
            t: _mean([r["accuracy"] for r in found if r["target"] == t]) for t in targets
        }
    for part in (
        _gains(cells, targets, figures),
        _searches(cells, targets),
        _not_run(cells, wanted),
        _throughput(rows, figures),
    ):
        lines += ["", *part] if part else []
    figures["seeds"] = sorted({row["seed"] for row in cells})
    figures["shots"] = shots
    return "\n".join(lines) + "\n", figures


def _gains(cells: list[dict[str, Any]], targets: Sequence[str], figures: dict[str, Any]) -> list[str]:
    """Share of the gain over mapping-only that the best white-box program makes from the logits alone."""
    lines = [
        "## How much of the white box's gain do queries reach?",
        "",
        f"Gain over `{START}`, as a share of the gain of the best white-box program that sees logits only (for each seed "
        "the best by its own test accuracy, which favours the white box). Programs whose predictions come from the service "
        "count, on the seeds that the white box has.",
        "",
        "| target | mapping only | best white box, logits | "
        + " | ".join(f"{budget:,} queries, share (wanted {wanted:.0%})" for budget, wanted in WANTED.items())
        + " | reached |",
        "|---|---|---|" + "---|" * (len(WANTED) + 1),
    ]
    for target in targets:
        here = [c for c in cells if c["target"] == target]
        white = {c["seed"]: c for c in sorted(here, key=lambda c: c["accuracy"]) if _logits_only(c["method"])}
        seeds = [c["seed"] for c in here if c["method"] == START and c["seed"] in white]
        if not seeds:
            continue
        start = _mean([c["accuracy"] for c in here if c["method"] == START and c["seed"] in seeds])
        best = _mean([white[seed]["accuracy"] for seed in seeds])
        named = ", ".join(sorted({white[seed]["method"].removeprefix("white box, ") for seed in seeds}))
        shown, reached, shares = [], True, {}
        for budget, wanted in WANTED.items():
            paid = _means(c for c in here if 0 < c["budget"] <= budget and c["seed"] in seeds and _served(c["method"]))
            (at, method), accuracy = max(paid.items(), key=lambda item: item[1])
            share = (accuracy - start) / (best - start)
            shown.append(f"{accuracy:.3f}, {share:.0%} ({method} @ {at:,})")
            reached, shares[budget] = reached and share >= wanted, share
        figures["share_of_gain"][target] = {"seeds": seeds, **shares}
        lines.append(
            f"| {target} (seeds: {len(seeds)}) | {start:.3f} | {best:.3f} ({named}) | "
            + " | ".join(shown)
            + f" | {'yes' if reached else 'no'} |"
        )
    return lines


def _searches(cells: list[dict[str, Any]], targets: Sequence[str]) -> list[str]:
    """Zeroth-order methods with the same program, accuracy against queries."""
    budgets = sorted({c["budget"] for c in cells if c["method"] in SEARCHED[1:4]})
    if not budgets:
        return []
    first = next(c for c in cells if c["method"] in SEARCHED[1:4])
    lines = [
        "## Search without gradients",
        "",
        f"All rows train the same prompt ({first['trained']} values, scaled up to the image) in front of the same `top_k` "
        "map, from the same start; the white box trains it with the source's gradients. A search is judged on three labels "
        "in ten of each class, which it does not use, inside its budget; one that is not better than its start by more than "
        "one standard error hands the start back (*start kept*: in so many of the runs). The first move of spsa_gc was chosen "
        "on digits with seed 7, which no row uses.",
        "",
        "| target | start | "
        + " | ".join(f"{m}, {b:,} queries" for m in SEARCHED[1:4] for b in budgets)
        + " | gradients |",
        "|---|---|" + "---|" * (3 * len(budgets) + 1),
    ]
    for target in targets:
        at: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for c in cells:
            if c["target"] == target:
                at.setdefault((c["method"], c["budget"]), []).append(c)
        wanted = [(SEARCHED[0], 1000), *((m, b) for m in SEARCHED[1:4] for b in budgets), (SEARCHED[4], 0)]
        lines.append(f"| {target} | " + " | ".join(_searched(at.get(key, [])) for key in wanted) + " |")
    return [*lines, "", _against_start(cells)]


def _against_start(cells: Sequence[dict[str, Any]]) -> str:
    """How many judged searches the test set puts above, at and below the start of their own seed."""
    starts = {(c["target"], c["seed"]): c["accuracy"] for c in cells if c["method"] == SEARCHED[0]}
    judged = [c for c in cells if c.get("search") and (c["target"], c["seed"]) in starts]
    gains = [c["accuracy"] - starts[c["target"], c["seed"]] for c in judged]
    below = ", ".join(
        f"{c['target']} {c['method']} at {c['budget']:,} queries by {-gain:.3f}"
        for c, gain in zip(judged, gains, strict=True)
        if gain < 0
    )
    return (
        f"Against the start of the same seed, on the test images: {sum(g > 0 for g in gains)} of {len(gains)} judged "
        f"programs are better, {sum(g == 0 for g in gains)} the same, {sum(g < 0 for g in gains)} worse"
        + (f" ({below})." if below else ".")
    )


def _searched(cells: Sequence[dict[str, Any]]) -> str:
    """Accuracies, and how many of the searches handed their start back."""
    judged = [c["search"]["kept"] for c in cells if c.get("search")]
    kept = f"; start kept {judged.count('start')}/{len(judged)}" if judged else ""
    return _shown([c["accuracy"] for c in cells]) + kept


def _not_run(cells: list[dict[str, Any]], wanted: Sequence[tuple[str, int, int]]) -> list[str]:
    """What a complete run would have, and these cells do not."""
    found = {(c["target"], c["seed"], c["budget"], c["method"]) for c in cells}
    lacking: dict[tuple[int, str], int] = {}
    for target, seed, budget in wanted:
        for method in (*SEARCHED[1:4], *STAND_INS.get(budget, ())):
            if (target, seed, budget, method) not in found:
                lacking[budget, method] = lacking.get((budget, method), 0) + 1
    if not lacking:
        return []
    total = len({(target, seed) for target, seed, _ in wanted})
    said = [f"{method} at {budget:,} queries ({n} of {total})" for (budget, method), n in sorted(lacking.items())]
    return ["**Not run** (cells of target and seed): " + ", ".join(said) + "."]


def _throughput(rows: list[dict[str, Any]], figures: dict[str, Any]) -> list[str]:
    found = [row for row in rows if row["target"] == "throughput"]
    if not found:
        return []
    plain, ours, share = (
        statistics.median(row[key] for row in found) for key in ("plain_per_second", "client_per_second", "share")
    )
    figures["throughput"] = {
        "plain_per_second": plain,
        "client_per_second": ours,
        "share": share,
        "shares": [row["share"] for row in found],
    }
    each = ", ".join(f"{row['share']:.0%}" for row in found)
    return [
        "## Throughput",
        "",
        f"A plain load loop (one prepared request of 32 images sent again and again, two at a time) gets {plain:.0f} images "
        f"a second from the server, the client {ours:.0f} (medians of {len(found)} repeats; in each, {found[0]['blocks']} "
        f"blocks of {found[0]['block']} images of either kind in turn). Share in each repeat: {each}; median {share:.0%}; "
        f"wanted: 90%, {'reached' if share >= 0.9 else 'not reached'}.",
    ]


def _logits_only(method: str) -> bool:
    return method.startswith(UNPAID) and method != INNER


def _served(method: str) -> bool:
    """The predictions come from the service."""
    return "copy predicts" not in method


def _means(cells: Any) -> dict[tuple[int, str], float]:
    groups: dict[tuple[int, str], list[float]] = {}
    for cell in cells:
        groups.setdefault((cell["budget"], cell["method"]), []).append(cell["accuracy"])
    return {key: _mean(values) for key, values in groups.items()}


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else float("nan")


def _shown(values: Sequence[float]) -> str:
    if not values:
        return "–"
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{_mean(values):.3f}{spread} ({len(values)})"


def _order(kind: tuple[int, str]) -> tuple[Any, ...]:
    """Closed forms, searches, stand-ins, white boxes."""
    budget, method = kind
    group = 3 if method.startswith(UNPAID) else 2 if method.startswith("local") else 1 if method in SEARCHED else 0
    return group, method if group == 1 else "", budget, method
