"""The page of the black-box benchmark says what its cells say."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "_black_box_table.py"
_spec = importlib.util.spec_from_file_location("_black_box_table", FILE)
page = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(page)


def cell(method, accuracy, budget=0, seed=0, queries=0, target="digits"):
    row = {"target": target, "seed": seed, "method": method, "budget": budget}
    return row | {"accuracy": accuracy, "queries": queries, "trained": 192}


CELLS = [
    cell("mapping_only (frequency)", 0.3, 1000, queries=160),
    cell("linear on log-probabilities, views", 0.8, 1000, queries=960),
    cell("linear on log-probabilities, views", 0.85, 10000, queries=1920),
    cell("local stand-in, copy predicts", 0.95, 1000, queries=160),
    cell("white box, linear on logits, views", 0.9),
    cell("white box, full prompt 96 px, top_k", 0.7),
    cell("white box, inner layers, views", 0.99),
    cell("linear on log-probabilities, views", 0.1, 10000, seed=1, queries=1920),
]


def test_share_of_the_gain_leaves_out_copies_inner_layers_and_seeds_without_a_white_box():
    text, figures = page.table(CELLS, 16)
    shares = figures["share_of_gain"]["digits"]
    assert shares["seeds"] == [0]
    assert shares[1000] == pytest.approx(0.5 / 0.6) and shares[10000] == pytest.approx(0.55 / 0.6)
    assert "| digits (seeds: 1) | 0.300 | 0.900 (linear on logits, views) | 0.800, 83%" in text and "| yes |" in text


def test_target_that_is_not_reached_is_said_plainly():
    text, _ = page.table([c for c in CELLS if c["budget"] != 10000] + [cell("rgf", 0.31, 10000)], 16)
    assert "| no |" in text


def test_searches_stand_beside_their_start_and_the_gradients():
    rows = [cell("start of every search", 0.5, 1000), cell("rgf", 0.52, 1000), cell("rgf", 0.55, 10000)]
    text, _ = page.table([*rows, cell("white box, the searched prompt, top_k", 0.6)], 16)
    assert "| digits | 0.500 (1) | 0.520 (1) | 0.550 (1) | – | – | – | – | 0.600 (1) |" in text


def test_what_was_not_run_is_named():
    rows = [cell("start of every search", 0.5, 1000), cell("rgf", 0.52, 1000)]
    text, _ = page.table(rows, 16, 200, [("digits", 0, 1000), ("digits", 0, 50000)])
    assert "spsa_gc at 1,000 queries (1 of 1)" in text and "rgf at 50,000 queries (1 of 1)" in text
    assert "rgf at 1,000 queries" not in text


def test_start_that_was_kept_is_counted_and_test_sizes_are_shown():
    def searched(accuracy, seed, kept):
        return cell("rgf", accuracy, 1000, seed) | {"test": 300, "search": {"kept": kept}}

    rows = [cell("start of every search", 0.5, 1000), searched(0.5, 0, "start"), searched(0.6, 1, "search")]
    text, _ = page.table(rows, 16, 200)
    assert "0.550 ± 0.071 (2); start kept 1/2" in text
    assert "| rgf | 1000 | – | 300 | 0.550 ± 0.071 (2) |" in text
    assert "| start of every search | 1000 | – | 200 | 0.500 (1) |" in text


def test_curves_are_written_and_the_same_each_time(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FILE.parent))
    import _black_box_curves

    rows = [*CELLS, cell("start of every search", 0.5, 1000, queries=160), cell("rgf", 0.6, 10000, queries=9000)]
    for name in ("a.svg", "b.svg"):
        assert _black_box_curves.curves(rows, tmp_path / name)
    first, second = ((tmp_path / name).read_text() for name in ("a.svg", "b.svg"))
    assert first == second and ">rgf<" in first and ">local stand-in<" not in first
    assert not _black_box_curves.curves([], tmp_path / "none.svg")


def test_throughput_is_the_median_of_repeats():
    row = {"target": "throughput", "plain_per_second": 100.0, "blocks": 3, "block": 256}
    rows = [row | {"client_per_second": 100 * s, "share": s, "seed": i} for i, s in enumerate((0.85, 0.95, 0.93))]
    text, figures = page.table([*CELLS, *rows], 16)
    assert figures["throughput"]["share"] == 0.93
    assert "Share in each repeat: 85%, 95%, 93%; median 93%; wanted: 90%, reached." in text
