"""Graph edits and the searches built on them."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from rdkit import Chem

from molecules import chemistry
from molecules.constraints import Constraints, Plausible, Scaffold, Similar
from molecules.evaluator import Evaluator
from molecules.objective import Objective, Scored
from molecules.oracles.descriptor import Descriptor
from molecules.oracles.function import Function
from molecules.oracles.pmo import pmo
from molecules.search.genetic import Genetic, Population, feasible
from molecules.search.model.features import Features
from molecules.search.model.fit_values import to_fit
from molecules.search.model.tanimoto_gp import CANDIDATES, Kernel, TanimotoGP
from molecules.search.operators.graph import finish, graph
from molecules.search.operators.library import Piece, default_library, pieces
from molecules.search.operators.offspring import WEIGHTS, Child, Offspring
from molecules.search.stoned import Stoned
from molecules.search.surrogate import SLACK, Surrogate

PARENTS = [
    "CCOC(=O)C1=C(COCCN)NC(C)=C(C(=O)OC)C1c1ccccc1Cl",
    "CC(=O)N(CC)c1cccc(-c2ccnc3c(C#N)cnn23)c1",
    "O=C1Nc2ccccc2C1=O",
    "CN1CCN(S(=O)(=O)c2ccc([N+](=O)[O-])cc2)CC1",
    "c1c[nH]c2ccccc12",
]
SMALL = Surrogate(until=(), batch=(5,), candidates=(4,), generations=2, library=100)
SEARCHES = [Genetic(batch=5), Stoned(batch=5), SMALL]


@pytest.mark.parametrize("smiles", PARENTS)
def test_graph_comes_back_as_the_same_molecule(smiles):
    made = finish(Chem.RWMol(graph(smiles).mol), 60, 8)
    assert made is not None and chemistry.canonical(made[0]) == chemistry.canonical(smiles)


def test_every_edit_makes_valid_molecules():
    random = Random(0)
    offspring = Offspring(random, default_library(), 60, 8)
    made: dict[str, int] = dict.fromkeys(WEIGHTS, 0)
    for _ in range(1500):
        child = offspring.child(random.choice(PARENTS), lambda: random.choice(PARENTS))
        if child is not None:
            mol = Chem.MolFromSmiles(child.smiles)
            assert mol is not None and "." not in child.smiles and not chemistry.is_radical(mol), child
            made[child.edit] += 1
    assert all(made.values()), made


def test_rewarded_edits_are_tried_more_often():
    offspring = Offspring(Random(0), default_library(), 60, 8)
    for _ in range(50):
        offspring.reward([("aromatise", True), ("cross", False)])
    shares = np.diff([0.0, *offspring.edits._cumulative])
    assert shares[offspring.edits.names.index("aromatise")] > 3 * 0.5 / sum(WEIGHTS.values())
    assert shares.min() >= 0.1 / len(WEIGHTS) - 1e-9


def test_library_pieces_have_their_open_ends():
    for smiles, ends in [("*c1ccccc1", 1), ("*n1cccc1", 1), ("*c1ccc(*)nc1", 2), ("*N1CCN(*)CC1", 2)]:
        piece = Piece(smiles)
        assert len(piece.ends) == ends and all(piece.graph.hydrogens[e] > 0 for e in piece.ends)
    assert "*c1ccccc1" in pieces(chemistry.parse("Cc1ccccc1")) and "*c1ccc(*)cc1" in pieces(
        chemistry.parse("Cc1ccc(C)cc1")
    )
    library = default_library()
    drawn = [library.draw(ends, Random(i)) for ends in (1, 2, 3) for i in range(100)]
    assert all(piece is not None for piece in drawn)


def test_assembled_molecules_are_new_drug_sized_and_valid():
    offspring = Offspring(Random(0), default_library(), 60, 8)
    made = [child for _ in range(60) if (child := offspring.assemble())]
    assert len({c.smiles for c in made}) > 40 and all(c.parent == "" for c in made)
    for child in made:
        mol = chemistry.parse(child.smiles)
        assert mol is not None and mol.GetNumAtoms() <= 60 and mol.GetRingInfo().NumRings() and "*" not in child.smiles
    assert 15 < np.median([c.mol.GetNumAtoms() for c in made]) < 40


def test_parents_are_drawn_by_log_rank():
    population = Population(100, Random(0))
    population.add([Scored(str(i), float(i), call=i + 1) for i in range(100)])
    drawn = [int(population.draw()) for _ in range(4000)]
    best, first_ten = np.mean([d == 99 for d in drawn]), np.mean([d >= 90 for d in drawn])
    assert best == pytest.approx(np.log(2) / np.log(101), abs=0.03)
    assert first_ten == pytest.approx(np.log(11) / np.log(101), abs=0.04)


@pytest.mark.parametrize("search", SEARCHES, ids=lambda s: type(s).__name__)
def test_search_improves_and_replays(search, tmp_path):
    def once():
        evaluator = Evaluator(Objective.of(pmo("albuterol_similarity")), 80, journal=tmp_path / "calls.jsonl")
        search.run(evaluator, PARENTS, np.random.default_rng(3))
        evaluator.close()
        return evaluator

    first = once()
    assert len(first.calls) == 80 and len({s.smiles for s in first.calls}) == 80
    assert first.best(1)[0].score > max(s.score for s in first.calls[:5])
    again = once()
    assert again.replayed == 80 and again.calls == first.calls


@pytest.mark.parametrize("search", SEARCHES, ids=lambda s: type(s).__name__)
def test_only_feasible_molecules_are_evaluated(search):
    start = "CCc1ccc(cc1)C(=O)NC"
    constraints = Constraints([Similar(start, 0.3), Plausible()])
    evaluator = Evaluator(Objective.of(Descriptor("qed"), constraints), 40)
    search.run(evaluator, [start], np.random.default_rng(0))
    assert len(evaluator.calls) > 10 and all(s.violation == 0 for s in evaluator.calls)


def test_near_misses_may_have_children_but_are_never_evaluated():
    start = "CCc1ccc(cc1)C(=O)NC"
    close = "CCc1ccc(cc1)C(=O)N1CCOCC1"
    near = Similar(start, Similar(start, 0).similarity(chemistry.parse(close)) + SLACK / 2)
    children = [
        Child(smiles, chemistry.parse(smiles), start, "cross")
        for smiles in (start, "CCc1ccc(cc1)C(=O)NCC", close, "CCO")
    ]
    evaluator = Evaluator(Objective.of(Descriptor("qed"), Constraints([near])), 200)
    kept = {c.smiles: c.violation for c in feasible(evaluator, children, SLACK)}
    assert kept[start] == 0 and kept[close] == pytest.approx(SLACK / 2) and "CCO" not in kept
    SMALL.run(evaluator, [start], np.random.default_rng(0))
    assert len(evaluator.calls) == 200 and all(s.violation == 0 for s in evaluator.calls)


def test_restart_evaluates_nothing_twice():
    restarting = replace(SMALL, restart=20)
    evaluator = Evaluator(Objective.of(Descriptor("qed")), 60)
    restarting.run(evaluator, PARENTS, np.random.default_rng(0))
    evaluated = [s.smiles for s in evaluator.calls]
    assert len(set(evaluated)) == len(evaluated) == 60
    children = set(evaluated[5:25])
    assert not children & {s.parent for s in evaluator.calls[25:45]}


def test_locked_scaffold_survives_the_search():
    lock = Scaffold("*c1ccc(cc1)C(=O)N*")
    evaluator = Evaluator(Objective.of(Descriptor("qed"), Constraints([lock])), 40)
    Genetic(batch=5).run(evaluator, ["CCc1ccc(cc1)C(=O)NC"], np.random.default_rng(0))
    assert len(evaluator.calls) == 40
    assert all(lock.violation(chemistry.parse(s.smiles)) == 0 for s in evaluator.calls)


def test_oracle_that_fails_everywhere_does_not_hang_the_search():
    def broken(smiles):
        raise ValueError("broken")

    for search in SEARCHES:
        evaluator = Evaluator(Objective.of(Function(broken)), 30)
        search.run(evaluator, PARENTS, np.random.default_rng(0))
        assert len(evaluator.calls) <= 30


def test_gaussian_process_against_the_textbook():
    mols = [chemistry.parse(s) for s in [*PARENTS, "CCO", "CCN", "c1ccccc1"]]
    features = Features.of(mols, ("ecfp4", "ap"))
    values = np.arange(len(mols), dtype=float)
    model = TanimotoGP(Kernel("ecfp4", 0.6, 0.2, 0.1, 0.1)).fit(features, values)
    mean, std = model.predict(features)
    rows = model._standard(features.descriptors)
    k = model._covariance(features, rows, {})
    y = (values - values.mean()) / values.std()
    noise = np.diag(1e-3 + 0.01 * (y.max() - y) ** 2)
    weights = np.linalg.solve(k + noise, y)
    assert np.allclose(mean, values.mean() + values.std() * k @ weights)
    variance = np.diag(k - k @ np.linalg.solve(k + noise, k)) * (y @ weights) / len(y)
    assert np.allclose(std, values.std() * np.sqrt(np.maximum(variance, 0)), atol=1e-4)
    assert np.allclose(np.diag(k), model._own(rows), atol=1e-6)
    known = {kind: chemistry.tanimoto(f, f) for kind, f in features.fingerprints.items()}
    assert TanimotoGP(model.kernel).fit(features, values, known).evidence == pytest.approx(model.evidence)
    assert all(
        np.isfinite(TanimotoGP(c).fit(Features.of(mols, (*c.kinds(),)), values).evidence) for c in CANDIDATES
    )


def test_packed_features_come_back():
    features = Features.of([chemistry.parse(s) for s in PARENTS], ("ecfp4", "ap"))
    back = features.compact().joined(features.compact()).take(np.array([6, 2]), ["ap"])
    assert set(back.fingerprints) == {"ap"} and back.fingerprints["ap"].dtype == np.float32
    assert np.array_equal(back.fingerprints["ap"], features.fingerprints["ap"][[1, 2]])
    assert np.array_equal(back.descriptors, features.descriptors[[1, 2]])


def test_fit_values_turn_products_into_sums():
    assert np.allclose(np.diff(to_fit(np.array([0.1, 0.01]), np.zeros(2))), np.log(0.1))
    assert to_fit(np.array([0.0, 1.0]), np.zeros(2))[0] == -12.0
    assert np.allclose(to_fit(np.array([-1.0, 2.0]), np.zeros(2)), [-1, 2])
    assert to_fit(np.array([0.5, 0.5, 0.1]), np.array([0, 1, 0]))[1] < np.log(0.5)


def test_plateau_is_left_by_evaluating_new_structure():
    def fragment(smiles):  # 0 almost everywhere, as valsartan_smarts is
        return float("S" in smiles)

    evaluator = Evaluator(Objective.of(Function(fragment)), 60)
    SMALL.run(evaluator, ["CCO", "c1ccccc1CC(=O)O"], np.random.default_rng(0))
    assert len({s.smiles for s in evaluator.calls}) == 60
    assert evaluator.best(1)[0].score == 1.0


def test_long_plateau_is_left_by_assembling_new_molecules():
    evaluator = Evaluator(Objective.of(Descriptor("NumRadicalElectrons")), 130)  # 0 for every molecule
    replace(SMALL, library=0).run(evaluator, PARENTS, np.random.default_rng(0))
    assert all(s.parent for s in evaluator.calls[5:100]) and not any(s.parent for s in evaluator.calls[100:])
