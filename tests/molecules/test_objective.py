"""Scores: aggregates, constraints, Pareto sets, against hand calculation."""

import csv
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from molecules import chemistry
from molecules.constraints import (
    Alerts,
    Constraints,
    Forbid,
    Keep,
    Lipinski,
    Scaffold,
    Similar,
    Window,
)
from molecules.objective import Objective, Scored, Term, best_of, hypervolume, pareto
from molecules.oracles.base import Answer, Oracle
from molecules.oracles.descriptor import Descriptor, descriptor
from molecules.report import write_csv, write_sdf
from molecules.transforms import (
    Clipped,
    DoubleSigmoid,
    ExponentialDecay,
    Gaussian,
    ReverseSigmoid,
    Sigmoid,
    Step,
    ValueMap,
)
from reprogram.errors import ConfigError, DataError

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


class Table(Oracle):
    """Values from a table; NaN with a reason for the rest."""

    def __init__(self, name, values, direction="max", std=0.0):
        self.name, self.values, self.direction, self.std = name, values, direction, std

    def answers(self, smiles):
        missing = Answer(math.nan, "not in the table")
        return [Answer(self.values[s], "", self.std) if s in self.values else missing for s in smiles]


def test_aggregates_by_hand():
    terms = [Term(Table("a", {"C": 0.25}), weight=1), Term(Table("b", {"C": 0.81}), weight=3)]
    assert Objective(terms, aggregate="arithmetic").score(["C"])[0].score == pytest.approx((0.25 + 3 * 0.81) / 4)
    assert Objective(terms, aggregate="geometric").score(["C"])[0].score == pytest.approx((0.25 * 0.81**3) ** 0.25)
    hinge = [Term(Table("f", {"C": 0.3}), weight=25, at_least=0.4), Term(Table("g", {"C": 0.81}))]
    assert Objective(hinge, aggregate="hinge").score(["C"])[0].score == pytest.approx(0.81 - 25 * 0.1)


def test_raw_and_transformed_values_both_kept():
    scored = Objective([Term(Descriptor("mw"), Gaussian(200, 20))]).score([ASPIRIN])[0]
    assert scored.raw["mw"] == pytest.approx(180.16, abs=0.01)
    assert scored.parts["mw"] == pytest.approx(math.exp(-0.5 * ((scored.raw["mw"] - 200) / 20) ** 2))


def test_failed_molecule_costs_itself_alone_with_its_reason():
    scored = Objective.of(Table("t", {"C": 1.0})).score(["C", "CC"])
    assert scored[0].score == 1.0 and math.isnan(scored[1].score)
    assert scored[1].reason == "t: not in the table"
    assert sorted(scored, key=lambda s: s.rank)[-1].smiles == "C"


def test_a_confidence_bound_counts_an_uncertain_oracle_pessimistically():
    up = Term(Table("a", {"C": 0.5}, std=0.1), confidence_bound=2)
    down = Term(Table("b", {"C": 0.5}, direction="min", std=0.1), Clipped(0.0, 1.0), confidence_bound=2)
    scored = Objective([up, down], aggregate="arithmetic").score(["C"])[0]
    assert scored.parts["a"] == pytest.approx(0.3) and scored.parts["b"] == pytest.approx(1 - 0.7)
    assert scored.raw == {"a": 0.5, "b": 0.5}


def test_transforms_at_their_corners():
    assert Sigmoid(2, 6)(4) == pytest.approx(0.5) and Sigmoid(2, 6)(6) > 0.99
    assert Sigmoid(2, 6)(-1e9) == pytest.approx(0)
    assert ReverseSigmoid(2, 6)(2) > 0.99
    assert DoubleSigmoid(2, 6)(4) > 0.99 and DoubleSigmoid(2, 6)(9) < 0.01
    assert Step(1, 2)(1.5) == 1 and Step(1, 2)(3) == 0
    assert Gaussian(1, 1, "min")(0) == 1 and Gaussian(1, 1, "max")(0) == pytest.approx(math.exp(-0.5))
    assert Clipped(0.8)(0.4) == pytest.approx(0.5) and Clipped(0.8)(0.9) == 1
    assert Clipped(high=2, low=6)(3) == pytest.approx(0.75)
    assert ExponentialDecay(2)(0.5) == pytest.approx(math.exp(-1)) and ExponentialDecay()(-3) == 1
    assert ValueMap([[1, 0.9], [2, 0.3]], 0.1)(2.0) == 0.3 and ValueMap([[1, 0.9]], 0.1)(7) == 0.1
    assert math.isnan(Sigmoid(2, 6)(math.nan))
    with pytest.raises(ConfigError, match="low must be smaller"):
        Sigmoid(6, 2)


