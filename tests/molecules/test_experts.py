"""Several surrogates in one search: the count kernel, its growing factor, weights of experts, acquisition functions."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from rdkit import DataStructs
from scipy.linalg import cholesky
from scipy.stats import norm

from molecules import chemistry
from molecules.evaluator import Evaluator
from molecules.objective import Objective, Scored
from molecules.oracles.descriptor import Descriptor
from molecules.search.acquisition.base import PACKAGE, acquisition
from molecules.search.acquisition.expected_improvement import log_expected_improvement
from molecules.search.model.count_gp import NOISE, CountGP
from molecules.search.model.counts import GROW, CountRows, CountTable
from molecules.search.model.experts import LEAST, CountExpert, Experts, log_likelihood, recalibrated, weights_of
from molecules.search.model.fit_values import ScoreRange
from molecules.search.model.history import History
from molecules.search.model.novelty import Novelty
from molecules.search.operators.edits import Elements
from molecules.search.surrogate import Surrogate
from reprogram.errors import ConfigError
from reprogram.registry import names

SMILES = [
    "CCO",
    "CCCCCCN",
    "c1ccccc1CCO",
    "CC(=O)NC",
    "c1ccncc1",
    "CCOC(=O)CCCC",
    "OCC(O)CO",
    "CC(C)Cc1ccccc1",
    "CCCCCCCCO",
]
MOLS = [chemistry.parse(s) for s in SMILES]
SMALL = Surrogate(until=(20,), batch=(4, 6), candidates=(4, 4), generations=2, library=60, starting=5)


def covariance(mols):
    prints = [chemistry.sparse_counts(m, "ecfp6") for m in mols]
    return np.array([DataStructs.BulkTanimotoSimilarity(p, prints) for p in prints])


def test_the_count_kernel_is_rdkits_on_unfolded_counts():
    table = CountTable()
    table.add(CountRows.of(MOLS[:4]))
    table.add(CountRows.of(MOLS[4:]))
    assert np.allclose(table.similarity(CountRows.of(MOLS)), covariance(MOLS), atol=1e-6)
    bits = [chemistry.bit_fingerprint(m, "ecfp6") for m in MOLS]
    assert covariance(MOLS)[1, 8] != pytest.approx(DataStructs.TanimotoSimilarity(bits[1], bits[8]))


def test_a_factor_that_grows_is_the_factor_made_at_once():
    gp = CountGP()
    for rows in ([0, 1, 2], [3], [4, 5, 6, 7, 8]):
        gp.add(CountRows.of([MOLS[i] for i in rows]))
    assert np.allclose(gp.factor, cholesky(covariance(MOLS) + NOISE * np.eye(9), lower=True), atol=1e-5)
    values = np.linspace(0, 1, 9)
    gp.observe(values)
    means, stds = gp.predict(CountRows.of([*MOLS, chemistry.parse("FS(F)(F)(F)(F)F")]))
    assert np.allclose(means[:9], values, atol=0.01) and stds[:9].max() < 0.02
    assert means[9] == pytest.approx(0, abs=1e-9) and stds[9] == pytest.approx(1)  # the prior, where nothing is alike


def test_a_table_has_room_for_more_molecules_than_it_began_with():
    rows = CountRows.of([MOLS[i % 9] for i in range(GROW + 5)])
    table = CountTable()
    table.add(rows)
    assert np.allclose(
        table.similarity(rows.take([GROW + 4])), covariance(MOLS)[(GROW + 4) % 9][np.arange(GROW + 5) % 9]
    )


def test_likelihood_and_weights_of_a_case_worked_by_hand():
    found, means, stds = np.array([0.5]), np.array([0.3]), np.array([0.15])
    spread = np.hypot(0.15, 0.02)
    assert log_likelihood(found, means, stds) == pytest.approx(-np.log(spread) - 0.5 * (0.2 / spread) ** 2)
    weights = weights_of(np.array([4 * np.log(3), 0.0]))  # tempered by a fourth: odds of 3 to 1
    assert weights == pytest.approx([LEAST + 0.8 * 0.75, LEAST + 0.8 * 0.25])


def test_a_prediction_that_is_only_shifted_counts_as_good():
    past = np.linspace(0, 0.2, 40)
    means, error = recalibrated(past, 0.3 + 2 * past, np.array([0.1]))
    assert means[0] == pytest.approx(0.5, abs=0.02) and error[0] < 0.02
    noise = np.random.default_rng(0).permutation(past)
    assert recalibrated(noise, 0.3 + 2 * past, np.array([0.1]))[1][0] > 0.05


def test_the_expert_that_predicts_leads():
    experts, rng = Experts(("counts", "mixed"), (50, 20, 10), np.random.default_rng(0)), np.random.default_rng(1)
    history = History()
    history.add([Scored("C" * (i + 1), float(v), call=i + 1) for i, v in enumerate(rng.uniform(size=30))])
    found = history.raw()
    for last in (10, 20, 30):
        part = History()
        part.add(history.scored[:last])
        right, wrong = found[last - 10 : last], rng.uniform(size=10)
        experts._expected = [(right - 0.2, np.full(10, 0.1)), (np.log(wrong), np.full(10, 0.1))]
        experts.learn(part, 10)
    assert experts.weights == pytest.approx([1 - LEAST, LEAST], abs=0.01)
    with pytest.raises(ConfigError, match=r"search\.experts has no 'count'"):
        Experts(("count",), (50, 20, 10), rng)


def test_the_count_expert_starts_again_when_it_is_full():
    expert, history = CountExpert((1, 1, 1), np.random.default_rng(0)), History()
    expert.MOST, expert.KEPT = 8, (3, 2, 1)
    scored = [Scored(s, i / 10, call=i + 1) for i, s in enumerate(SMILES)]
    history.add(scored[:6])
    expert.fit(history)
    history.add(scored[6:])
    expert.fit(history)
    assert 3 <= len(expert._gp) <= 6
    best = expert.predict(expert.read([MOLS[8]]))[0][0]
    assert best == pytest.approx(0.8, abs=0.01) and expert.best == pytest.approx(0.8)


def test_scores_beyond_0_to_1_become_shares_of_their_range():
    assert ScoreRange.of(np.array([0.2, 0.7])).shares(np.array([0.5])) == 0.5
    assert ScoreRange.of(np.array([-9.0, -5.0])).shares(np.array([-6.0])) == 0.75
    mean, std = ScoreRange.of(np.array([0.2, 0.7])).from_values(np.log([0.5]), np.array([0.1]))
    assert mean == pytest.approx(0.5) and std == pytest.approx(0.05)


def test_every_acquisition_function_is_its_formula():
    assert {"ucb", "expected_improvement", "thompson"} <= set(names(PACKAGE))
    means, stds = np.array([0.0, 0.5, -40.0]), np.array([1.0, 0.1, 1.0])
    beta = abs(np.random.default_rng(3).standard_normal())
    assert np.allclose(acquisition("ucb").values(means, stds, 0, np.random.default_rng(3)), means + beta * stds)
    drawn = np.random.default_rng(3).standard_normal(3)
    assert np.allclose(acquisition("thompson").values(means, stds, 0, np.random.default_rng(3)), means + drawn * stds)
    z = (means - 0.4) / stds
    plain = stds * (norm.pdf(z) + z * norm.cdf(z))
    given = acquisition("expected_improvement").values(means, stds, 0.4, np.random.default_rng(3))
    assert np.allclose(given[:2], np.log(plain[:2])) and -1000 < given[2] < given[0]
    steps = log_expected_improvement(np.linspace(-60, 0, 200), np.ones(200), 0.0)
    assert (np.diff(steps) > 0).all()
    with pytest.raises(ConfigError, match="no 'ubc'"):
        acquisition("ubc")


def test_a_run_that_was_cut_goes_on_as_if_it_had_not_been(tmp_path):
    def run(budget, journal=None):
        with Evaluator(Objective.of(Descriptor("qed")), budget, journal=journal) as evaluator:
            replace(SMALL, acquisition="thompson").run(evaluator, SMILES, np.random.default_rng(0))
            return [s.smiles for s in evaluator.calls], evaluator.replayed

    whole, _ = run(40)
    run(25, tmp_path / "calls.jsonl")
    resumed, replayed = run(40, tmp_path / "calls.jsonl")
    assert resumed == whole and replayed == 25 and len(set(whole)) == 40


def test_start_molecules_beyond_the_first_wait_among_the_candidates():
    evaluator = Evaluator(Objective.of(Descriptor("MolWt")), 30)
    replace(SMALL, library=0).run(evaluator, SMILES[::-1], np.random.default_rng(0))
    assert [s.smiles for s in evaluator.calls[:5]] == [chemistry.canonical(s) for s in SMILES[::-1][:5]]


def test_what_is_new_is_what_nothing_evaluated_has():
    novelty = Novelty(CountRows([]))
    novelty.see(CountRows.of(MOLS[:1]))
    assert novelty.choose(CountRows.of([MOLS[0], MOLS[7], MOLS[2], MOLS[7]]), 2) == [1, 2]


def test_elements_that_the_best_have_more_of_are_brought_in_more_often():
    elements = Elements()
    before = sum(elements.draw(Random(i), 1) == 15 for i in range(500))
    elements.ask({15: 0.8, 6: -2.0})
    after = sum(elements.draw(Random(i), 1) == 15 for i in range(500))
    assert before < 15 < 40 < after


def test_settings_by_calls_must_match():
    with pytest.raises(ConfigError, match=r"search\.batch has 3 entries and search.until 4"):
        Surrogate(batch=(1, 2, 3))
