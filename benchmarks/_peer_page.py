"""The page of ``peers.py``, from its cells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from _peer_methods import SWITCHES
from _peer_pairs import PAIRS

Cells = list[dict[str, Any]]
NOISE = 2.0  # standard errors of the paired differences
FIRST = {"published": "nothing: as published"}
AUTHORS_SIDE = 224
ROUNDED = "network and order of images: rounding and lot"
INTRODUCTION = """\
Frozen EfficientNet-Lite0, 16 labels a class, ten classes. *Published* is the method built from its authors' own classes and
functions, with the optimisers, schedule, batch, start and half precision of its script; *ours* is this toolkit with the same
settings. The program of the last epoch counts on both sides: no epoch is chosen by test images.

What is not the authors' own: the loop around the classes, written from each script call by call; the resizing of images, one
function for both sides; loggers, CLIP and plots that their files import, which are stand-ins where they are not installed, and
kornia's `scale`, the same formula. LoR-VP's class names attributes in a log line that nothing sets (0 here), and its script
never builds the prompt (`LoR_VP` against `lor_vp`; it is built here); its 256 images a step would be one step an epoch, so the
64 of its parser's default are used. SMM's script enlarges an image by 32 px of 224 before it crops; here, by the same share of
the side. BlackVIP's frozen encoder of 86 million values is not bundled: its own configuration with
the small encoder (`coordinator_init`) is used, with a mapping by counts in place of CLIP's texts.
"""


def page(cells: Cells) -> tuple[str, dict[str, Any]]:
    """Markdown and figures."""
    parts: dict[str, Cells] = defaultdict(list)
    for cell in cells:
        parts[cell["part"]].append(cell)
    figures: dict[str, Any] = {}
    lines = [
        INTRODUCTION,
        *agreements(parts["agreement"]),
        *in_step(parts["steps"], figures),
        *late(parts["late"], figures),
        *repeats(parts["repeats"], figures),
        *accuracies(parts["accuracy"], steps(parts["ladder"]), figures),
        *ladders(parts["ladder"], figures),
        *searches(parts["black_box"], figures),
        *speeds(parts["speed"], parts["memory"], figures),
        *missing(parts),
    ]
    return "\n".join(lines) + "\n", figures


def missing(parts: dict[str, Cells]) -> Iterator[str]:
    """What the benchmark measures and this page lacks, so that nobody takes a part for the whole."""
    wanted = {
        "agreement": "parts on the same numbers",
        "steps": "both loops step by step",
        "accuracy": "accuracy",
        "ladder": "causes",
        "repeats": "runs of one loop from starts a millionth apart",
        "black_box": "searches without gradients",
        "speed": "seconds of an epoch",
        "memory": "memory",
    }
    lacking = [words for part, words in wanted.items() if not parts[part]]
    if lacking:
        yield from ("", f"**Not measured yet:** {'; '.join(lacking)}.")
    partly = {part: [m for m in PAIRS if m not in {c["method"] for c in parts[part]}] for part in ("accuracy", "ladder", "speed")}
    for part, methods in partly.items():
        if parts[part] and methods:
            yield from ("", f"**Not measured yet,** {wanted[part]}: {', '.join(methods)}.")
    whole = {c["method"] for c in parts["accuracy"] if as_published(c)}
    if parts["accuracy"] and (smaller := [m for m in PAIRS if m not in whole]):
        words = "accuracy at the authors' resolution and epochs"
        yield from ("", f"**Not measured yet,** {words}: {', '.join(smaller)}.")


def as_published(cell: dict[str, Any]) -> bool:
    """Is the cell at the authors' resolution and epochs?"""
    return bool(cell["side"] >= AUTHORS_SIDE and cell["epochs"] >= PAIRS[cell["method"]].epochs)


def grouped(cells: Cells, *keys: str) -> dict[tuple[Any, ...], dict[int, float]]:
    """(values of ``keys``) -> seed -> accuracy."""
    found: dict[tuple[Any, ...], dict[int, float]] = defaultdict(dict)
    for cell in cells:
        found[tuple(cell[key] for key in keys)][cell["seed"]] = cell["accuracy"]
    return found


def spread(values: Iterable[float]) -> str:
    """Mean ± standard error (number)."""
    values = list(values)
    if not values:
        return "–"
    error = f" ± {np.std(values, ddof=1) / len(values) ** 0.5:.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{error} ({len(values)})"


