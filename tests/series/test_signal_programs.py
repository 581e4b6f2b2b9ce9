"""Programs of signals: fitted, kept, used again on the command line; their robustness."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

from reprogram.artifact import from_pretrained, save_pretrained
from reprogram.errors import ArtifactError
from reprogram.hooks import Run
from reprogram.inputs.signal_views import SignalViews
from reprogram.interfaces import SourceOutput, SourceSpec, Tap, TargetInfo, to_tensor_labels
from reprogram.modalities import modality
from reprogram.model import ReprogrammedModel
from reprogram.outputs.grouped_ridge import GroupedRidge, agreement
from reprogram.result import Result
from reprogram.robustness import signals
from reprogram.selection.choose import Auto, choose
from reprogram.sources.black_box import BlackBoxSource
from reprogram.sources.small_cnn import SmallCNN
from reprogram.targets.series import from_signals


def waves(count=24, length=40, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    x = np.sin(np.arange(length) * (0.3 + 0.4 * labels[:, None]) + rng.random((count, 1)) * 6)
    return (x + 0.1 * rng.normal(size=x.shape)).astype(np.float32), labels


@pytest.fixture(scope="module")
def program():
    x, y = waves()
    task = from_signals(x, y, test_size=8)
    views = SignalViews(size=32, pictures=("line_plot", "gramian"), features=("convolutions", "raw"))
    model = ReprogrammedModel(SmallCNN(), views, GroupedRidge(), task.info)
    model.output.fit(model.collect(task.train), to_tensor_labels(task.train.labels))
    model.settle()
    return model.eval(), task


def test_a_program_of_signals_is_kept_and_loaded_again(program, tmp_path):
    model, task = program
    save_pretrained(model, tmp_path, {})
    again = from_pretrained(tmp_path)
    assert np.allclose(again.predict_proba(task.test), model.predict_proba(task.test), atol=1e-6)
    assert (again.predict(task.test) == task.test.labels).all()
    assert np.allclose(again.predict_proba(task.test.batch(range(8))), again.predict_proba(task.test), atol=1e-6)
    kept = json.loads((tmp_path / "program.json").read_text())
    assert len(kept["output"]["config"]["found"]) == 4 and sum(kept["output"]["config"]["found"]) == pytest.approx(1, abs=1e-4)
    kept["target"]["input_shape"] = [1, 1, 10**12]
    (tmp_path / "program.json").write_text(json.dumps(kept))
    with pytest.raises(ArtifactError, match=r"'input_shape' must be \[channels, samples a second, samples\]"):
        from_pretrained(tmp_path)


def test_agreement_is_the_area_under_the_curve():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    points, labels = torch.tensor(rng.normal(size=(12, 3))), np.arange(12) % 3
    kernel, targets = points @ points.T, torch.eye(3, dtype=torch.float64)[labels]
    i, j = np.triu_indices(12, 1)
    wanted = roc_auc_score(labels[i] != labels[j], torch.cdist(points, points).numpy()[i, j])
    assert agreement(kernel, targets) == pytest.approx(wanted)
    values = torch.arange(12.0, dtype=torch.float64)[:, None]
    assert agreement(values @ values.T, values) == pytest.approx(1.0, abs=0.01)


def test_weight_goes_to_the_group_that_knows_and_plain_features_are_read_once():
    rng = np.random.default_rng(0)
    labels = torch.arange(30) % 2
    noise = lambda width: torch.tensor(rng.normal(size=(30, width)), dtype=torch.float32)  # noqa: E731
    knows = noise(4) + 3.0 * labels[:, None]
    side = {Tap("raw", "side"): knows, Tap("convolutions", "side"): noise(50)}
    views = [SourceOutput(torch.zeros(30, 2), None, {Tap("conv", "1"): noise(6)} | side) for _ in range(3)]
    spec = SourceSpec("image", 16, ("a", "b"), taps=("conv",))
    output = GroupedRidge(layers=("conv@1",))
    output.build(spec, TargetInfo("t", "series", "classification", ("a", "b"), (1, 1, 9)))
    output.fit(views, labels)
    assert output.width == 3 * 6 + 4 + 50
    assert np.argmax(output.found) == 3 and output.found[3] > 0.5  # views 1 to 3, raw, convolutions
    assert (output(views).argmax(1) == labels).float().mean() > 0.95


def test_few_labels_move_the_weights_less():
    rng = np.random.default_rng(0)
    moved = {}
    info = TargetInfo("t", "series", "classification", ("a", "b"))
    for count in (4, 40):
        labels = torch.arange(count) % 2
        noise, knows = (torch.tensor(rng.normal(size=(count, 6)), dtype=torch.float32) for _ in range(2))
        side = {Tap("raw", "side"): knows + 6.0 * labels[:, None]}
        for doubt in (0.0, 8.0):
            output = GroupedRidge(layers=("conv@1",), doubt=doubt, trust=1e6)  # the start alone
            output.build(SourceSpec("image", 16, ("a", "b"), taps=("conv",)), info)
            output.fit([SourceOutput(torch.zeros(count, 2), None, {Tap("conv", "1"): noise} | side)], labels)
            moved[count, doubt] = np.log(output.found[1] / output.found[0])
    assert 0 < moved[4, 8.0] == pytest.approx(4 / 12 * moved[4, 0.0], rel=0.05)
    assert moved[40, 8.0] == pytest.approx(40 / 48 * moved[40, 0.0], rel=0.05)


def test_a_black_box_is_asked_with_the_pictures_alone(tmp_path):
    x, y = waves()
    task = from_signals(x, y, test_size=8)
    views = SignalViews(size=32, pictures=("line_plot", "gramian"), features=("proportions", "raw"))
    source = BlackBoxSource(SmallCNN(), journal=tmp_path)
    model = ReprogrammedModel(source, views, GroupedRidge(), task.info)
    model.output.fit(model.collect(task.train), to_tensor_labels(task.train.labels))
    assert source.bill()["queries"] == 2 * 16  # a picture a query
    assert (model.eval().predict(task.test) == task.test.labels).mean() >= 0.9


def test_weights_of_sounds_are_kept():
    spec = SourceSpec("image", 64, ("a", "b"), taps=("conv",))
    info = TargetInfo("t", "series", "classification", ("a", "b"), (1, 8000, 500))
    hybrid = modality("series").candidates(spec, info)[-1]
    output = GroupedRidge(layers=("conv@1",), **hybrid.output[1])
    output.build(spec, info)
    labels = torch.arange(20) % 2
    side = {Tap(name, "side"): torch.randn(20, 4) + labels[:, None] for name in hybrid.input[1]["features"]}
    output.fit([SourceOutput(torch.zeros(20, 2), None, {Tap("conv", "1"): torch.randn(20, 6)} | side)] * 2, labels)
    assert output.found == pytest.approx([w / 6 for w in (0.5, 0.5, 1.0, 0.5, 0.5, 0.5, 2.5)], abs=1e-5)


def test_the_raw_signal_counts_for_more_where_it_is_short():
    spec = SourceSpec("image", 64, ("a", "b"), feature_size=4, taps=("conv",))
    weights = []
    for length in (24, 128, 2000):
        info = TargetInfo("t", "series", "classification", ("a", "b"), (1, 1, length))
        (auto,) = modality("series").candidates(spec, info)
        weights.append(dict(zip(auto.input[1]["features"], auto.output[1]["side"], strict=True)))
    raw = [found.pop("raw") for found in weights]
    assert weights[0] == weights[1] == weights[2]
    assert raw == pytest.approx([0.5 * (1 + 128 / 24), 1.0, 0.532])


def test_the_search_keeps_the_hybrid_however_few_labels_there_are(tmp_path):
    x, y = waves(40)
    task = from_signals(x, y, shots=2, test_size=20)
    chosen = choose([SmallCNN()], task, Auto(minutes=5), Run(tmp_path, 0, Result("auto", 0)))
    assert chosen.candidate.tags == ("preferred",) and chosen.estimate is not None
    model = ReprogrammedModel(SmallCNN(), chosen.model.input, GroupedRidge(**chosen.candidate.output[1]), task.info).eval()
    model.output.fit(model.collect(task.train), to_tensor_labels(task.train.labels))
    assert np.allclose(model.predict_proba(task.test), chosen.model.predict_proba(task.test), atol=1e-5)


def test_a_source_without_layers_has_a_cheaper_program_beside():
    info = TargetInfo("t", "series", "classification", ("a", "b"), (1, 1, 50))
    found = modality("series").candidates(SourceSpec("image", 64, ("a", "b")), info)
    assert [len(candidate.atoms) for candidate in found] == [4, 1]


def test_candidates_read_sounds_on_the_mel_scale():
    spec = SourceSpec("image", 64, ("a", "b"), feature_size=4, taps=("conv",))
    for rate, picture in ((1, "line_plot"), (50, "line_plot"), (8000, "mel_spectrogram")):
        found = modality("series").candidates(spec, TargetInfo("t", "series", "classification", ("a", "b"), (1, rate, 50)))
        assert found[-1].tags == ("preferred",) and found[-1].input[1]["pictures"][0] == picture
        assert len(found[-1].atoms) == len(found[-1].input[1]["pictures"])


def test_an_example_is_shown_as_lines():
    page = modality("series").shown(np.array([[0.0, np.nan, 1.0], [np.nan] * 3]), 100)
    assert page.startswith("<svg") and page.count("<polyline") == 2 and "nan" not in page


@pytest.mark.parametrize("name", signals.CORRUPTIONS)
def test_corruptions_grow_and_keep_what_is_missing(name):
    x = torch.randn(4, 2, 200, generator=torch.Generator().manual_seed(0)).cumsum(2)
    x[0, 0, 5] = float("nan")
    unit = signals.units(x)
    far = [float((signals.corrupt(name, x, s, unit) - x).nan_to_num().abs().mean()) for s in (1, 3, 5)]
    assert 0 < far[0] < far[1] < far[2]
    twice = [signals.corrupt(name, x, 3, unit, seed=1) for _ in range(2)]
    assert torch.equal(twice[0].nan_to_num(), twice[1].nan_to_num()) and torch.isnan(twice[0]).sum() == 1


def test_the_attack_stays_within_its_size_and_hurts_more_than_noise(program):
    model, task = program
    x, y = task.test.batch(range(8)), torch.from_numpy(task.test.labels)
    unit = signals.units(task.train.batch(range(16)))
    moved = signals.attack(model, x, y, unit, eps=0.3, steps=5)
    assert float(((moved - x).abs() / unit[None, :, None]).max()) <= 0.3 + 1e-5
    loss = torch.nn.functional.cross_entropy
    random = x + 0.3 * unit[None, :, None] * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).sign()
    with torch.no_grad():
        clean, attacked, noisy = (float(loss(model(part), y)) for part in (x, moved, random))
    assert attacked > max(clean, noisy)


def test_a_run_its_predictions_and_what_to_label_next(typed, tmp_path):
    x, y = waves(30)
    np.savez(tmp_path / "a.npz", X=x, y=y)
    fast = ["source=small_cnn", "device=cpu"]
    code, told = typed(*fast, "target=series", f"target.path={tmp_path / 'a.npz'}", "target.shots=6", "robustness=quick")
    assert code == 0, told
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert {"minirocket+ridge", "warping+nearest", "raw+ridge", "random_source"} <= set(result["baselines"])
    assert {"signal_corruptions", "clipping", "signal_pgd"} <= {row["check"] for row in result["robustness"]["rows"]}
    assert "<svg" in (tmp_path / "run" / "report.html").read_text()
    rows = [[*signal] for signal in x[:4]]
    rows[1] = ["none"] * 40
    with (tmp_path / "new.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[f"t{i}" for i in range(40)], *rows])
    where = ["target=series", f"target.path={tmp_path / 'new.csv'}"]
    code, told = typed("task=predict", "program=run/program", *where, "device=cpu", folder="new")
    assert code == 0, told
    with (tmp_path / "new" / "predictions.csv").open() as file:
        found = list(csv.DictReader(file))
    assert len(found) == 4 and found[1]["problem"]
    assert [row["prediction"] for row in found if not row["problem"]] == ["0", "0", "1"]
    pool = ["target=series", f"target.path={tmp_path / 'a.npz'}", "budget=4"]
    code, told = typed(*fast, "task=choose_labels", *pool, folder="list")
    assert code == 0, told
    assert len((tmp_path / "list" / "to_label.csv").read_text().splitlines()) == 5
