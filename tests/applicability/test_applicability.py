"""What a program keeps of its labelled examples, and what it says of new ones."""

import csv
import json

import numpy as np
import pytest
import torch

from reprogram.applicability.base import (
    LEVEL,
    MOST_BYTES,
    PACKAGE,
    Applicability,
    Measure,
    calibrate,
    measure_for,
    spread_out,
)
from reprogram.artifact import from_pretrained, save_pretrained
from reprogram.errors import ArtifactError
from reprogram.inputs.none import NoPrompt
from reprogram.interfaces import SourceOutput, TargetInfo
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.registry import find, names
from reprogram.targets.base import ArrayExamples, StringExamples

SMILES = ["CCO", "CCN", "c1ccccc1", "CC(=O)O", "CCCC", "C1CCCCC1", "OCCO", "CC#N"]
EXAMPLES = {"fingerprints": SMILES, "kmers": ["ACDEFG", "GGGG", "KLMN", "ACD"], "features": ["any"] * 5}


def answers(n, width=600, seed=0):
    features = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32))
    return [SourceOutput(torch.zeros(n, 2), features)]


@pytest.mark.parametrize("name", names(PACKAGE))
def test_every_measure_finds_an_example_itself_and_is_symmetric(name):
    measure = find(PACKAGE, name, Measure)()
    batch = EXAMPLES[name]
    rows = measure.sketch(batch, answers(len(batch)))
    assert torch.from_numpy(rows).dtype == measure.kept_as and len(rows) == len(batch)
    assert rows.nbytes // len(rows) <= 512
    alike = measure.alike(rows, rows)
    assert np.allclose(np.diag(alike), 1, atol=1e-3) and np.allclose(alike, alike.T, atol=1e-5) and alike.max() <= 1
    assert (alike - np.eye(len(rows))).max() < 0.9 or len(set(batch)) == 1 or name == "fingerprints"


def test_kinds_have_their_measures():
    kinds = {kind: measure_for(kind).similarity for kind in ("molecule", "sequence", "text", "image")}
    assert kinds == {"molecule": "tanimoto", "sequence": "kmers", "text": "cosine", "image": "cosine"}


def test_bits_give_the_tanimoto_similarity_of_rdkit():
    from rdkit import Chem, DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    made = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    prints = [made.GetFingerprint(Chem.MolFromSmiles(s)) for s in SMILES]
    want = [[DataStructs.TanimotoSimilarity(a, b) for a in prints] for b in prints]
    measure = measure_for("molecule")
    rows = measure.sketch(SMILES, [])
    assert np.allclose(measure.alike(rows, rows), want, atol=1e-6)


def test_the_threshold_flags_the_stated_share_of_further_examples_of_the_kind():
    """Drawn from one distribution, so that about 5 % may be flagged; far fewer or more would be another promise."""
    measure, shares = measure_for("image"), []
    for seed in range(40):
        rows = measure.sketch([], answers(60 + 200, 5, seed))
        threshold, level = calibrate(measure, rows[:60], np.arange(60))
        assert level == 3 / 61 and level <= LEVEL
        shares.append((measure.alike(rows[60:], rows[:60]).max(1) < threshold).mean())
    assert np.mean(shares) == pytest.approx(3 / 61, abs=0.02)


def test_few_labels_promise_less_and_very_few_nothing():
    measure = measure_for("image")
    rows = measure.sketch([], answers(9))
    assert calibrate(measure, rows, np.arange(9))[1] == pytest.approx(0.1)
    assert calibrate(measure, rows[:3], np.arange(3)) == (None, None)


def test_many_examples_are_thinned_out_so_that_each_has_a_kept_one_near():
    rng = np.random.default_rng(0)
    clusters = np.repeat(rng.normal(size=(6, 20)), [300, 300, 5, 5, 2, 1], axis=0)
    features = torch.from_numpy((clusters + 0.02 * rng.normal(size=clusters.shape)).astype(np.float32))
    measure = measure_for("image")
    rows = measure.sketch([], [SourceOutput(torch.zeros(len(features), 2), features)])
    kept = spread_out(measure, rows, 12)
    assert len(set(kept)) == 12 and measure.alike(rows, rows[kept]).max(1).min() > 0.95
    assert spread_out(measure, rows[:7], 12).tolist() == list(range(7))


