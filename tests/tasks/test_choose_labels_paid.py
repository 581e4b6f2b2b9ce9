"""Choosing what to label with a model behind a service: each input is a query, on the bill once."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from tests.sources.fake_server import FakeServer


@pytest.fixture
def pool(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "pool").mkdir()
    for i in range(24):
        colour = [(220, 30, 30), (30, 200, 30), (30, 30, 210)][i % 3]
        pixels = np.clip(rng.normal(colour, 25, (8, 8, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pool" / f"{'rgb'[i % 3]}{i}.png")
    return tmp_path / "pool"


def service(server):
    source = ["source=remote", f"source.url={server.url}", "source.model=tiny", "source.labels=[a,b,c,d,e]"]
    return [*source, "source.size=8", "source.pause=0.01"]


def test_the_service_is_asked_once_for_each_input_of_both_rounds(typed, pool, tmp_path):
    common = ["task=choose_labels", "target=image_folder", f"target.root={pool}", "budget=6"]
    with FakeServer() as server:
        code, said = typed(*common, *service(server), folder="one")
        assert code == 0, said
        bill = json.loads((tmp_path / "one" / "result.json").read_text())["cost"]
        asked = len(server.answered)
        assert bill["queries"] == asked == len(set(server.answered)) and asked in (24, 48)  # as it is, and mirrored
        rows = list(csv.DictReader((tmp_path / "one" / "to_label.csv").open()))
        with (tmp_path / "labels.csv").open("w") as file:
            file.write("input,label\n" + "".join(f"{row['input']},{row['input'][0]}\n" for row in rows))
        kept = f"source.cache={tmp_path / 'one' / 'answers'}"
        code, said = typed(*common, *service(server), "labels=labels.csv", kept, folder="two")
        assert code == 0, said
        again = json.loads((tmp_path / "two" / "result.json").read_text())
        assert len(server.answered) == asked and again["cost"]["queries"] == 0 and again["forecast"]


def test_a_bill_that_cannot_be_paid_asks_nothing(typed, pool):
    with FakeServer() as server:
        words = ["task=choose_labels", "target=image_folder", f"target.root={pool}", "budget=6", *service(server)]
        code, said = typed(*words, "source.budget.queries=10")
        assert code != 0 and "10 are left in the budget, so none was asked" in said and not server.answered