def difference(ours: dict[int, float], theirs: dict[int, float]) -> tuple[float, float]:
    """Mean difference over the seeds that both have, and its standard error (NaN for one seed)."""
    both = sorted(ours.keys() & theirs.keys())
    gaps = [ours[s] - theirs[s] for s in both]
    if not gaps:
        return float("nan"), float("nan")
    return float(np.mean(gaps)), float(np.std(gaps, ddof=1) / len(gaps) ** 0.5) if len(gaps) > 1 else float("nan")


def signed(gap: float, error: float) -> str:
    return f"{gap:+.3f}" + ("" if np.isnan(error) else f" ± {error:.3f}")


def where(cells: Cells) -> str:
    return f"Computed on: {'; '.join(sorted({cell['device'] for cell in cells}))}."


def agreements(cells: Cells) -> Iterator[str]:
    if not cells:
        return
    yield from ("", "## The same numbers in, the same numbers out", "")
    yield "Parts of both sides with the same random values; the worst over seeds."
    yield from ("", "| what is compared | ours | value |", "|---|---|---|")
    for row in cells[-1]["rows"]:
        yield f"| {row['what']} | `{row['option']}` | {row['value']:.3g} |"
    yield ""
    yield "Counting differs where counts are equal: the published code then takes the source class with the smallest number,"
    yield "ours the one with the larger summed probability. AutoVP's frame ends at a whole pixel and gives its scale no gradient;"
    yield "ours falls off over one pixel."


def in_step(cells: Cells, figures: dict[str, Any]) -> Iterator[str]:
    """Both loops from one start on the same batches."""
    if not cells:
        return
    shown = [n for n in (1, 2, 4, 8, 16) if n <= len(cells[0]["ours"])]
    yield from ("", "## The same loop, step by step", "")
    yield "Both loops from the same start, on the same batches in the same order, where the published classes make our choices"
    yield "(a later section weighs them): the largest difference of an epoch's loss so far, as a share of it, and how far the"
    yield "trained values lie apart after the last of these epochs, as a share of their length. With the *same* network inside,"
    yield "what differs is rounding; with its *package's*, whose BatchNorm is a step of its own, every answer is rounded apart,"
    yield "and training multiplies it. Schedule: the first epochs of the authors' whole run."
    yield f"{', '.join(sorted({c['data'] for c in cells}))}. {where(cells)}"
    epochs = " | ".join(f"epoch {n}" for n in shown)
    yield from ("", f"| method | steps an epoch | network | {epochs} | program | first over 1% |")
    yield "|---" * (5 + len(shown)) + "|"
    for cell in sorted(cells, key=lambda c: (c["who"] != "alike", list(PAIRS).index(c["method"]))):
        but = cell["who"].removeprefix("but ") if cell["who"] != "alike" else ""
        for who in ("same network", "package's network"):
            gaps = np.abs(np.array(cell["ours"]) / np.array(cell[who]) - 1)
            reached = " | ".join(f"{gaps[:n].max():.0e}" for n in shown)
            over = f"epoch {np.argmax(gaps > 0.01) + 1}" if (gaps > 0.01).any() else "none"
            name = cell["method"] + (", each with its own scale" if but == "fixed" else "")
            program = f"{cell[f'{who}, program'][-1]:.0e}"
            yield f"| {name} | {cell['steps']} | {who.removesuffix(' network')} | {reached} | {program} | {over} |"
            figures.setdefault("in_step", {})[f"{name}, {who}"] = [float(gaps[:n].max()) for n in shown]
    compared = [c for c in cells if c["who"] == "alike"]
    exact = [sum(a == b for a, b in zip(c["ours"], c["same network"], strict=True)) for c in compared]
    whole = [c["method"] for c, n in zip(compared, exact, strict=True) if n == len(c["ours"])]
    yield ""
    every = sum(len(c["ours"]) for c in compared)
    yield f"With the same network, the loss is the same to the last bit in {sum(exact)} of {every} epochs of the first"
    yield f"{len(compared)} methods{', in all of them for ' + ', '.join(whole) if whole else ''}."
    yield "Left out on both sides: SMM's random crops; AutoVP's training of its scale, in all rows but the last two."


