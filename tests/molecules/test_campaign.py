"""Campaigns of making and measuring: what is predicted, what is wanted, and which candidates are picked."""

import math

import numpy as np
import pandas as pd
import pytest
from rdkit import DataStructs
from scipy.stats import norm

from molecules import Campaign, chemistry
from molecules.campaign.batch import EXPLORE, nearest
from molecules.campaign.experts import AveragedProcess, Prediction, RandomForest, _decomposed, _thinned
from molecules.campaign.features import MoleculeFeatures, similarities
from molecules.campaign.goals import Goal, Promise
from molecules.campaign.property_model import PropertyModel, Scale, calibration, half_width, stacked
from molecules.objective import hypervolume
from molecules.oracles.descriptor import descriptor
from molecules.starts import zinc_file
from reprogram.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def drugs():
    """(canonical SMILES, logP, features) of 200 ZINC molecules."""
    smiles = list(dict.fromkeys(chemistry.canonical(s) for s in zinc_file().read_text().split()[:200]))
    logp = np.array([descriptor("logp")(chemistry.parse(s)) for s in smiles])
    return smiles, logp, MoleculeFeatures.of(smiles)


def test_similarities_are_rdkits_on_counts(drugs):
    smiles, _, features = drugs
    prints = [chemistry.sparse_counts(chemistry.parse(s)) for s in smiles[:30]]
    ours = similarities(features.take(slice(0, 30)), features.take(slice(0, 30)))
    theirs = [DataStructs.BulkTanimotoSimilarity(p, prints) for p in prints]
    assert np.allclose(ours, theirs, atol=0.02) and np.median(np.abs(ours - theirs)) == 0  # folding may merge two fragments


def test_features_are_the_same_from_bytes_and_damage_is_found(drugs):
    features = drugs[2].take(slice(0, 5))
    again = MoleculeFeatures.from_bytes(features.to_bytes())
    assert np.array_equal(again.descriptors, features.descriptors)
    assert (again.prints["torsions"] != features.prints["torsions"]).nnz == 0
    with pytest.raises((ValueError, KeyError, OSError)):
        MoleculeFeatures.from_bytes(features.to_bytes()[:-200])


def test_left_out_values_of_a_process_are_those_of_a_fit_without_them():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 3)), rng.normal(size=12)
    kernel = x @ x.T + np.eye(12)
    [fit] = _decomposed({"linear": 1.0}, {"linear": kernel}, y, [0.3])
    mean, variance = fit.left_out(y)
    whole = fit.amplitude * (kernel / fit.scale + 0.3 * np.eye(12))
    for i in range(12):
        rest = np.delete(np.arange(12), i)
        solved = np.linalg.solve(whole[np.ix_(rest, rest)], whole[rest, i])
        assert mean[i] == pytest.approx(solved @ y[rest])
        assert variance[i] == pytest.approx(whole[i, i] - solved @ whole[rest, i])


@pytest.mark.parametrize("expert", [AveragedProcess(), RandomForest(0)], ids=["process", "forest"])
def test_experts_predict_and_know_how_unsure_they_are(drugs, expert):
    _, logp, features = drugs
    expert.fit(features.take(slice(0, 60)), logp[:60])
    found = expert.predict(features.take(slice(60, None)))
    errors = logp[60:] - found.mean
    assert np.mean(errors**2) < 0.6 * logp[60:].var()
    assert 0.75 <= np.mean(np.abs(errors) <= half_width(0.9) * found.spread) <= 1.0
    assert (found.std > 0).all() and (found.spread >= found.std).all()
    assert np.mean((logp[:60] - expert.left_out.mean) ** 2) > 0.3 * np.mean(errors**2)  # its own values are really left out


def test_large_tables_are_thinned_by_value_and_everything_is_answered(drugs, monkeypatch):
    monkeypatch.setattr("molecules.campaign.experts.MOST_FITTED", 40)
    _, logp, features = drugs
    rows = _thinned(logp, 40)
    assert len(rows) == 40 and {int(logp.argmax()), int(logp.argmin())} <= set(rows.tolist())
    process = AveragedProcess().fit(features, logp)
    assert np.isfinite(process.left_out.mean).all() and len(process.left_out.mean) == len(logp)


def test_weights_go_to_the_expert_that_predicts_left_out_values():
    good, bad = np.full(30, -0.5), np.full(30, -2.0)
    weights = stacked(np.array([good, bad]))
    assert weights.sum() == pytest.approx(1) and 0.8 < weights[0] < 1


