"""What cannot exist is refused, what is rare is graded, and real drugs pass."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from molecules.chemistry import parse
from molecules.constraints import Plausible, Precedent, Unstable
from molecules.constraints.config import ConstraintConfig
from molecules.precedent import FILE, PrecedentTable, count, ring_name, ring_systems, table, unusual, write
from molecules.strain import impossible_rings
from reprogram.cli import config_folder

HERE = Path(__file__).parent
BRIDGED = "aromatic ring bridged across meta or para positions"
CAN_EXIST = {  # strained or odd, and made
    "norbornene": "C1=CC2CCC1C2",
    "barrelene": "C1=CC2C=CC1C=C2",
    "triptycene": "c1ccc2c(c1)C1c3ccccc3C2c2ccccc21",
    "pyrene": "c1cc2ccc3cccc4ccc(c1)c2c34",
    "corannulene": "c1cc2ccc3ccc4ccc5ccc1c1c2c3c4c51",
    "acenaphthene": "C1Cc2cccc3cccc1c23",
    "an azacyclooctyne of click chemistry": "C1CC2=CC=CC=C2C#CC2=CC=CC=C12",
    "cubane": "C12C3C4C1C5C2C3C45",
    "bicyclo[1.1.1]pentane": "C1C2CC1C2",
    "squaric acid": "O=c1c(O)c(O)c1=O",
    "biphenylene": "c1ccc2c(c1)-c1ccccc1-2",
    "ferrocene": "[Fe+2].c1cc[cH-]c1.c1cc[cH-]c1",
    "[6]metacyclophane": "C1CCc2cccc(CCC1)c2",
    "diamantane": "C1C2CC3C4CC5CC(C14)C(C2)C3C5",
    "a porphyrin": "C1=Cc2cc3ccc(cc4nc(cc5ccc(cc1n2)[nH]5)C=C4)[nH]3",
    "bicyclo[3.3.1]nonene": "C1CC2=CCCC(C1)C2",
    "bicyclo[4.2.2]decene": "C1CCCC2=CCC1CC2",
}
CANNOT_EXIST = {
    "C1CCc2cccc(C1)c2": BRIDGED,
    "C1Cc2ccc1cc2": BRIDGED,
    "c1cc2oc1CC2": BRIDGED,
    "C1=C2CCC(C1)C2": "anti-Bredt double bond",
    "C1CCC2=CCC1CC2": "anti-Bredt double bond",
    "C1=CC2=CC=C1C2": "anti-Bredt double bond",
    "C1CCC#CC1": "triple bond in a small ring",
    "c1cccc#c1": "triple bond in a small ring",
    "C1=CC=C=C=C1": "cumulated double bonds in a small ring",
    "C1CC=C=CCC1": "cumulated double bonds in a small ring",
    "C1=CC=C1": "cyclobutadiene",
    "C1=CO1": "antiaromatic three-membered ring",
    "C12C3C1C23": "atom shared by too many small rings",
    "NC1=CC2NC34C56CC7CC2(NC3(C5)O6)S(=O)N2COC7C14C2": "cage of too many bridged rings",
}


def cases(name):
    return [line.split()[0] for line in (HERE / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def default():
    """The constraints that ``task=design`` has without being asked."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("config", ["task=design"])
    return instantiate(config.constraints, _convert_="all").constraints([])


@pytest.mark.parametrize("smiles", cases("impossible.smi"))
def test_the_default_of_a_design_run_refuses_what_once_passed(default, smiles):
    found = default.violations(parse(smiles))
    assert found["plausible"] or found["unstable"]
    assert Precedent(environments=10).reasons(parse(smiles)), "and nobody has seen it"


@pytest.mark.parametrize("smiles", cases("real_drugs.smi"))
def test_drugs_that_were_once_refused_pass(smiles):
    assert not Plausible().reasons(parse(smiles)) and not Unstable().reasons(parse(smiles))


@pytest.mark.parametrize("name", CAN_EXIST)
def test_odd_rings_that_exist_pass(name):
    assert impossible_rings(parse(CAN_EXIST[name])) == []