@pytest.fixture
def program(tiny_source, easy_images):
    examples, info = easy_images
    model = ReprogrammedModel(tiny_source(), NoPrompt(), RidgeTaps(layers=("conv@2",)), info)
    model.output.fit(model.collect(examples), torch.from_numpy(examples.labels))
    return model.eval(), examples


def test_a_kept_program_compares_with_the_labelled_examples_and_needs_no_other(program, tmp_path):
    model, examples = program
    rows = list(range(100, 100 + len(examples)))
    model.applicability = Applicability.of(model, examples, rows)
    folder = save_pretrained(model, tmp_path)
    again = from_pretrained(folder, source=model.source)
    batch = examples.batch([5, 3])
    near = again.applicability.nearest(batch, again.outputs(batch))
    assert near.example.tolist() == [5, 3] and near.row.tolist() == [105, 103]
    assert near.similarity == pytest.approx(1, abs=1e-3) and not near.outside.any()
    strange = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(1)).round()
    assert again.applicability.nearest(strange, again.outputs(strange)).outside.all()
    before = model.applicability.nearest_of(model, examples)
    after = again.applicability.nearest_of(again, examples)
    assert np.array_equal(before.similarity, after.similarity)
    assert again.applicability.sketches.nbytes <= MOST_BYTES
    assert torch.equal(again(batch), model(batch)), "what is kept beside changes no answer"


def test_no_labelled_example_can_be_read_back_and_the_program_stays_small(tiny_source):
    """A thousand images of 48 KB each, all different, end in at most 256 KB of sketches."""
    rng = np.random.default_rng(0)
    examples = ArrayExamples(rng.integers(0, 255, (1000, 3, 16, 16), dtype=np.uint8), np.arange(1000) % 2)
    info = TargetInfo("t", "image", "classification", ("a", "b"), (3, 16, 16))
    model = ReprogrammedModel(tiny_source(), NoPrompt(), RidgeTaps(layers=("conv@2",)), info)
    made = Applicability.of(model, examples)
    assert (
        made.labelled == 1000
        and sum(t.numel() * t.element_size() for t in made.tensors().values()) <= MOST_BYTES + 16_000
    )
    assert made.rows is None and made.sketches.dtype == np.float16 and made.sketches.shape[1] <= 256


def test_an_old_program_loads_and_knows_nothing(program, tmp_path):
    model, _ = program
    again = from_pretrained(save_pretrained(model, tmp_path), source=model.source)
    assert again.applicability is None and "applicability" not in json.loads((tmp_path / "program.json").read_text())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"measure": "os"}, "'applicability.measure' cannot be used"),
        ({"measure": 3}, "names a measure"),
        ({"labelled": 0}, "is not a number of examples"),
        ({"labelled": 2}, "do not have the shapes and types"),
        ({"threshold": 1e9}, "must be null or lie in"),
        ({"level": "x"}, "must be null or lie in"),
        ({"measure": "kmers"}, "do not have the shapes and types"),
    ],
)
def test_a_strangers_numbers_are_checked(program, tmp_path, change, sentence):
    model, examples = program
    model.applicability = Applicability.of(model, examples)
    path = save_pretrained(model, tmp_path) / "program.json"
    data = json.loads(path.read_text())
    data["applicability"] |= change
    path.write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match=sentence):
        from_pretrained(tmp_path, source=model.source)


def test_tensors_that_do_not_fit_are_refused(program):
    model, examples = program
    made = Applicability.of(model, examples, range(len(examples)))
    for name, wrong in (
        ("sketches", None),
        ("sketches", torch.zeros(3, 8)),
        ("sketches", torch.full((40, 8), float("nan")).half()),
        ("examples", torch.full((40,), -1)),
        ("examples", torch.zeros(2, dtype=torch.int64)),
        ("rows", torch.zeros(2, dtype=torch.int64)),
    ):
        tensors = made.tensors() | {f"applicability.{name}": wrong}
        tensors = {k: v for k, v in tensors.items() if v is not None}
        with pytest.raises(ArtifactError, match="applicability"):
            Applicability.load(made.to_json(), tensors, "x")


