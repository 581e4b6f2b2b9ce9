"""Start files as they come: every bad row is counted and named, none ends the run."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from molecules.starts import File, Given, StartRow, Zinc, gather
from reprogram.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
MESSY = """CC(=O)Oc1ccccc1C(=O)O aspirin
not_a_molecule x
CCN(CC)CC.Cl salt

OC(=O)c1ccccc1OC(C)=O aspirin again
C[CH2] radical
C1CCCCCCCCCCCCC1 macrocycle
[Na+].[Cl-] table salt
CC(=O)[O-] acetate
"""


def test_every_bad_line_of_a_smi_file_is_counted_and_named(tmp_path):
    file = tmp_path / "mine.smi"
    file.write_text(MESSY)
    starts = File(str(file)).read(RNG)
    assert starts.smiles == ["CC(=O)Oc1ccccc1C(=O)O", "CCN(CC)CC", "C1CCCCCCCCCCCCC1", "CC(=O)O"]
    assert starts.counts == {
        "unreadable": 1,
        "inorganic": 1,
        "radical": 1,
        "duplicate": 1,
        "empty": 1,
        "salt": 1,
        "neutralised": 1,
        "macrocycle": 1,
    }
    text = "\n".join(starts.notes)
    for named in ("line 2 'not_a_molecule'", "line 8 '[Na+].[Cl-]'", "line 6 'C[CH2]'", "line 5 (as line 1)"):
        assert named in text


def test_odd_molecules_are_kept_rightly_or_named(tmp_path):
    starts = File(str(Path(__file__).parent / "odd_starts.smi")).read(RNG)
    assert starts.counts == {
        "unreadable": 1, "inorganic": 3, "metal": 2, "radical": 1, "attachment": 2, "salt": 2, "neutralised": 3, "mapped": 1,
        "organometallic": 1,
    }  # fmt: skip
    text = "\n".join(starts.notes)
    metal = next(note for note in starts.notes if "metal complexes" in note)
    assert "[Pt]" in metal and "[Fe+2]" in metal, "cisplatin and ferrocene"
    assert "line 2 '[N-]=[N+]=[N-]'" in text and "2 dropped with open attachment points (*)" in text
    assert "1 read without atom map numbers: line 4." in text
    assert "Cc1ccccc1" in starts.smiles and "[CH3:3]" not in "".join(starts.smiles)
    assert "1 kept with a metal or another element" in text


def test_csv_finds_its_column_and_names_the_nearest(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text('name,SMILES,note\na,CCO,"two,\nlines"\nb,,x\nc,c1ccccc1,\n')
    assert File(str(file)).read(RNG).smiles == ["CCO", "c1ccccc1"]
    with pytest.raises(DataError, match=r"no column 'SMILE' \(start.column\); did you mean 'SMILES'"):
        File(str(file), column="SMILE").read(RNG)
    file.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no column named 'smiles'"):
        File(str(file)).read(RNG)


def test_sdf_with_a_broken_record(tmp_path):
    file = tmp_path / "mine.sdf"
    with Chem.SDWriter(str(file)) as writer:
        writer.write(Chem.MolFromSmiles("CCO"))
        writer.write(Chem.MolFromSmiles("c1ccccc1"))
    first, second, _ = file.read_text().split("$$$$\n")
    file.write_text(f"{first}$$$$\nbroken\n\n\n  1  0 nonsense\n$$$$\n{second}$$$$\n")
    starts = File(str(file)).read(RNG)
    assert starts.smiles == ["CCO", "c1ccccc1"]
    assert starts.counts == {"unreadable": 1} and "record 2" in starts.notes[0]


@pytest.mark.parametrize("ending, text", [("smi", ""), ("smi", "\n\n"), ("csv", ""), ("csv", "smiles\n"), ("sdf", "")])
def test_an_empty_file_is_said_to_be_empty(tmp_path, ending, text):
    file = tmp_path / f"mine.{ending}"
    file.write_text(text)
    with pytest.raises(DataError, match="it is empty"):
        File(str(file)).read(RNG)


def test_a_file_without_a_usable_molecule_names_its_rows(tmp_path):
    file = tmp_path / "mine.smi"
    file.write_text("xyz\nC[CH2]\n")
    with pytest.raises(DataError, match=r"2 rows.*line 1 'xyz'.*line 2"):
        File(str(file)).read(RNG)


def test_missing_file_and_unknown_ending(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        File(str(tmp_path / "no.smi")).read(RNG)
    (tmp_path / "mine.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"ends in '\.xlsx'; allowed: \.smi"):
        File(str(tmp_path / "mine.xlsx")).read(RNG)
    (tmp_path / "mine.smi").write_bytes(b"\xff\xfe\x00C")
    with pytest.raises(DataError, match="not UTF-8"):
        File(str(tmp_path / "mine.smi")).read(RNG)


def test_many_bad_rows_are_named_up_to_five():
    starts = gather([StartRow("line 0", "C"), *(StartRow(f"line {i}", "bad") for i in range(1, 9))], "mine.smi")
    assert "8 dropped that cannot be parsed: line 1 'bad'" in starts.notes[0]
    assert starts.notes[0].endswith("line 5 'bad' and 3 more.")


def test_zinc_is_random_repeatable_and_in_range():
    one, again, other = (Zinc(50).read(np.random.default_rng(seed)).smiles for seed in (0, 0, 1))
    assert one == again != other
    assert 45 <= len(one) <= 50
    with pytest.raises(ConfigError, match="at least 1"):
        Zinc(0).read(RNG)


def test_given_accepts_one_molecule():
    assert Given("OCC").read(RNG).smiles == ["CCO"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["CCO", "OCC", "c1ccccc1", "", "(", "C[CH2]", "CC.Cl", "[Na+].[Cl-]"]), min_size=1))
def test_every_row_is_kept_or_counted(texts):
    try:
        starts = gather((StartRow(f"line {i}", t) for i, t in enumerate(texts)), "x")
    except DataError:
        assert not {"CCO", "OCC", "c1ccccc1", "CC.Cl"} & set(texts)
        return
    dropped = sum(starts.counts.get(k, 0) for k in ("unreadable", "empty", "duplicate", "radical", "inorganic"))
    assert len(starts.smiles) + dropped == len(texts)
    assert len(set(starts.smiles)) == len(starts.smiles)


@pytest.mark.parametrize(
    "data",
    [
        b"smiles;value\nCCO;1,5\nCCN;2\n",
        b"smiles\tvalue\nCCO\t1\nCCN\t2\n",
        "smiles,name\nCCO,éthanol\nCCN,b\n".encode("latin-1"),
        "smiles,name\nCCO,b\nCCN,b\n".encode("utf-16"),
        "smiles,name\nCCO,a\x0bb\u2028c\nCCN,b\n".encode(),
        b"structure,SMILES,value\nx,CCO,1\ny,CCN\n",
    ],
    ids=["semicolons", "tabs", "latin-1", "utf-16", "odd line ends", "two columns"],
)
def test_a_table_of_start_molecules_is_read_as_spreadsheets_write_it(tmp_path, data):
    (tmp_path / "mine.csv").write_bytes(data)
    starts = File(str(tmp_path / "mine.csv")).read(RNG)
    assert starts.smiles == ["CCO", "CCN"] and not starts.notes


def test_an_open_quotation_mark_swallows_no_row_in_silence(tmp_path):
    (tmp_path / "mine.csv").write_text('smiles,name\nCCO,a\nCCN,"5 inch\nCCC,c\nCCCC,d\n')
    with pytest.raises(DataError, match=r"start.path=.*row 3 runs over 3 lines; a quotation mark in it is not closed"):
        File(str(tmp_path / "mine.csv")).read(RNG)