@pytest.mark.parametrize("smiles", CANNOT_EXIST)
def test_rings_that_cannot_exist_are_refused_with_the_reason(smiles):
    assert CANNOT_EXIST[smiles] in Plausible().reasons(parse(smiles)) and Plausible().violation(parse(smiles)) > 0


@pytest.mark.parametrize(
    ("smiles", "unstable"),
    [
        ("CC(=O)Oc1ccccc1C(=O)O", False),
        ("CN1CCC[C@H]1c1cccnc1", False),
        ("CS(=O)(=O)Nc1ccc([N+](=O)[O-])cc1", False),
        ("c1ccc2c(c1)nnn2C", False),
        ("O=C(NN1CCCCC1)c1ccccc1", False),
        ("CC1=CC(=O)NN1", False),
        ("CNN(C)N(C)C", True),
        ("CON(C)OC", True),
        ("COOC", True),
        ("C=C=C=C", True),
        ("FN(C)C", True),
        ("C=C(O)C", True),
        ("CC(=O)Cl", True),
        ("[CH2]CC", True),
    ],
)
def test_unstable_groups(smiles, unstable):
    assert bool(Unstable().violation(parse(smiles))) is unstable, Unstable().reasons(parse(smiles))


def test_ring_systems_are_fused_spiro_and_bridged_rings_with_what_is_double_bonded_to_them():
    mol = parse("O=C1CC2(CCN(Cc3ccccc3)CC2)c2ccccc21")
    assert sorted(ring_name(mol, atoms) for atoms in ring_systems(mol)) == sorted(
        [ring_name(m, ring_systems(m)[0]) for m in (parse("O=C1CC2(CCNCC2)c2ccccc21"), parse("c1ccccc1"))]
    )
    tautomers = {ring_name(m, ring_systems(m)[0]) for m in map(parse, ("Cc1c[nH]cn1", "Cc1cnc[nH]1", "Cn1cncc1CC"))}
    assert len(tautomers) == 1, "one name for tautomers and N-substituted forms"


def test_violations_grow_with_rarity_and_follow_the_threshold():
    common, unknown = parse("CCc1ccncc1"), parse("CC(=O)Nc1ccc(Cc2c3cnc4c2CC3(C)O4)cc1")
    assert Precedent(10, 10).violation(common) == 0
    assert Precedent(10, 0).violation(unknown) == 1 and unusual(unknown)[0].seen == 0
    name, seen = next((k, n) for k, n in table().rings.items() if n == 40)
    mol = parse(name)
    assert Precedent(40, 0).violation(mol) == 0 < Precedent(80, 0).violation(mol) < Precedent(10**6, 0).violation(mol) < 1
    assert str(unusual(mol, 80, 0)[0]) == f"ring system {name} seen in {seen} of {table().molecules:,}"


def test_charges_and_stereo_marks_do_not_make_a_molecule_unusual():
    assert unusual(parse("C[NH+]1CCC[C@@H]1c1cccnc1")) == unusual(parse("CN1CCCC1c1cccnc1"))


def test_the_table_is_what_its_script_counts(tmp_path):
    made = count(["c1ccccc1CN", "c1ccccc1CC[NH3+]", "not a molecule", "C1CC1"])
    assert made.molecules == 3 and made.rings == {"c1ccccc1": 2}
    write(made, tmp_path / "table.tsv")
    text = (tmp_path / "table.tsv").read_text()
    assert text.startswith("# molecules\t3\nring\tc1ccccc1\t2\n") and isinstance(made, PrecedentTable)
    key = text.splitlines()[-1].split("\t")[1]
    assert int(key, 36) in made.environments
    assert FILE.stat().st_size < 1_000_000


def test_each_part_of_the_default_can_be_switched_off():
    names = [c.name for c in ConstraintConfig(ring_precedent=3).constraints([]).items]
    assert names == ["precedent"] and not ConstraintConfig(ring_precedent=0).constraints([]).items


def test_rare_parts_of_a_salt_have_names():
    names = [str(item) for item in unusual(parse("C[As](C)C.Cl"))]
    assert any("As" in name for name in names)