def test_constraints_hold_and_measure_distance():
    mol = chemistry.parse(ASPIRIN)
    assert Similar(ASPIRIN, 1.0).violation(mol) == 0
    far = Similar("CCCCCC", 0.4)
    assert far.violation(mol) == pytest.approx(0.4 - far.similarity(mol)) and far.violation(mol) > 0
    assert Similar(["CCCCCC", ASPIRIN], 1.0).violation(mol) == 0
    assert Keep(["C(=O)[OH]"]).violation(mol) == 0 and Keep(["[#7]", "[#16]"]).violation(mol) == 2
    assert Forbid(["[#7]"]).violation(mol) == 0 and Forbid(["C(=O)O"]).violation(mol) == 1
    assert Window("mw", 100, 200).violation(mol) == 0
    assert Window("mw", high=100).violation(mol) == pytest.approx(0.8016, abs=1e-3)
    assert Lipinski().violation(mol) == 0
    assert Lipinski().violation(chemistry.parse("C" * 50)) == 2
    assert Alerts(["BRENK"]).hits(mol) and not Alerts(["PAINS"]).hits(mol)


def test_locked_scaffold_grows_only_at_its_attachment_points():
    lock = Scaffold("*c1ccc(cc1)C(=O)N")
    assert lock.violation(chemistry.parse("CCc1ccc(cc1)C(=O)N")) == 0
    assert lock.violation(chemistry.parse("c1ccc(cc1)C(=O)N")) == 0
    assert lock.violation(chemistry.parse("CCc1ccc(cc1C)C(=O)N")) == 1
    assert lock.violation(chemistry.parse("CCc1ccc(cc1)C(=O)NC")) == 1
    amine = Scaffold("c1ccccc1N*")
    assert amine.violation(chemistry.parse("c1ccccc1NC")) == 0 and amine.violation(chemistry.parse("c1ccccc1N")) == 0
    assert amine.violation(chemistry.parse("c1ccccc1N(C)C")) == 1, "one attachment point takes one substituent"
    assert Scaffold("c1ccccc1N(*)*").violation(chemistry.parse("c1ccccc1N(C)C")) == 0
    assert Scaffold("c1ccccc1").violation(chemistry.parse(ASPIRIN)) == 0


def test_contradictory_constraints_are_named_before_the_first_call():
    with pytest.raises(ConfigError, match="contradict"):
        Constraints([Keep(["c1ccccc1"]), Forbid(["c1ccccc1"])])
    with pytest.raises(ConfigError, match="contradict"):
        Constraints([Scaffold("*c1ccccc1"), Forbid(["[c;r6]"])])
    with pytest.raises(ConfigError, match="contradict"):
        Constraints([Scaffold("*c1ccccc1"), Window("mw", high=50)])
    with pytest.raises(ConfigError, match="no molecule"):
        Window("mw", 500, 100)


def test_mistakes_are_said_in_one_sentence():
    with pytest.raises(ConfigError, match=r"'C\(\(\('"):
        Keep(["C((("])
    with pytest.raises(DataError, match="'nope'"):
        Similar("nope")
    with pytest.raises(ConfigError, match="did you mean 'MolLogP'"):
        descriptor("MolLogp")
    with pytest.raises(ConfigError, match="did you mean 'BRENK'"):
        Alerts(["BRENKS"])


def test_pareto_against_brute_force():
    values = np.random.default_rng(0).integers(0, 6, (40, 3)).astype(float)
    brute = [not any((o >= v).all() and (o > v).any() for o in values) for v in values]
    assert pareto(values).tolist() == brute
    assert hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), [0, 0]) == pytest.approx(3.0)


