"""``task=propose`` from the command line: tables in, a batch out, and rounds that follow each other."""

import csv
import json

import numpy as np
import pytest

from molecules import chemistry
from molecules.campaign import pool
from molecules.campaign.tables import CandidateTable
from molecules.oracles.descriptor import descriptor
from molecules.starts import zinc_file

COUNT = 90


@pytest.fixture(scope="module")
def values():
    """canonical SMILES -> logP, of ZINC molecules."""
    smiles = dict.fromkeys(chemistry.canonical(s) for s in zinc_file().read_text().split()[500 : 500 + COUNT])
    return {s: round(descriptor("logp")(chemistry.parse(s)), 4) for s in smiles}


@pytest.fixture
def tables(tmp_path, values):
    """``measured.csv`` of the first 30, ``pool.csv`` of all and two bad rows."""
    names = [f"M-{i}" for i in range(len(values))]
    rows = list(zip(names, values, values.values()))
    write(tmp_path / "measured.csv", ["id", "SMILES", "log P (o/w)"], rows[:30])
    bad = [("bad", "C1CC", 3), ("salt", "CC(=O)[O-].[Na+]", 4)]
    write(tmp_path / "pool.csv", ["vendor_id", "smiles", "price"], [*((n, s, 7) for n, s, _ in rows), *bad])
    return tmp_path


def write(path, header, rows, delimiter=","):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(header)
        writer.writerows(rows)


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


COMMAND = ("task=propose", "table.path=measured.csv", "goals.log_p_o_w=maximize", "candidates=pool.csv", "batch=6")


def test_a_round_and_the_next(tables, typed, values):
    assert typed(*COMMAND, folder="one")[0] == 0
    first = read(tables / "one" / "proposal.csv")
    known = set(list(values)[:30])
    assert len(first) == 6 and not known & {r["smiles"] for r in first}
    assert all(r["price"] and r["vendor_id"].startswith("M-") for r in first)
    assert all(float(r["log P (o/w) low"]) < float(r["log P (o/w) predicted"]) < float(r["log P (o/w) high"]) for r in first)
    assert {r["nearest_name"] for r in first} <= {f"M-{i}" for i in range(30)}
    assert np.mean([values[r["smiles"]] for r in first]) > np.mean(list(values.values()))
    left = {r["row"]: r["reason"] for r in read(tables / "one" / "left_out.csv")}
    assert left[str(2)] == "is measured already" and "cannot parse" in left[str(len(values) + 2)]
    page = (tables / "one" / "proposal.html").read_text()
    assert page.count("<svg") >= 6 and first[0]["vendor_id"] in page
    assert (tables / "one" / "proposal.sdf").read_text().count("$$$$") == 6

    assert typed(*COMMAND, folder="again")[0] == 0  # nothing was measured: the same round, not another one
    assert read(tables / "again" / "proposal.csv") == first
    assert sorted(f.name for f in (tables / "measured.campaign").glob("round_*")) == ["round_001.json"]

    with (tables / "measured.csv").open("a") as file:
        for row in first[:4]:
            file.write(f"{row['vendor_id']},{row['smiles']},{values[row['smiles']]}\n")
        file.write(f"{first[4]['vendor_id']},{first[4]['smiles']},<9.5\n")
    assert typed(*COMMAND, folder="two")[0] == 0
    result = json.loads((tables / "two" / "result.json").read_text())
    second = read(tables / "two" / "proposal.csv")
    assert result["round"] == 2 and result["held_up"]["log P (o/w)"]["measured"] == 4  # a bound is no outcome
    assert not {r["smiles"] for r in second} & {r["smiles"] for r in first}
    waiting = [r for r in read(tables / "two" / "left_out.csv") if "no value yet" in r["reason"]]
    assert [r["molecule"] for r in waiting] == [first[5]["smiles"]]
    assert "measured against predicted" in (tables / "two" / "proposal.html").read_text()
    errors = [abs(float(r["log P (o/w) predicted"]) - values[r["smiles"]]) for r in first[:4]]
    assert result["held_up"]["log P (o/w)"]["mean_absolute_error"] == pytest.approx(np.mean(errors), rel=1e-4)


