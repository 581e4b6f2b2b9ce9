"""The page of results of a served program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def page(found: dict[str, Any], cores: int) -> str:
    """Markdown of all parts that were measured."""
    parts = [
        f"MLServer, clients and the predict loop share one machine with {cores} cores; the model has one thread. "
        "Where other work goes on wall time varies, so processor time stands beside it. The loads are drawn by seeds on which "
        "nothing was chosen."
    ]
    writers: dict[str, Callable[[Any], str]] = {
        "throughput": speed,
        "memory": memory,
        "strangers": strangers,
        "killed": killed,
        "certificates": certificates,
        "costs": costs,
        "detection": detection,
    }
    found = found | {"detection": [one for name, runs in found.items() if name.startswith("detection_") for one in runs]}
    parts += [write(found[name]) for name, write in writers.items() if found.get(name)]
    return "\n\n".join(parts)


def reached(right: bool) -> str:
    return "reached" if right else "not reached"


def speed(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"| {r['seed']} | {r['loop']:.0f} | {r['served']:.0f} | {r['served'] / r['loop']:.0%} | {1000 * r['cpu_loop']:.1f} | "
        f"{1000 * r['cpu_served']:.1f} | {r['served_singles']:.0f} | {1000 * r['median']:.0f} | {1000 * r['p99']:.0f} | "
        f"{r['p99'] / r['median']:.1f} | {r['bare_tail']:.1f} |"
        for r in rows
    ]
    ratios = sorted(r["served"] / r["loop"] for r in rows)
    tails = sorted(r["p99"] / r["median"] for r in rows)
    middle, tail = ratios[len(ratios) // 2], tails[len(tails) // 2]
    busy = sorted(r["cpu_loop"] / r["cpu_served"] for r in rows)
    return "\n".join(
        [
            "## Throughput and latency\n",
            "Digits on EfficientNet-Lite0 at 96 pixels. *Loop*: `predict_proba` of 32 images that lie in memory. "
            "*Served*: requests of 32 PNG files from 3 clients, with all outputs. *Singles*: 32 clients with one image each. "
            "Latency: single images that arrive at random at half of that rate. *Bare*: p99 / median of single images in the "
            "predict loop alone, which is what the other work on the machine does.\n",
            "| seed | loop, images/s | served, images/s | share | loop, CPU ms/image | served, CPU ms/image | singles/s | "
            "median, ms | p99, ms | p99 / median | bare |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
            *lines,
            "",
            f"Wanted: at least 90% of the loop: {reached(middle >= 0.9)} ({middle:.0%}, the middle seed; in "
            f"processor time, which other work changes less, {busy[0]:.0%} to {busy[-1]:.0%}). "
            f"Wanted: p99 at half load at most 3 times the median: {reached(tail <= 3)} ({tail:.1f}). "
            f"The answers were those of the loop: {'yes' if all(r['same_answers'] for r in rows) else 'no'}. "
            f"Ready {max(r['ready_after'] for r in rows):.1f} s after the start at the latest.",
        ]
    )


def memory(found: dict[str, Any]) -> str:
    return (
        "## Memory\n\n"
        f"All processes with one program: {found['1']:.0f} MB; with five on the same frozen source: {found['5']:.0f} MB "
        f"({found['ratio']:.2f} times). Wanted: at most 1.2 times: {reached(found['ratio'] <= 1.2)}."
    )


def strangers(found: dict[str, Any]) -> str:
    first, last, low, high = found["memory_mb"]
    statuses = "\n".join(f"| {what} | {count:,} |" for what, count in found["statuses"].items())
    unserved = found["valid_answered_wrongly_or_not"]
    right = not found["crashes"] and not unserved and abs(last - first) <= 100
    return (
        "## Strangers' requests\n\n"
        f"{found['requests']:,} requests from eight clients to two programs on a tiny network, one in ten malformed: cut or "
        "altered JSON, shapes that lie, values out of range, pictures of up to 81 megapixels, bodies that unpack to up to 80 MB. "
        f"{found['requests'] / found['seconds']:.0f} requests/s. A malformed request may still be answered: a picture that is "
        "none has its reason in its place.\n\n"
        f"| request, status | count |\n|---|---|\n{statuses}\n\n"
        f"Crashes: {found['crashes']}. Valid requests that were answered wrongly, or not: {unserved}. "
        f"Memory after the first tenth {first} MB, at the end {last} MB (between {low} and {high}, with the bodies that were "
        "being read). "
        f"Wanted: none, none, ± 100 MB: {reached(right)}."
    )


def counted(statuses: dict[str, int]) -> str:
    return ", ".join(f"{status}: {count:,}" for status, count in statuses.items())


def killed(found: dict[str, Any]) -> str:
    lines = [
        f"| {name} | {', '.join(f'{s:.1f}' for s in one['back_seconds'])} | {counted(one['statuses'])} | {one['wrong']} |"
        for name, one in found.items()
    ]
    worst = max(s for one in found.values() for s in one["back_seconds"])
    clean = all(set(one["statuses"]) <= {"200", "503"} and not one["wrong"] for one in found.values())
    return "\n".join(
        [
            "## Killed engines\n",
            "The engine is killed (SIGKILL) under the load of four clients. Seconds until all programs are ready again.\n",
            "| source | seconds | statuses | wrong answers |",
            "|---|---|---|---|",
            *lines,
            "",
            f"Wanted: back in 10 s, clean statuses, no wrong answer: {reached(worst <= 10 and clean)} (slowest {worst:.1f} s).",
        ]
    )


def certificates(rows: list[dict[str, Any]]) -> str:
    lines = "\n".join(
        f"| {c['seed']} | {c['robustness']:.3f} | {c['served']:.3f} | {c['median_radius']:.3f} | {'yes' if c['same'] else 'no'} |"
        for c in rows
    )
    return (
        "## Certificates\n\n"
        "Certified share at ℓ2 0.15 (four test digits, σ = 0.1, 300 samples): the row of the check `smoothing` and the served "
        "answers to the same images and seeds.\n\n"
        f"| seed | robustness | served | median radius | the same |\n|---|---|---|---|---|\n{lines}\n\n"
        f"Wanted: the same: {reached(all(c['same'] for c in rows))}."
    )


def costs(found: dict[str, Any]) -> str:
    plain = found["plain"]["cpu"]
    lines = "\n".join(
        f"| {wish} | {1000 * one['seconds']:.0f} | {1000 * one['cpu']:.0f} | {one['cpu'] / plain:.1f} |"
        for wish, one in found.items()
    )
    return f"## What each check costs\n\n| a single image with | ms | CPU ms | times the plain one |\n|---|---|---|---|\n{lines}"


def detection(found: list[dict[str, Any]]) -> str:
    """One row for each program and seed; the middle one of the seeds is stated."""
    lines = []
    for data in dict.fromkeys(one["data"] for one in found):
        runs = [one for one in found if one["data"] == data]
        for name in runs[0]["attacks"]:
            shares = [one["attacks"][name]["found"] for one in runs]
            broken = sum(one["attacks"][name]["broken"] for one in runs)
            told = " · ".join("–" if share is None else f"{share:.0%}" for share in shares)
            lines.append(f"| {NAMES[data]} | {name} | {broken} | {told} |")
    alarms = "\n".join(
        f"| {NAMES[one['data']]} | {one['seed']} | {one['accuracy']:.0%} | {one['promised']:.1%} | {one['false_alarms']:.1%} |"
        for one in found
    )
    seeds = " · ".join(str(seed) for seed in dict.fromkeys(one["seed"] for one in found))
    return (
        "## Signs of attacks (`detect=true`)\n\n"
        "Programs on EfficientNet-Lite0 at 96 pixels, from 16 labels a class (CIFAR-10: 40); 300 held-out examples calibrate the "
        "detector, 150 others count false alarms. Attacks are made with the program's gradients and know nothing of the "
        "detector; only inputs whose answer they changed count. *Trigger*: a patch of 3 x 3 pixels that a quarter of the "
        "training examples got together with the label of the first class. The scores were chosen on seed 0, digits and "
        "CIFAR-10.\n\n"
        "| program | seed | accuracy | promised false alarms | found, of 150 |\n|---|---|---|---|---|\n"
        f"{alarms}\n\n| program | attack, ℓ∞ size | changed answers | of them flagged, seeds {seeds} |\n|---|---|---|---|\n"
        + "\n".join(lines)
    )


NAMES = {"digits": "digits, 8 x 8", "mnist": "MNIST", "cifar": "CIFAR-10"}