def late(cells: Cells, figures: dict[str, Any]) -> Iterator[str]:
    """BLM where its mapping is one step old."""
    if not cells:
        return
    yield from ("", "## A mapping that is one step old", "")
    yield "With so few images one step is an epoch. BLM's script then counts before each step, in a pass of its own; its faster"
    yield "script (`train_vm_fast.py`) and, at first, this toolkit counted what the step before had answered. Authors' classes,"
    yield f"{', '.join(str(n) for n in sorted({c['epochs'] for c in cells}))} epochs, our network inside. {where(cells)}"
    found = grouped(cells, "method", "data", "who")
    yield from ("", "| method | data | counted at once | one step old | difference |", "|---|---|---|---|---|")
    for method, data in dict.fromkeys((m, d) for m, d, _ in found):
        now, old = found.get((method, data, "at once"), {}), found.get((method, data, "late"), {})
        gap, error = difference(old, now)
        yield f"| {method} | {data} | {spread(now.values())} | {spread(old.values())} | {signed(gap, error)} |"
        figures.setdefault("late", {})[f"{method}, {data}"] = [gap, error]
    yield ""
    yield "A stale mapping helps at one side and harms at another; why the sign turns is not known. Since a step that sees every"
    yield "image can count its own answers before its own loss, ours now does so: the published rule without a pass for it. In"
    yield "longer epochs ours counts the training pass of the epoch before, as the faster script does."


def repeats(cells: Cells, figures: dict[str, Any]) -> Iterator[str]:
    """One published loop several times, from starts that differ in the sixth decimal."""
    if not cells:
        return
    yield from ("", "## How much is chance", "")
    yield "One published loop several times, with the same labels and the same batches in the same order; only the start of its"
    yield "prompt is moved by a millionth, as another rounding would. By so much one and the same published code differs"
    yield f"between two machines. Our network is inside, for speed. {where(cells)}"
    yield from ("", "| method | data | epochs | accuracies | mean | standard deviation |", "|---|---|---|---|---|---|")
    for method in [m for m in PAIRS if any(c["method"] == m for c in cells)]:
        found = sorted(c["accuracy"] for c in cells if c["method"] == method)
        one = next(c for c in cells if c["method"] == method)
        values = f"{', '.join(f'{a:.3f}' for a in found)} | {np.mean(found):.3f} | {np.std(found, ddof=1):.3f}"
        yield f"| {method} | {one['data']} | {one['epochs']} | {values} |"
        figures.setdefault("repeats", {})[method] = found


def steps(cells: Cells) -> dict[str, list[tuple[str, dict[int, float], float, float]]]:
    """method -> the ladder's steps: (rung, accuracies of the seeds, mean step, its standard error), the published loop first."""
    found = grouped(cells, "method", "who")
    ladder: dict[str, list[tuple[str, dict[int, float], float, float]]] = {}
    for method in [m for m in PAIRS if any(m == name for name, _ in found)]:
        rungs = [who for name, who in found if name == method]
        rungs.sort(key=lambda rung: {"published": -1, "ours": 99}.get(rung, rung.count("+")))
        before = found[method, rungs[0]]
        ladder[method] = [(FIRST.get(rungs[0], ROUNDED), before, 0.0, 0.0)]
        for rung in rungs[1:]:
            now = found[method, rung]
            gap, error = difference(now, before)
            ladder[method].append((rung.split("+")[-1], now, gap, error))
            before = now
    return ladder


def sampled(now: dict[int, float], before: dict[int, float], tested: int) -> float:
    """Standard error of the difference of two shares of ``tested`` images, where one seed cannot say more."""
    shares = [share for side in (now, before) for share in side.values()]
    return float(sum(p * (1 - p) for p in shares) / tested) ** 0.5


def is_cause(gap: float, error: float) -> bool:
    return bool(abs(gap) > NOISE * error and abs(gap) > 1e-9)  # one seed has no error, and names nothing


def causes(ladder: list[tuple[str, dict[int, float], float, float]]) -> str:
    """The steps over noise, largest first, in words."""
    over = [(name, gap) for name, _, gap, error in ladder[1:] if is_cause(gap, error)]
    over.sort(key=lambda step: -abs(step[1]))
    return "; ".join(f"{SWITCHES.get(name, 'our own loop')} ({gap:+.3f})" for name, gap in over)


