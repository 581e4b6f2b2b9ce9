"""The label loop on the command line: choose what to label, label it, train from the list and the pool."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FAST = ["auto.prompts=false", "auto.folds=2", "task.baselines=[]", "training.epochs=1", "device=cpu"]


@pytest.fixture
def source(tiny):
    return [a for a in tiny if a.startswith("source")]


@pytest.fixture
def pool(tmp_path):
    """40 pictures of three colours in nested folders, one broken, two the same; the truth is the first letter."""
    rng, root = np.random.default_rng(0), tmp_path / "pool"
    (root / "more").mkdir(parents=True)
    colours = {"r": (220, 30, 30), "g": (30, 200, 30), "b": (30, 30, 210)}
    for i in range(40):
        name = "rgb"[i % 3]
        pixels = np.clip(rng.normal(colours[name], 25, (8, 8, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / ("more" if i % 2 else "") / f"{name}{i}.png")
    shutil.copy(root / "r0.png", root / "r0_again.png")
    (root / "broken.png").write_bytes(b"no picture")
    return root


def listed(path):
    with Path(path).open() as file:
        return list(csv.DictReader(file))


def filled(path, wrong=()):
    """The list with the labels that a person gives."""
    rows = listed(path)
    for row in rows:
        row["label"] = "g" if row["input"] in wrong else Path(row["input"]).name[0]
    with Path(path).open("w") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_three_rounds_and_a_program(typed, source, pool, tmp_path):
    code, stderr = typed("task=choose_labels", "target=image_folder", f"target.root={pool}", "budget=6", *source, folder="one")
    assert code == 0, stderr
    first = filled(tmp_path / "one" / "to_label.csv")
    assert len(first) == 6 and {row["label"] for row in first} == set("rgb")  # one of each colour among six
    assert all((pool / row["input"]).is_file() and row["why"] == "typical" for row in first)
    assert sum(int(row["stands_for"]) for row in first) == 41  # every readable input
    result = json.loads((tmp_path / "one" / "result.json").read_text())
    assert result["forecast"] is None and any("broken.png" in note for note in result["notes"])

    again = ["task=choose_labels", "target=image_folder", f"target.root={pool}", "budget=6", *source]
    code, stderr = typed(*again, "labels=one/to_label.csv", folder="two")
    assert code == 0, stderr
    second = filled(tmp_path / "two" / "to_label.csv")
    assert len(second) == 12 and not {r["input"] for r in first} & {r["input"] for r in second if r["why"] != "labelled"}
    forecast = json.loads((tmp_path / "two" / "result.json").read_text())["forecast"]
    assert forecast["now"]["low"] < forecast["now"]["value"] < forecast["twice"]["value"] < forecast["twice"]["high"]

    target = ["target=image_folder", f"target.root={pool}", "target.labels_file=two/to_label.csv", f"target.unlabelled={pool}"]
    code, stderr = typed(*target, *source, *FAST, folder="three")
    assert code == 0, stderr
    told = json.loads((tmp_path / "three" / "result.json").read_text())
    assert told["target"]["train_labels"] == 12 and told["target"]["test_size"] == 0 and told["metrics"] == {}
    assert told["verdict"].startswith("No test set: by cross-validation on 12 labels")
    rows = {row["candidate"]: row for row in told["auto"]["rows"]}
    assert rows["blend with the pool"]["status"] in ("scored", "chosen")
    assert (tmp_path / "three" / "program" / "program.json").exists() and (tmp_path / "three" / "report.html").exists()


def test_a_program_that_reads_the_pool_is_compared_with_random_weights(typed, source, pool, tmp_path):
    """Trap: the same program on random weights had no pool, and the run ended at its baselines."""
    for letter in "rgb":
        (tmp_path / "test" / letter).mkdir(parents=True)
        for file in sorted(pool.glob(f"{letter}[0-9]*.png"))[:2]:
            Image.open(file).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "test" / letter / file.name)
    rows = [f"{file.name},{file.name[0]}" for file in sorted(pool.glob("*[2468].png"))]
    (tmp_path / "list.csv").write_text("\n".join(["input,label", *rows]))
    target = ["target=image_folder", f"target.root={pool}", "target.labels_file=list.csv", f"target.unlabelled={pool}"]
    named = ["target.test_root=test", "input=none", "output=diffusion", "task.baselines=[random_source]", "device=cpu"]
    code, stderr = typed(*target, *named, "training.epochs=1", *source, folder="run")
    assert code == 0, stderr
    told = json.loads((tmp_path / "run" / "result.json").read_text())
    assert told["metrics"]["accuracy"]["value"] > 0.5 and "random_source" in told["baselines"]


def test_a_wrong_label_is_put_in_front(typed, source, pool, tmp_path):
    common = ["task=choose_labels", "target=image_folder", f"target.root={pool}", *source]
    assert typed(*common, "budget=18", folder="one")[0] == 0
    rows = listed(tmp_path / "one" / "to_label.csv")
    wrong = next(row["input"] for row in rows if Path(row["input"]).name[0] == "r")
    filled(tmp_path / "one" / "to_label.csv", [wrong])
    code, stderr = typed(*common, "budget=4", "labels=one/to_label.csv", folder="two")
    assert code == 0, stderr
    front = listed(tmp_path / "two" / "to_label.csv")[0]
    assert (front["input"], front["why"], front["label"], front["guess"]) == (wrong, "check", "g", "r")
    result = json.loads((tmp_path / "two" / "result.json").read_text())
    assert result["to_check"][0]["input"] == wrong and 0.5 < result["usually_right"] <= 1
    assert len(result["to_label"]) + len(result["to_check"]) == 4  # the budget pays for both
    assert "Labels to check" in (tmp_path / "two" / "report.html").read_text()


def test_the_sheet_is_one_page_with_everything_in_it(typed, source, pool, tmp_path):
    code, stderr = typed("task=choose_labels", "target=image_folder", f"target.root={pool}", "budget=3", *source)
    assert code == 0, stderr
    page = (tmp_path / "run" / "to_label.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert len(data["cards"]) == 3 and all("data:image/png;base64," in card["html"] for card in data["cards"])
    assert [card["row"]["input"] for card in data["cards"]] == [r["input"] for r in listed(tmp_path / "run" / "to_label.csv")]
    assert not re.search(r"(src|href)=\"?https?:", page) and "viewport" in page


@pytest.fixture
def words(text_models, tmp_path):
    """A table of strings without labels, one empty and one with markup, and the arguments of a tiny language model."""
    lines = ["id,text", "x,<b>a &amp; b</script>", "y,"]
    lines += [f"n{i},{'good fine great' if i % 2 else 'bad awful poor'} {'x y z '[: i % 6] * (i % 5)}{i}" for i in range(30)]
    (tmp_path / "pool.csv").write_text("\n".join(lines) + "\n")
    model = ["source=text", f"source.model={text_models('bert')}"]
    return ["target=csv", "target.path=pool.csv", "target.input_column=text", *model, "device=cpu"]


def test_strings_are_listed_as_they_are_and_trained_from(typed, words, tmp_path):
    code, stderr = typed("task=choose_labels", *words, "budget=10", folder="one")
    assert code == 0, stderr
    rows = listed(tmp_path / "one" / "to_label.csv")
    assert len(rows) == 10
    text = (tmp_path / "pool.csv").read_text()
    assert all(row["input"] in text for row in rows)
    for row in rows:
        row["label"] = "yes" if "good" in row["input"] else "no"
    with (tmp_path / "filled.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    code, stderr = typed(
        *words, "target.label_column=label", "target.labels_file=filled.csv", "target.unlabelled=pool.csv", *FAST, folder="two"
    )
    assert code == 0, stderr
    told = json.loads((tmp_path / "two" / "result.json").read_text())
    assert told["target"]["train_labels"] == 10 and "blend with the pool" in {r["candidate"] for r in told["auto"]["rows"]}


def test_markup_in_a_text_stays_text(typed, words, tmp_path):
    code, stderr = typed("task=choose_labels", *words, "budget=31")
    assert code == 0, stderr
    page = (tmp_path / "run" / "to_label.html").read_text()
    assert page.count("</script>") == 2 and "<b>a" not in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["labels=nothing.csv"], "labels=nothing.csv"),
        (["labels=odd.csv"], "label"),
        (["budget=0"], "budget=0"),
        (["target=digits"], "no inputs without labels"),
    ],
)
def test_mistakes_end_in_one_sentence(typed, source, pool, tmp_path, arguments, said):
    (tmp_path / "odd.csv").write_text("input,class\nr0.png,r\n")
    target = [] if "target=digits" in arguments else ["target=image_folder", f"target.root={pool}"]
    code, stderr = typed("task=choose_labels", *target, *arguments, *source)
    assert code == 2 and said in stderr and "Traceback" not in stderr


def test_what_nobody_could_tell_is_not_asked_again(typed, source, pool, tmp_path):
    common = ["task=choose_labels", "target=image_folder", f"target.root={pool}", "budget=40", *source]
    assert typed(*common, folder="one")[0] == 0
    rows = listed(tmp_path / "one" / "to_label.csv")
    unclear = rows[0]["input"]
    (tmp_path / "told.csv").write_text(f"input,label\n{unclear},?\nelsewhere.png,r\n")
    code, stderr = typed(*common, "labels=told.csv", folder="two")
    assert code == 0, stderr
    assert unclear not in [r["input"] for r in listed(tmp_path / "two" / "to_label.csv") if r["why"] != "unclear"]
    assert any("row 3" in note for note in json.loads((tmp_path / "two" / "result.json").read_text())["notes"])


def test_a_report_shows_the_labels_to_check_and_what_it_was_let_see(typed, source, pool, tmp_path):
    """A named program and a list with a wrong label; the test pictures are in the pool because the user says so."""
    truth = [p.relative_to(pool).as_posix() for p in sorted(pool.rglob("*.png")) if p.name[0] in "rgb" and p.name != "broken.png"]
    lines = [f"{name},{Path(name).name[0]}" for name in truth[:30]]
    wrong = truth[0]
    lines[0] = f"{wrong},{'g' if Path(wrong).name[0] != 'g' else 'r'}"
    (tmp_path / "list.csv").write_text("\n".join(["input,label", *lines]) + "\n")
    for name in truth[31:]:
        (tmp_path / "test" / Path(name).name[0]).mkdir(parents=True, exist_ok=True)
        shutil.copy(pool / name, tmp_path / "test" / Path(name).name[0])
    target = ["target=image_folder", f"target.root={pool}", "target.labels_file=list.csv", "target.test_root=test"]
    few = ["task.baselines=[]", "device=cpu", "input=none", "input.size=32", "target.transductive=true"]
    code, stderr = typed(*target, *source, *few, "output=ridge_taps")
    assert code == 0, stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["verdict"].startswith("Transductive: the program has seen the")
    assert wrong in [row["row"] for row in result["labels_to_check"]["rows"]]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Labels to check" in page and f"{wrong}: labelled" in page