def test_another_decimal_and_delimiter_read_the_same(tables, typed):
    assert typed(*COMMAND, folder="one")[0] == 0
    rows = [(r["id"], r["SMILES"], r["log P (o/w)"].replace(".", ",")) for r in read(tables / "measured.csv")]
    write(tables / "measured.csv", ["id", "SMILES", "log P (o/w)"], rows, ";")
    assert typed(*COMMAND, "campaign=other", folder="two")[0] == 0
    assert read(tables / "one" / "proposal.csv") == read(tables / "two" / "proposal.csv")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["~goals.log_p_o_w"], "goals must say what is wanted, as in goals.log_P_o_w=maximize"),
        (["goals.log_p_o_w=large"], "goals.log P (o/w)='large' is not a goal"),
        (["goals.potency=maximize"], "goals.potency: measured.csv has no such column"),
        (["goals.log_P_o_w=minimize"], "goals.log_P_o_w is given twice: 'maximize' and 'minimize'"),
        (["candidates=none.csv"], "candidates=none.csv does not exist"),
        (["candidates_column=price_"], "candidates_column=price_: pool.csv has no such column"),
        (["table.censored=maybe"], "table.censored=maybe is not known"),
        (["batch=0"], "batch"),
    ],
)
def test_mistakes_name_the_key(tables, typed, options, said):
    command = [c for c in COMMAND if not (options[0].startswith("~") and c.startswith("goals"))]
    code, stderr = typed(*command, *[o for o in options if not o.startswith("~")])
    assert code == 2 and said in stderr, stderr
    assert not (tables / "run" / "result.json").exists()


def test_units_are_refused_with_the_key_of_this_table(tables, typed):
    rows = read(tables / "measured.csv")
    mixed = [(r["id"], r["SMILES"], "5 mM" if i else "5 uM") for i, r in enumerate(rows)]
    write(tables / "measured.csv", ["id", "SMILES", "log P (o/w)"], mixed)
    code, stderr = typed(*COMMAND)
    assert code == 2 and "several units" in stderr and "target." not in stderr


def test_parts_of_the_candidates_are_kept_and_damage_is_mended(tables, typed, monkeypatch):
    monkeypatch.setattr(pool, "PART", 40)
    assert typed(*COMMAND, folder="one")[0] == 0
    (home,) = (tables / "measured.campaign").glob("candidates_*")
    parts = sorted(home.glob("*.npz"))
    assert len(parts) == 3
    before = [p.stat().st_mtime_ns for p in parts]
    parts[1].write_bytes(parts[1].read_bytes()[:1000])
    parts[2].unlink()  # as after a kill
    assert typed(*COMMAND, folder="two")[0] == 0
    assert read(tables / "one" / "proposal.csv") == read(tables / "two" / "proposal.csv")
    after = [p.stat().st_mtime_ns for p in sorted(home.glob("*.npz"))]
    assert after[0] == before[0] and after[1] != before[1] and len(after) == 3
    same, other = (CandidateTable("pool.csv", None, {"smiles": None, "encoding": code}) for code in (None, "latin-1"))
    assert home.name == f"candidates_{pool._digest(same)}" != f"candidates_{pool._digest(other)}"  # read in another way


def test_a_folder_that_is_no_campaign_is_refused(tables, typed):
    (tables / "other").mkdir()
    (tables / "other" / "round_001.json").write_text('{"schema": 1, "round": 1}')
    code, stderr = typed(*COMMAND, "campaign=other")
    assert code == 2 and "round_001.json is not a round of a campaign" in stderr


def test_candidates_from_a_design_search(tables, typed, values):
    code, stderr = typed(*COMMAND[:3], "candidates=design", "batch=4", "search=genetic", "budget=40")
    assert code == 0, stderr
    rows = read(tables / "run" / "proposal.csv")
    assert len(rows) == 4 and not {r["smiles"] for r in rows} & set(list(values)[:30])