def accuracies(cells: Cells, ladder: dict[str, Any], figures: dict[str, Any]) -> Iterator[str]:
    if not cells:
        return
    yield from ("", "## Accuracy at the authors' settings", "")
    images = ", ".join(str(n) for n in sorted({c["test"] for c in cells}))
    yield f"Mean ± standard error (number of seeds, from 0) on {images} test images, at the source resolution beside the data."
    yield "*At least theirs*: ours is not more than one standard error of the paired differences below (with one seed: of the two"
    yield "test samples, which says nothing of other seeds). A *cause* is asked for where the difference exceeds two of them; the"
    yield f"steps over noise of the next section are its names. {where(cells)}"
    epochs, tested = ({(c["method"], c["data"]): c[what] for c in cells} for what in ("epochs", "test"))
    smaller = sorted({c["side"] for c in cells if c["side"] < AUTHORS_SIDE})
    if smaller or any(n < PAIRS[m].epochs for (m, _), n in epochs.items()):
        yield f"The authors' own: {AUTHORS_SIDE} px, 200 epochs (LoR-VP 20). What is smaller here is a smaller experiment; rows"
        yield "of another resolution come from the same command with their `--side`, `--epochs`, `--methods` and `--seeds`."
        yield "A published method near 0.1, which is chance, has not begun to learn in so few steps: such a row is no victory."
    yield from ("", "| method | epochs | ours is | data | published | ours | difference | at least theirs | cause |")
    yield "|---|---|---|---|---|---|---|---|---|"
    found = grouped(cells, "method", "data", "who")
    for method in PAIRS:
        for data in dict.fromkeys(c["data"] for c in cells):
            theirs, own = found.get((method, data, "published"), {}), found.get((method, data, "ours"), {})
            if not theirs or not own:
                continue
            gap, error = difference(own, theirs)
            one_seed = np.isnan(error)
            error = sampled(own, theirs, tested[method, data]) if one_seed else error
            held = gap >= -error
            figures.setdefault("accuracy", {})[f"{method}, {data}"] = [gap, error]
            both = f"{spread(theirs.values())} | {spread(own.values())} | {signed(gap, float('nan') if one_seed else error)}"
            options = f"{epochs[method, data]} | `{PAIRS[method].options}`"
            named = causes(ladder.get(method, [])) or "not named"
            cause = "one seed" if one_seed else named if is_cause(gap, error) else "within noise"
            yield f"| {method} | {options} | {data} | {both} | {'yes' if held else 'no'} | {cause} |"
    yield from over_all(found, figures)


def over_all(found: dict[tuple[Any, ...], dict[int, float]], figures: dict[str, Any]) -> Iterator[str]:
    """Of methods with several rows, the paired difference over all of them."""
    words = []
    for method in PAIRS:
        sides = [data for name, data, who in found if name == method and who == "ours"]
        pairs = [{(d, s): a for d in sides for s, a in found.get((method, d, who), {}).items()} for who in ("ours", "published")]
        both = pairs[0].keys() & pairs[1].keys()
        if len(sides) > 1 and len(both) > 1:
            gap, error = difference(*[dict(enumerate(side[key] for key in sorted(both))) for side in pairs])
            words.append(f"{method} {signed(gap, error)} ({len(both)} pairs)")
            figures.setdefault("over_all", {})[method] = [gap, error]
    if words:
        yield from ("", f"Over all rows of a method: {'; '.join(words)}.")


def ladders(cells: Cells, figures: dict[str, Any]) -> Iterator[str]:
    """From the published loop to ours, one choice at a time."""
    if not cells:
        return
    yield from ("", "## Which choice makes which difference", "")
    yield "From the published loop to ours by replacing one choice after the other, all above it staying replaced; the last"
    yield "of these choices leaves the authors' classes with every choice of ours. On a CPU the first row has our network and our"
    yield "order of images already: rounding and lot. A step is named as a cause where it exceeds two standard errors of its"
    yield "paired differences; one seed names nothing."
    yield where(cells)
    about = {c["method"]: (c["data"], c["side"], c["epochs"], c["test"]) for c in cells}
    for method, ladder in steps(cells).items():
        data, side, epochs, test = about[method]
        yield from ("", f"### {method}", "", f"{data}, {side} px, {epochs} epochs, {test} test images.", "")
        yield from ("| replaced | accuracy | step | cause |", "|---|---|---|---|")
        yield f"| {ladder[0][0]} | {spread(ladder[0][1].values())} | | |"
        for name, now, gap, error in ladder[1:]:
            words = "what is left: our own loop" if name == "ours" else SWITCHES[name]
            yield f"| {words} | {spread(now.values())} | {signed(gap, error)} | {'yes' if is_cause(gap, error) else ''} |"
            figures.setdefault("ladder", {}).setdefault(method, {})[name] = [gap, error]
        whole, error = difference(ladder[-1][1], ladder[0][1])
        named = causes(ladder)
        yield from ("", f"In all {signed(whole, error)}. " + (f"Over noise: {named}." if named else "No step is over noise."))