def test_intervals_are_widened_until_nine_in_ten_left_out_values_lie_inside():
    errors = np.linspace(0, 4, 99)
    factor = calibration(errors)
    assert np.mean(errors <= half_width(0.9) * factor) == pytest.approx(0.9, abs=0.011)
    assert calibration(np.zeros(50)) == 1.0  # never narrower than the model says


def test_bounds_are_used_beyond_the_bound(drugs):
    _, logp, features = drugs
    sides = np.where(logp[:60] < 2, -1, 0).astype(np.int8)
    values = np.where(sides < 0, 2.0, logp[:60])
    low = np.flatnonzero(logp[60:] < 1) + 60
    as_value = PropertyModel().fit(features.take(slice(0, 60)), values).predict(features.take(low)).mean
    model = PropertyModel().fit(features.take(slice(0, 60)), values, sides)
    assert (model.values[sides < 0] <= 2).all() and (model.values[sides < 0] < 1.9).any()
    assert model.predict(features.take(low)).mean.mean() < as_value.mean()


def test_logarithms_are_modelled_where_values_span_powers_of_ten():
    assert Scale.of(np.array([0.1, 5, 900])).log and not Scale.of(np.array([-1, 5, 900.0])).log
    assert not Scale.of(np.array([1.0, 5, 9])).log and not Scale.of(np.array([0.1, 900]), False).log
    assert Scale(True).to_user(Scale(True).to_model(np.array([0.2, 30.0]))) == pytest.approx([0.2, 30])


@pytest.mark.parametrize(
    ("text", "aim", "ends"),
    [
        ("maximize", "maximize", (-math.inf, math.inf)),
        ("Minimise", "minimize", (-math.inf, math.inf)),
        ("at least 7.5", "condition", (7.5, math.inf)),
        (">= 7.5", "condition", (7.5, math.inf)),
        ("at most -1e-2", "condition", (-math.inf, -0.01)),
        ("from -1 to 3", "condition", (-1.0, 3.0)),
        ("1..3", "condition", (1.0, 3.0)),
    ],
)
def test_goals_are_read(text, aim, ends):
    goal = Goal.parse("x", text)
    assert (goal.aim, (goal.low, goal.high)) == (aim, ends)
    assert Goal.parse("x", str(goal).removeprefix("x ").removesuffix(" x")) == goal


@pytest.mark.parametrize("text", ["biggest", "at least much", "from 3 to 1", ""])
def test_what_is_no_goal_says_what_can_be_typed(text):
    with pytest.raises(ConfigError, match=r"goals\.x="):
        Goal.parse("x", text)


def predictions(means, stds):
    return Prediction(np.array(means, float), np.array(stds, float), np.array(stds, float))


def test_expected_improvement_and_the_chance_of_conditions():
    goals = [Goal.parse("a", "minimize"), Goal.parse("b", "at least 1")]
    promise = Promise(goals, np.array([[3.0, 2.0], [1.0, 0.0], [2.0, 5.0]]))  # the best that meets the condition is 2
    found = [predictions([1.0, 1.0], [0.5, 0.5]), predictions([1.0, 4.0], [1.0, 1.0])]
    drawn = np.maximum(2.0 - np.random.default_rng(0).normal(1.0, 0.5, 400_000), 0).mean()
    assert promise(found) == pytest.approx([drawn * 0.5, drawn * norm.cdf(3)], rel=0.01)


def test_a_batch_wants_a_place_among_the_best():
    measured = np.array([[5.0], [4.0], [3.0], [2.0], [1.0]])
    promise = Promise([Goal.parse("a", "maximize")], measured, among=3)
    assert promise([predictions([3.4], [1e-6])]) == pytest.approx([0.4])


def test_the_gain_of_several_aims_is_that_of_the_dominated_volume():
    measured = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
    promise = Promise([Goal.parse("a", "maximize"), Goal.parse("b", "maximize")], measured)
    means = np.array([[2.5, 2.5], [1.5, 1.5], [4.0, 1.5]])
    gain = promise([predictions(means[:, i], [1e-4] * 3) for i in range(2)])
    low = measured.min(0)
    exact = [hypervolume(np.vstack([measured, m]), low.tolist()) - hypervolume(measured, low.tolist()) for m in means]
    assert gain == pytest.approx(exact, abs=0.06)
    promise.with_expected([predictions(means[:, i], [1e-4] * 3) for i in range(2)], 0)
    assert promise([predictions(means[:1, i], [1e-4]) for i in range(2)]) == pytest.approx([0], abs=0.02)


