"""Signals from files, folders and arrays: every shape of table, splits that leak nothing, damage that is named."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import soundfile

from reprogram.errors import ConfigError, DataError
from reprogram.targets import load_target
from reprogram.targets._signals import hold_out_groups
from reprogram.targets._sound_files import at_rate, read_sound
from reprogram.targets.series import from_signals, series


def write(path, header, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return str(path)


def waves(count=20, length=30):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    return np.sin(np.arange(length) * (0.2 + 0.5 * labels[:, None]) + rng.random((count, 1)) * 6), labels


def test_a_packaged_set_has_its_standard_split():
    target = load_target("ucr", name="GunPoint", shots=3, seed=1)
    assert (len(target.train), len(target.test)) == (6, 150) and target.info.input_shape == (1, 1, 150)
    assert target.test.batch([0, 5]).shape == (2, 1, 150)
    with pytest.raises(ConfigError, match=r"target.name=GunPiont .*did you mean 'GunPoint'"):
        load_target("ucr", name="GunPiont")


def test_a_row_a_signal(tmp_path):
    x, y = waves()
    rows = [["no" if label else "yes", f"p{i // 4}", *signal] for i, (signal, label) in enumerate(zip(x, y, strict=True))]
    rows[3][10] = ""  # missing, and kept
    rows[4][5] = "broken"
    path = write(tmp_path / "wide.csv", ["class", "person", *(f"t{i}" for i in range(30))], rows)
    target = series(path, label_column="class", groups="person", shots=None)
    assert target.info.classes == ("no", "yes") and len(target.train) + len(target.test) == 19
    assert any("no number" in note and "6" in note for note in target.notes)  # row 6 of the file
    person = {row: (row - 2) // 4 for row in range(2, 22)}
    assert not {person[row] for row in target.train_rows} & {person[row] for row in target.test_rows}
    assert np.isnan(np.concatenate([p.batch(range(len(p))).numpy() for p in (target.train, target.test)])).sum() == 1


def test_a_row_a_value_with_uneven_times_and_channels(tmp_path):
    rows = []
    for name in range(12):
        times = np.array([0.0, 1.0, 2.0, 3.0, 5.0])  # one step is missing
        rows += [[name, t, 2 * t + name, t * t, "ab"[name % 2]] for t in times]
    header = ["id", "when", "x", "y", "kind"]
    path = write(tmp_path / "long.csv", header, rows)
    options = dict(id_column="id", time_column="when", value_columns=("x", "y"), label_column="kind", shots=None)
    target = series(path, **options)
    assert target.info.input_shape == (2, 1, 6) and any("not evenly spaced" in note for note in target.notes)
    signal = target.train.batch([0])[0]
    name = int(target.train_rows[0])
    assert signal[0].tolist() == [2 * t + name for t in range(6)]
    assert signal[1, 4] == pytest.approx((9 + 25) / 2)
    melted = [[r[0], r[1], channel, r[2 + i], r[4]] for r in rows for i, channel in enumerate("xy")]
    path = write(tmp_path / "longer.csv", ["id", "when", "channel", "value", "kind"], melted)
    options |= {"value_columns": ("value",), "channel_column": "channel"}
    assert np.array_equal(series(path, **options).train.batch([0])[0], signal)


def test_a_line_of_a_ts_file_that_cannot_be_read_keeps_its_place_and_its_reason(tmp_path):
    x, y = waves()
    lines = [",".join(f"{value:.5f}" for value in signal) + f":{'ab'[label]}" for signal, label in zip(x, y, strict=True)]
    head = ["@problemName waves", "@univariate true", "@equalLength false", "@classLabel true a b", "@data"]
    for place, broken in ((2, "1,2,x,4:a"), (9, "1,2,3"), (15, ":b")):
        lines[place] = broken
    lines[4] = "1,2,?,4:a"
    path = tmp_path / "some.ts"
    path.write_text("\n".join([*head, *lines]))
    target = series(str(path), shots=None)
    assert sorted([*target.train_rows, *target.test_rows]) == [i + 6 for i in range(20) if i not in (2, 9, 15)]
    notes = " ".join(target.notes)
    assert "1 row cannot be read (could not convert string to float: 'x') (row 8)." in notes and "(row 15)" in notes
    place = target.train_rows.index(6) if 6 in target.train_rows else None
    parts = target.train if place is not None else target.test
    signal = parts.batch([place if place is not None else target.test_rows.index(6)])[0, 0]
    assert np.allclose(signal, x[0], atol=1e-5)
    path.write_text("\n".join([*head, *["1,2,x:a"] * 200]))
    with pytest.raises(DataError, match=r"cannot be read as .ts: line 6: could not convert string to float: 'x'"):
        series(str(path))


def test_a_row_that_is_broken_costs_no_column(tmp_path):
    rows = [[f"p{i}", *signal, "" if i else "loose electrode"] for i, signal in enumerate(waves()[0][:6])]
    rows[2][4], rows[4][1:31] = "broken", ["x"] * 30
    path = write(tmp_path / "new.csv", ["who", *(f"t{i}" for i in range(30)), "note"], rows)
    found = list(series.inputs(path))
    assert [bool(signal.problem) for signal in found] == [False, False, True, False, True, False]
    assert all(signal.content.shape == (1, 30) for signal in found if not signal.problem)


def test_a_table_with_a_row_a_value_says_what_to_name(tmp_path):
    path = write(tmp_path / "long.csv", ["id", "time", "value", "label"], [["p1", t, t, "a"] for t in range(4)])
    with pytest.raises(DataError, match=r"the column 'id' holds 'p1', which is no number.*target.id_column"):
        series(path, label_column="label")


def test_arrays_in_npz_and_from_python(tmp_path):
    x, y = waves()
    np.savez(tmp_path / "a.npz", X=x, y=y, rate=50.0)
    target = load_target("series", path=str(tmp_path / "a.npz"), shots=3)
    assert target.rate == 50.0 and target.info.input_shape == (1, 50, 30)
    again = from_signals(x, y, shots=3)
    assert np.array_equal(again.train.batch([0]), target.train.batch([0]))
    unequal = [signal[: 10 + i] for i, signal in enumerate(x)]
    task = from_signals(unequal, y + 0.5, test_size=5)
    assert task.info.problem == "regression" and task.test.batch(range(5)).shape[2] == task.info.input_shape[2]
    np.savez(tmp_path / "b.npz", X=np.array([object()], dtype=object))
    with pytest.raises(DataError, match=r"b.npz cannot be read"):
        load_target("series", path=str(tmp_path / "b.npz"))
    both = from_signals(x, y, test=(x[:5], y[:5]))
    assert len(both.train) == 15 and any("5 training signals are also test signals" in note for note in both.notes)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({}, "no signal to learn from: 20 rows have no label"),
        ({"y": np.array(["up"] * 20)}, "only the class 'up'"),
        ({"y": np.zeros((20, 2))}, r"labels y of the shape \(20, 2\)"),
        ({"y": np.arange(20) % 2, "rate": np.zeros(1)}, "a rate that is no number above 0"),
        (None, "cannot be read"),
    ],
)
def test_arrays_that_cannot_be_learned_from_say_why(tmp_path, arrays, sentence):
    np.savez(tmp_path / "a.npz", X=waves()[0], **(arrays or {}))
    if arrays is None:
        (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:900])
    with pytest.raises(DataError, match=sentence):
        series(str(tmp_path / "a.npz"), shots=3)


def test_a_label_that_is_missing_is_no_class(tmp_path):
    x, y = waves()
    values = np.where(np.arange(20) == 3, np.nan, y + 0.5 * np.arange(20))
    np.savez(tmp_path / "a.npz", X=x, y=values)
    target = series(str(tmp_path / "a.npz"), shots=None)
    assert target.info.problem == "regression" and len(target.train) + len(target.test) == 19
    with pytest.raises(DataError, match="Signal 3 has no label"):
        from_signals(x, values)


def test_a_value_without_a_time_is_left_out_and_classes_of_one_name_are_told(tmp_path):
    kinds = ["yes", "YES", "no"]
    rows = [[i // 5, "" if i == 7 else i % 5, i, kinds[i // 5 % 3]] for i in range(90)]
    path = write(tmp_path / "long.csv", ["id", "when", "x", "kind"], rows)
    target = series(path, id_column="id", time_column="when", value_columns=("x",), label_column="kind", shots=None)
    assert target.info.input_shape == (1, 1, 5) and "(row 9)" in target.notes[0]
    assert any("'YES' and 'yes'; write them alike" in note for note in target.notes)


def test_whole_groups_are_held_out_however_large():
    groups = ["a"] * 30 + ["b"] * 30 + ["c"] * 30
    train, test = hold_out_groups(groups, 0.2, 0)
    assert len(test) == 30 and len(train) == 60
    with pytest.raises(DataError, match="one group only"):
        hold_out_groups(["a", "a"], 0.2, 0)


@pytest.fixture
def sounds(tmp_path):
    for place, (kind, tone) in enumerate((("low", 200), ("high", 900))):
        (tmp_path / kind).mkdir()
        for i in range(10):
            rate = (8000, 16000)[i % 2]
            time = np.arange(int(rate * (0.2 + 0.01 * i))) / rate
            sound = 0.5 * np.sin(2 * np.pi * tone * time)
            stereo = np.stack([sound, 0 * sound], 1) if i == 3 else sound
            soundfile.write(tmp_path / kind / f"{'abc'[i % 3]}-{i}.{'flac' if place else 'wav'}", stereo, rate)
    return tmp_path


def test_sounds_of_any_rate_become_one(sounds):
    target = load_target("audio_folder", root=str(sounds), groups="([abc])-", shots=None, rate=8000)
    assert target.info.input_shape[:2] == (1, 8000) and target.info.classes == ("high", "low")
    speakers = [{row.split("/")[1][0] for row in rows} for rows in (target.train_rows, target.test_rows)]
    assert not speakers[0] & speakers[1] and target.split["groups"] == sorted(speakers[1])
    (sounds / "low" / "z-1.wav").write_bytes(b"RIFF no sound")
    with_damage = load_target("audio_folder", root=str(sounds), shots=None)
    assert any("z-1.wav" in note for note in with_damage.notes)
    assert read_sound(sounds / "low" / "a-3.wav", 8000, mono=False).shape[0] == 2
    with pytest.raises(ConfigError, match="finds no group in"):
        load_target("audio_folder", root=str(sounds), groups="(speaker)")


def test_a_table_of_paths_stays_below_its_folder(sounds):
    rows = [[f"{kind}/{name.name}", kind, name.name[0]] for kind in ("low", "high") for name in sorted((sounds / kind).iterdir())]
    table = write(sounds / "list.csv", ["path", "label", "speaker"], rows)
    target = load_target("audio_folder", root=str(sounds), labels_file=table, groups="speaker", shots=2)
    assert len(target.train) == 4
    table = write(sounds / "list.csv", ["path", "label"], [["../secret.wav", "low"], *(row[:2] for row in rows)])
    with pytest.raises(DataError, match="which is not below target"):
        load_target("audio_folder", root=str(sounds), labels_file=table)


def test_a_lower_rate_folds_nothing_down():
    time = np.arange(16000) / 16000
    high = at_rate(np.sin(2 * np.pi * 6000 * time)[None], 16000, 8000)
    assert high.shape == (1, 8000) and np.abs(high[0, 200:-200]).max() < 0.02


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "patient_id"])
def test_a_column_that_counts_the_rows_is_no_sample(tmp_path, name):
    path, values = tmp_path / "sorted.csv", np.random.default_rng(0).random((20, 3))
    lines = [f"{i},{a:.3f},{b:.3f},{c:.3f},{'on' if i < 10 else 'off'}" for i, (a, b, c) in enumerate(values)]
    path.write_text("\n".join([f"{name},t0,t1,t2,state", *lines]))
    task = series(str(path), label_column="state", shots=None)
    assert task.info.input_shape[-1] == 3 and float(task.train.batch(range(len(task.train))).max()) < 1
    assert any("names the rows" in note for note in task.notes)