@pytest.mark.parametrize("option", ["drug_like", "hinge"])
def test_objective_from_configuration_runs_under_its_constraints(option):
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from molecules.run_search import build_objective
    from reprogram.configuration import config_folder

    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        words = ["task=design", f"objective={option}", "constraints=none", "constraints.plausible=true"]
        config = compose("config", overrides=words)
    objective = build_objective(OmegaConf.to_container(config, resolve=True), [ASPIRIN])
    scored = objective.score([ASPIRIN])[0]
    assert math.isfinite(scored.score) and scored.constraints == {"plausible": 0.0}


@settings(max_examples=30, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(-50, 50), st.floats(0.1, 50))
def test_transforms_stay_between_0_and_1(value, low, width):
    high = low + width
    shapes = [Sigmoid(low, high), ReverseSigmoid(low, high), DoubleSigmoid(low, high), Step(low, high)]
    shapes += [Gaussian(low, width), Clipped(high, low), ExponentialDecay(width)]
    assert all(-1e-9 <= shape(value) <= 1 + 1e-9 for shape in shapes)
    assert Sigmoid(low, high)(value) + ReverseSigmoid(low, high)(value) == pytest.approx(1)


@pytest.mark.parametrize("word", ["minimize", "MIN", ""])
def test_a_direction_that_is_none_is_refused_instead_of_maximised(word):
    with pytest.raises(ConfigError, match=f"oracle.direction={word} of logp is not known; allowed: max, min"):
        Objective.of(Descriptor("logp", direction=word))


def test_molecules_without_a_score_are_listed_after_all_that_have_one():
    given = [Scored("C", math.nan, reason="failed"), Scored("CC", 0.2, constraints={"mw": 0.5}), Scored("CCC", 0.1)]
    assert [s.smiles for s in best_of(given, 3)] == ["CCC", "CC", "C"]


def test_a_term_that_should_be_small_is_not_maximised_for_want_of_a_transform():
    small = Descriptor("sa", direction="min")
    with pytest.raises(ConfigError, match=r"the term sa should be small .*such as ReverseSigmoid"):
        Objective([Term(small), Term(Descriptor("qed"))], aggregate="arithmetic")
    falling = Objective([Term(small, ReverseSigmoid(2, 5))])
    assert Objective.of(small).score(["CCO"])[0].score < 0 < falling.score(["CCO"])[0].score
    with pytest.raises(ConfigError, match="the oracle of a term is 'qed'"):
        Objective([Term("qed")])


def test_answers_that_cannot_be_told_apart_are_nobodys():
    class Header(Table):
        def answers(self, smiles):
            return [Answer(0.0), *super().answers(smiles)]

    with pytest.raises(ValueError, match="must give one Answer for each of 2 molecules"):
        Objective.of(Header("a", {"C": 0.1, "CC": 0.2})).score(["C", "CC"])


def test_one_pattern_need_not_be_a_list():
    assert Keep("c1ccccc1").violation(chemistry.parse(ASPIRIN)) == 0 and Forbid("Cl").patterns == ["Cl"]
    assert Alerts("PAINS").catalogs == ("PAINS",)
    with pytest.raises(ConfigError, match="the limit 'low'; it must be a number"):
        Window("mw", "low")


def test_a_term_called_score_has_a_column_of_its_own(tmp_path):
    objective = Objective([Term(Table("score", {"C": 0.25})), Term(Table("b", {"C": 1.0}))])
    scored = objective.score(["C"])
    write_csv(tmp_path / "m.csv", scored, objective)
    write_sdf(tmp_path / "m.sdf", scored, objective)
    header, row = csv.reader((tmp_path / "m.csv").open())
    assert header[:5] == ["smiles", "score", "feasible", "score (part)", "b"] and row[:5] == ["C", "0.5", "1", "0.25", "1.0"]
    properties = next(iter(Chem.SDMolSupplier(str(tmp_path / "m.sdf")))).GetPropsAsDict()
    assert properties["score"] == 0.5 and properties["score (part)"] == 0.25
