"""The page of the cross-domain study: what is compared with what."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "_cross_domain_page.py"
_spec = importlib.util.spec_from_file_location("_cross_domain_page", FILE)
module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(module)
page = module.page


def cells(auto=0.8, seeds=(100, 101, 110)):
    """Two sources; the one that lacks the tokens gains ten points by training."""
    made = []
    for seed in seeds:
        for source, unread, trained in (("stranger", 0.7, 0.8), ("reader", 0.0, 0.69)):
            head = {"source": source, "target": "amp", "labels": 64, "seed": seed, "device": "x", "unread": unread}
            for row, value in (("text", 0.6), ("untrained map", 0.7), ("trained map", trained), ("soft prompt", 0.5)):
                made.append(head | {"row": row, "linear": value, "several layers": value})
            made.append(head | {"row": "auto", "auto": auto, "chosen": "layers", "seconds": 9.0})
    return made


def test_the_first_sentence_says_where_training_pays():
    told = " ".join(page(cells(), 100, 10).split("**")[1].split())
    assert "mean of sources and targets: +10.0 with linear, +10.0 with several layers" in told
    assert "training gives -1.0 with linear, -1.0 with several layers" in told


@pytest.mark.parametrize(("auto", "near"), [(0.8, "100%"), (0.75, "50%"), (0.6, "0%")])
def test_auto_is_held_against_the_best_row_of_each_draw(auto, near):
    text = page(cells(auto), 100, 10)
    assert f"within 1 point of the best row in {near} of 6 cells" in text
    assert f"{100 * (auto - 0.7):+.1f} points from the best baseline on average" in text
    assert "| 100 to 101 |" in text and "| 110 to 110 |" in text  # what was run once more stands apart
    assert "*other* draws, by test labels, is within 1 point in 100% of 4 cells" in text


def test_a_draw_without_every_row_is_not_compared():
    some = [c for c in cells() if not (c["seed"] == 101 and c["row"] == "soft prompt")]
    assert "of 4 cells" in page(some, 100, 10)
