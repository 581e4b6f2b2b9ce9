"""The AI FactSheet of a program (Arnold et al. 2019, arXiv 1808.07261; IBM's MAX sheets) and its model card.

``factsheet(result)`` is plain JSON, ``card(result)`` a README that the Hugging Face Hub reads as a model card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reprogram.plain import cell
from reprogram.result import Result, finite, write_atomically

FACTSHEET_SCHEMA = 1
PERCENTILES = ("5", "10", "15", "25", "50")


def factsheet(result: Result | Mapping[str, Any]) -> dict[str, Any]:
    """The sections of a FactSheet from what was measured; what was not measured is named as such."""
    data = finite(result.data if isinstance(result, Result) else dict(result))
    source, target, program = (data.get(key, {}) for key in ("source", "target", "program"))
    block = data.get("robustness", {})
    rows = block.get("rows", [])
    classes = [str(c) for c in target.get("classes", [])]
    metrics = {name: m for name, m in data.get("metrics", {}).items() if isinstance(m, dict)}
    return {
        "schema": FACTSHEET_SCHEMA,
        "name": f"{source.get('name', 'model')} reprogrammed for {target.get('name', 'a target')}",
        "overview": (
            f"A program of {program.get('parameters', 'unknown')} values ({program.get('bytes', 'unknown')} bytes) around "
            f"the frozen model {source.get('name', 'unknown')}: input transformation {program.get('input', 'unknown')}, "
            f"output mapping {program.get('output', 'unknown')}. The model itself is unchanged."
        ),
        "purpose": f"{target.get('problem', 'classification')} into: {', '.join(classes[:50])}" if classes else "unknown",
        "intended_domain": f"{target.get('kind', 'unknown')} inputs like those of '{target.get('name', 'the target')}'.",
        "training_data": {
            "labels": target.get("train_labels"), "split": target.get("split", {}), "notes": target.get("notes", []),
        },
        "model_information": {"source": source, "program": program, "seed": data.get("seed"), "version": data.get("version")},
        "inputs_and_outputs": {"input": target.get("input_shape") or target.get("kind"), "output": classes},
        "performance_metrics": metrics,
        "baselines": data.get("baselines", {}),
        "bias": "Not measured: the data has no groups of people. Class-wise errors are in report.html.",
        "robustness": _robustness(block, rows),
        "domain_shift": [_line(r) for r in rows if r["check"] == "corruptions"] or ["Not measured."],
        "test_data": {"examples": target.get("test_size"), "use": "read once, after training"},
        "optimal_conditions": [
            f"Inputs like the {target.get('train_labels', '')} labelled examples: same size, source and preparation.",
        ],
        "poor_conditions": _poor(rows),
        "explanation": data.get("verdict") or "See report.html.",
        "contact": "The person who ran the training; this sheet was written by the run itself.",
    }  # fmt: skip


def _robustness(block: Mapping[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    table = {
        row["threat"]: {p: row.get("percentiles", {}).get(p) for p in PERCENTILES}
        for row in rows
        if row["check"] == "smallest_perturbation"
    }
    kinds = {
        kind: [_line(r) for r in rows if r["kind"] == kind and r["check"] != "smallest_perturbation"]
        for kind in ("attack", "certificate", "estimate", "inspection")
    }
    return {
        "depth": block.get("depth", "none"),
        "in_plain_words": _plain_words(rows),
        "smallest_successful_perturbation_percentiles": table,
        **kinds,
        "flags": block.get("flags", []),
    }


def _plain_words(rows: list[dict[str, Any]]) -> str:
    worst = [r for r in rows if r["check"] == "worst_case" and r["value"] is not None]
    if not worst:
        return "Robustness was not measured (robustness=quick or robustness=full measures it)."
    clean = next((r["value"] for r in rows if r["check"] == "clean"), None)
    said = []
    for row in worst:
        before = f" (from {clean:.0%})" if clean is not None else ""
        sure = " These figures are doubtful, see the flags." if row["flags"] else ""
        fragile = "Not robust to" if row["value"] < 0.5 * (clean or 1) else "Partly robust to"
        said.append(
            f"{fragile} changes of {row['threat']}: accuracy {row['value']:.0%}{before} on {row['n']} images.{sure}"
        )
    return " ".join(said)


def _poor(rows: list[dict[str, Any]]) -> list[str]:
    """What hurts most among corruptions and semantic changes."""
    known = [
        r
        for r in rows
        if r["value"] is not None and r.get("family") in ("corruption", "semantic") and r["kind"] != "certificate"
    ]
    return [f"{r['check'].replace('_', ' ')}: accuracy {r['value']:.0%}" for r in sorted(known, key=_value)[:5]] or [
        "Not measured."
    ]


def _value(row: Mapping[str, Any]) -> float:
    return float(row["value"])


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row.get(key) for key in ("check", "threat", "value", "low", "high", "n", "flags")}


def card(result: Result | Mapping[str, Any]) -> str:
    """README.md: YAML front matter of the Hugging Face Hub, then the FactSheet in words and tables."""
    sheet = factsheet(result)
    lines = ["---", *_front_matter(sheet), "---", "", f"# {sheet['name']}", "", sheet["overview"], ""]
    lines += [
        "```python",
        "from reprogram import from_pretrained",
        "",
        'model = from_pretrained("PATH or user/name")',
        "```",
        "",
    ]
    for title in ("purpose", "intended_domain"):
        lines += [f"## {_title(title)}", "", str(sheet[title]), ""]
    training = sheet["training_data"]
    lines += ["## Training data", "", f"{training['labels']} labelled examples.", *map(_bullet, training["notes"]), ""]
    lines += ["## Performance metrics", "", *_metric_table(sheet), ""]
    lines += ["## Robustness", "", sheet["robustness"]["in_plain_words"], "", *_robustness_tables(sheet["robustness"])]
    for title in ("optimal_conditions", "poor_conditions"):
        lines += [f"## {_title(title)}", "", *map(_bullet, sheet[title]), ""]
    for title in ("bias", "explanation", "contact"):
        lines += [f"## {_title(title)}", "", str(sheet[title]) or "None.", ""]
    return "\n".join(lines)


def _front_matter(sheet: Mapping[str, Any]) -> list[str]:
    """Names are quoted as JSON strings, which are YAML strings, so that no name can break out of its place."""
    source = sheet["model_information"]["source"].get("name", "unknown")
    lines = ["library_name: reprogram", "tags:", "- model-reprogramming", "- few-shot"]
    found = [
        (n, m["value"]) for n, m in sheet["performance_metrics"].items() if isinstance(m.get("value"), int | float)
    ]
    if "/" in source:
        lines.append(f"base_model: {json.dumps(source)}")
    if found:
        lines += ["model-index:", f"- name: {json.dumps(sheet['name'])}", "  results:", "  - task:"]
        lines += [
            "      type: other",
            "    dataset:",
            f"      name: {json.dumps(sheet['name'])}",
            "      type: other",
            "    metrics:",
        ]
        for name, value in found:
            lines += [f"    - type: {json.dumps(name)}", f"      value: {value}"]
    return lines


def _metric_table(sheet: Mapping[str, Any]) -> list[str]:
    rows = ["| model | metric | value | 95% interval |", "|---|---|---|---|"]
    for model, metrics in {"program": sheet["performance_metrics"], **sheet["baselines"]}.items():
        for name, metric in metrics.items() if isinstance(metrics, dict) else ():
            if isinstance(metric, dict) and isinstance(metric.get("value"), int | float):
                rows.append(f"| {model} | {name} | {_number(metric['value'])} | {_range(metric)} |")
    return rows if len(rows) > 2 else ["Not measured."]


def _robustness_tables(block: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    table = block["smallest_successful_perturbation_percentiles"]
    if table:
        lines += ["Percentiles of the smallest successful perturbation that attacks found:", ""]
        lines += ["| norm | " + " | ".join(f"{p}%" for p in PERCENTILES) + " |", "|---" * 6 + "|"]
        lines += [
            f"| {norm} | " + " | ".join(_number(v.get(p)) for p in PERCENTILES) + " |" for norm, v in table.items()
        ] + [""]
    for kind, title in (
        ("attack", "Attacks"),
        ("certificate", "Certificates"),
        ("estimate", "Estimates"),
        ("inspection", "Inspection"),
    ):
        if block[kind]:
            lines += [
                f"### {title}",
                "",
                "| check | threat | value | 95% interval | n | flags |",
                "|---|---|---|---|---|---|",
            ]
            for r in block[kind]:
                told = cell("; ".join(flag["text"] for flag in r["flags"]))
                lines.append(
                    f"| {r['check']} | {cell(r['threat'])} | {_number(r['value'])} | {_range(r)} | {r['n']} | {told} |"
                )
            lines.append("")
    return lines


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.3g}"


def _range(row: Mapping[str, Any]) -> str:
    return "–" if row.get("low") is None else f"{_number(row['low'])} to {_number(row['high'])}"


def _bullet(text: Any) -> str:
    return f"- {text}"


def _title(key: str) -> str:
    return key.replace("_", " ").capitalize()


def write(folder: Path, result: Result) -> None:
    """``README.md`` and ``factsheet.json`` beside the program."""
    write_atomically(folder / "factsheet.json", json.dumps(factsheet(result), indent=2, ensure_ascii=False) + "\n")
    write_atomically(folder / "README.md", card(result))