def test_strings_of_a_text_source_are_compared_by_its_features(text_models):
    from reprogram.inputs.text import Text
    from reprogram.sources.text import TextSource

    info = TargetInfo("t", "text", "classification", ("a", "b"))
    model = ReprogrammedModel(TextSource(text_models("bert")), Text(), RidgeTaps(), info)
    strings = ["C", "N", "O", "C C", "N N", "C O N", "O O"]
    made = Applicability.of(model, StringExamples(strings, np.arange(7) % 2))
    found = made.nearest_of(model, StringExamples(strings[::-1], np.zeros(7)))
    assert found.measure == "cosine" and found.similarity == pytest.approx(1, abs=2e-3) and found.row is None


@pytest.fixture
def molecules(tmp_path):
    """A table to learn from, and another of the same kind whose molecules are mostly new."""
    first = [f"{'C' * i}O" for i in range(1, 21)] + [f"{'C' * i}N" for i in range(1, 21)]
    second = [f"{'C' * i}O" for i in range(3, 8)] + [f"c1ccc2c(c1)nc({'C' * i})s2" for i in range(1, 16)]
    second += [f"c1ccc2c(c1)nc({'C' * i}N)s2" for i in range(1, 11)]
    for name, smiles in (("old", first), ("new", second)):
        lines = [f"{s},{int('N' in s)}" for s in smiles]
        (tmp_path / f"{name}.csv").write_text("\n".join(["smiles,y", *lines]) + "\n")
    return tmp_path


def test_evaluate_compares_new_molecules_with_those_that_were_learned_from(typed, molecules, text_models):
    """Trap: similarity to the new table's own training part says 1 of molecules that the program never saw."""
    target = ["target=molecules_csv", "target.input_column=smiles", "target.label_column=y", "device=cpu"]
    source = ["source=text", f"source.model={text_models('smiles')}", "source.tokenizer=smiles"]
    program = ["input=smiles", "output=ridge_taps", "task.baselines=[]"]
    code, error = typed(*source, *target, *program, f"target.path={molecules / 'old.csv'}", folder="made")
    assert code == 0, error
    code, error = typed(
        "task=evaluate", "program=made/program", *target, f"target.path={molecules / 'new.csv'}", "task.examples=all"
    )
    assert code == 0, error
    made, new = (list(csv.DictReader((molecules / f / "predictions.csv").open())) for f in ("made", "run"))
    assert len(new) == 30 and set(made[0]) == set(new[0]) >= {"nearest_tanimoto", "nearest_row", "outside"}
    lines = ["", *(molecules / "new.csv").read_text().splitlines()]
    labelled = ["", *(molecules / "old.csv").read_text().splitlines()]
    result = json.loads((molecules / "made" / "result.json").read_text())
    kept = from_pretrained(molecules / "made" / "program").applicability
    assert kept.labelled == result["target"]["train_labels"]
    for row in new:
        smiles, near = lines[int(row["row"])].split(",")[0], labelled[int(row["nearest_row"])].split(",")[0]
        assert (float(row["nearest_tanimoto"]) == 1.0) == (smiles == near) or smiles[:3] == near[:3]
        if "c1ccc2" in smiles:
            assert row["outside"] == "yes" and float(row["nearest_tanimoto"]) < 0.3
    result = json.loads((molecules / "run" / "result.json").read_text())
    assert result["applicability"]["outside"] >= 25 / 30
    assert any("are outside the training data" in note for note in result["target"]["notes"])


def test_evaluate_says_unknown_of_a_program_that_keeps_nothing(typed, tiny, tmp_path):
    code, error = typed(*tiny, folder="made")
    assert code == 0, error
    made = next(csv.DictReader((tmp_path / "made" / "predictions.csv").open()))
    assert made["outside"] in ("yes", "no") and float(made["nearest_cosine"]) <= 1
    old = from_pretrained("made/program")
    old.applicability = None
    save_pretrained(old, "old")
    root = next(a for a in tiny if a.startswith("target.root="))
    code, error = typed("task=evaluate", "program=old", "target=image_folder", root, "device=cpu")
    assert code == 0, error
    rows = list(csv.DictReader((tmp_path / "run" / "predictions.csv").open()))
    assert {row["outside"] for row in rows} == {"unknown"}