def searches(cells: Cells, figures: dict[str, Any]) -> Iterator[str]:
    if not cells:
        return
    yield from ("", "## Without gradients: BlackVIP", "")
    queries = sorted({c["queries"] for c in cells if c["who"] == "published"})
    yield f"About {', '.join(f'{q:,}' for q in queries)} queries on each side. Published: coordinator and SPSA-GC of its"
    yield "repository, [o, c, a, α, γ] = [1, .01, .01, .4, .1], momentum .9, five pairs, 128 images a step, no augmentation."
    yield "Ours: `input=coarse output=frequency training=spsa_gc`, whose hold-out selection returns the start where the search"
    yield f"has not helped; once with the published values. Start: the same mapping before the search. {where(cells)}"
    yield from ("", "| data | who | queries | start | accuracy | search kept |", "|---|---|---|---|---|---|")
    for data in dict.fromkeys(c["data"] for c in cells):
        for who in ("published", "ours", "ours, published settings"):
            rows = [c for c in cells if c["data"] == data and c["who"] == who]
            if rows:
                kept = [c["kept"] == "search" for c in rows if "kept" in c]
                share = f"{sum(kept)} of {len(kept)}" if kept else "always"
                most = max(c["queries"] for c in rows)
                start, end = spread(c["start"] for c in rows), spread(c["accuracy"] for c in rows)
                yield f"| {data} | {who} | {most:,} | {start} | {end} | {share} |"
        found = grouped([c for c in cells if c["data"] == data], "who")
        if ("published",) in found and ("ours",) in found:
            figures.setdefault("black_box", {})[data] = difference(found[("ours",)], found[("published",)])


def speeds(cells: Cells, memory: Cells, figures: dict[str, Any]) -> Iterator[str]:
    if not cells:
        return
    yield from ("", "## Seconds of an epoch and memory on a CPU core", "")
    images = ", ".join(str(n) for n in sorted({c["images"] for c in cells}))
    yield f"{images} images; CPU seconds; both sides in one process, in turn; medians of the second epoch of each run. *Floor*:"
    yield "our source alone, each image once forward and back to its pixels, which no loop around it can leave out; *input*: our"
    yield "input transformation alone, forward and back, which is part of the method. *At the floor*: times faster if ours took"
    yield f"both and nothing else. Memory is the peak of a process of its own. {where(cells)}"
    heads = "published, s | ours, s | floor, s | input, s | faster | at the floor | published, MB | ours, MB"
    yield from ("", f"| method | data | {heads} |")
    yield "|---|---|---|---|---|---|---|---|---|---|"
    peaks = {(c["method"], c["data"], c["who"]): c["memory"] for c in memory}
    for cell in sorted(cells, key=lambda c: (c["data"], list(PAIRS).index(c["method"]))):
        method, data = cell["method"], cell["data"]
        sizes = [f"{peaks[method, data, who]:.0f}" if (method, data, who) in peaks else "–" for who in ("published", "ours")]
        least = cell["published"] / (cell["floor"] + cell["input"])
        seconds = " | ".join(f"{cell[name]:.2f}" for name in ("published", "ours", "floor", "input"))
        seconds += f" | x {cell['faster']:.1f} | x {least:.1f}"
        yield f"| {method} | {data} | {seconds} | {' | '.join(sizes)} |"
        figures.setdefault("faster", {})[f"{method}, {data}"] = round(cell["faster"], 2)
        figures.setdefault("floor", {})[f"{method}, {data}"] = round(least, 2)
    ratios = list(figures["faster"].values())
    reached = sum(r >= 3 for r in ratios)
    yield from ("", f"At least three times as fast: {reached} of {len(ratios)} rows; the least x {min(ratios):.1f}.")
    yield f"At the floor it would be x {min(figures['floor'].values()):.1f} to x {max(figures['floor'].values()):.1f}."
    if out := [name.split(",")[0] for name, least in figures["floor"].items() if least < 3]:
        yield f"{', '.join(out)} cannot become three times as fast in float32 with this source and input: alone, both take more"
        yield "than a third of the published time."
    yield "The published loop pays for a second pass over the data each epoch where its mapping is counted (not LoR-VP, AutoVP),"
    yield "for BatchNorm beside every convolution, and for a layout that CPUs read slowly. SMM's input is a network of its own;"
    yield "in the layout that CPUs read fast it costs less, but torch's BatchNorm sums less exactly there, so it stays as it is."