def test_tell_and_ask(drugs):
    smiles, logp, _ = drugs
    campaign = Campaign({"logp": "maximize"}, alike=0.4).tell(smiles[:50], logp[:50])
    proposals = campaign.ask(8, [*smiles, smiles[60]])
    found = [p.smiles for p in proposals]
    assert len(set(found)) == 8 and not set(found) & set(smiles[:50])
    real = dict(zip(smiles, logp))
    assert np.mean([real[s] for s in found]) > np.sort(logp[50:])[::-1][:40].mean()
    features = MoleculeFeatures.of(found)
    assert (similarities(features, features) - np.eye(8)).max() <= 0.4
    assert [p.purpose for p in proposals].count(EXPLORE) >= 1
    first = proposals[0]
    assert first.words.startswith("exploit: ") and 0 <= first.chance <= 1
    assert first.expected["logp"].low < first.expected["logp"].value < first.expected["logp"].high
    alike = nearest(features.take([0]), MoleculeFeatures.of(smiles[:50]))
    assert first.nearest == smiles[int(alike.row[0])] and first.similarity == pytest.approx(float(alike.similarity[0]))
    assert [p.smiles for p in Campaign({"logp": "maximize"}, alike=0.4).tell(smiles[:50], logp[:50]).ask(8, smiles)] == found


def test_near_duplicates_of_measured_molecules_are_not_proposed(drugs):
    smiles, logp, _ = drugs
    campaign = Campaign({"logp": "maximize"}).tell(smiles[:40], logp[:40])
    stereo = "C[C@H](N)c1ccccc1"
    campaign.tell([stereo], [9.0])
    assert "C[C@@H](N)c1ccccc1" not in [p.smiles for p in campaign.ask(5, ["C[C@@H](N)c1ccccc1", *smiles[40:44]])]


def test_without_enough_values_the_batch_covers_the_candidates(drugs):
    smiles, logp, _ = drugs
    proposals = Campaign({"logp": "maximize"}).tell(smiles[:2], logp[:2]).ask(5, smiles)
    assert len({p.smiles for p in proposals} - set(smiles[:2])) == 5
    assert all(p.purpose == EXPLORE and not p.expected for p in proposals)
    bounds = Campaign({"logp": "maximize"}).tell(smiles[:9], [1, 2, 3, *[">9"] * 6])  # no intervals of no width around 9
    assert all(p.purpose == EXPLORE and not p.expected for p in bounds.ask(2, smiles))


def test_nothing_is_proposed_where_nothing_is_left(drugs):
    smiles, logp, _ = drugs
    campaign = Campaign({"logp": "maximize", "other": "minimize"}).tell(smiles[:8], {"logp": logp[:8], "other": [1.0] * 8})
    assert campaign.ask(3, []) == [] and campaign.ask(3, smiles[:8]) == []
    assert campaign.enough and not campaign.models  # nothing to predict is another matter than nothing to learn from
    two = campaign.ask(3, smiles[8:10])
    assert len(two) == 2 and all(p.chance is None and "trade-offs" in p.words for p in two)


def test_what_cannot_be_told_is_named(drugs):
    smiles = drugs[0]
    campaign = Campaign({"a": "maximize", "b": "at most 3"})
    with pytest.raises(ConfigError, match="by column: a, b"):
        campaign.tell(smiles[:2], [1, 2])
    with pytest.raises(ConfigError, match="no goal for the column 'c'"):
        campaign.tell(smiles[:2], {"c": [1, 2]})
    with pytest.raises(DataError, match="2 molecules and 1 values of 'a'"):
        campaign.tell(smiles[:2], {"a": [1]})
    with pytest.raises(DataError, match="'C1CC' is not a SMILES"):
        campaign.tell(["C1CC"], {"a": [1]})
    with pytest.raises(DataError, match="'high' is not a number"):
        campaign.tell(smiles[:1], {"a": ["high"]})
    for wrong in (math.inf, [1], "1e999"):
        with pytest.raises(DataError, match="is not a"):
            campaign.tell(smiles[:1], {"a": [wrong]})
    campaign.tell(smiles[:2], {"a": ["<0.5", 2.0]}).tell(smiles[:1], {"a": [0.1], "b": [1]})
    assert campaign.measured.values[campaign.measured.smiles.index(smiles[0])].tolist() == [0.1, 1.0]
    assert not campaign.measured.sides.any()
    campaign.tell(iter(smiles[:2]), pd.DataFrame({"b": [4, 5]}))  # the other column keeps its values
    assert sorted(campaign.measured.values.tolist()) == [[0.1, 4.0], [2.0, 5.0]]
    with pytest.raises(ConfigError, match="a goal by column"):
        Campaign("maximize")
    with pytest.raises(ConfigError, match="count is -1"):
        campaign.ask(-1, smiles)
    with pytest.raises(DataError, match="'bad' is not a SMILES"):
        campaign.ask(1, iter(["bad", "CCO"]))  # else the row of CCO would be 0
