"""The surrogate's arithmetic: how far it is trusted, and what its kernels and its choice rest on."""

import numpy as np
import pytest
from rdkit import DataStructs

from molecules import chemistry
from molecules.objective import Scored
from molecules.search.acquisition.base import choose
from molecules.search.acquisition.ucb import UCB
from molecules.search.model.experts import MixedExpert
from molecules.search.model.features import Features
from molecules.search.model.history import History
from molecules.search.model.tanimoto_gp import Kernel, TanimotoGP

SMILES = ["CCO", "CCN", "c1ccccc1", "CC(=O)NC", "c1ccncc1", "CCOC(=O)C", "OCC(O)CO", "CC(C)Cc1ccccc1"]


def model():
    return MixedExpert((500, 200, 150), np.random.default_rng(0))


def calibrated(found, mean, std, values):
    found.calibrate(np.asarray(mean, float), np.asarray(std, float), np.asarray(values, float))
    return found.trust


@pytest.mark.parametrize(("times", "share"), [(1, 0.3 * 5 / 20), (4, 0.3), (8, 0.3)])
def test_trust_moves_by_three_tenths_of_the_median_error_in_its_own_deviations(times, share):
    """By less after a batch of fewer than 20: its median says little."""
    errors, std = np.tile([0.1, -0.2, 0.4, -0.8, 1.6], times), np.tile([2.0, 0.5, 1.0, 4.0, 0.25], times)
    mean = np.full(5 * times, -10.0)
    found = calibrated(model(), mean, std, mean + errors * std)
    assert found == pytest.approx((1 - share) + share * 0.4 / 0.674, rel=1e-6)


@pytest.mark.parametrize("size", [0.3, 1.0, 1.3])
def test_trust_comes_to_the_size_of_real_errors(size):
    """Errors that are ``size`` standard deviations large: 0.674 is the median of |N(0, 1)|."""
    found, rng = model(), np.random.default_rng(0)
    for _ in range(25):
        mean, std = rng.normal(-10, 1, 200), rng.uniform(0.1, 3, 200)
        trust = calibrated(found, mean, std, mean + size * std * rng.normal(size=200))
    assert trust == pytest.approx(size, abs=0.06)


def test_trust_has_limits():
    found = model()
    for _ in range(20):
        calibrated(found, np.full(20, -10.0), np.ones(20), np.full(20, -99.0))
    assert found.trust == 1.5
    for _ in range(60):
        calibrated(found, np.full(20, -99.0), np.ones(20), np.full(20, -99.0))
    assert found.trust == 0.1


def test_the_history_is_fitted_as_it_is_where_scores_are_negative():
    history = History()
    history.add([Scored("C" * (i + 1), float(v), call=i + 1) for i, v in enumerate([-3.0, -1.0, -2.0])])
    assert history.values().tolist() == [-3.0, -1.0, -2.0] and not history.flat and len(history) == 3


def test_a_surrogate_with_larger_errors_chooses_more_uncertain_candidates():
    """One candidate with a high mean, many uncertain ones: with small errors the mean decides."""
    means, stds = np.r_[1.0, np.zeros(9)], np.r_[0.01, np.full(9, 1.0)]
    first = {}
    for trust in (0.1, 1.5):
        rng = np.random.default_rng(0)
        expected = means, trust * stds
        first[trust] = sum(choose(UCB(), expected, 1.0, np.ones(10, bool), 1, False, rng)[0] == 0 for _ in range(200))
    assert first[0.1] == 200 and first[1.5] < 150


def test_tanimoto_is_rdkits():
    mols = [chemistry.parse(s) for s in SMILES]
    prints = [chemistry.generator("ecfp4").GetFingerprint(m) for m in mols]
    bits = np.array([list(p) for p in prints], dtype=np.float32)
    wanted = np.array([DataStructs.BulkTanimotoSimilarity(p, prints) for p in prints])
    assert np.allclose(chemistry.tanimoto(bits, bits), wanted, atol=1e-6)
    assert chemistry.tanimoto(np.zeros((1, 4)), np.zeros((1, 4)))[0, 0] == 0


def test_a_gaussian_process_goes_through_its_points_and_knows_nothing_far_away():
    """Small noise: the mean returns the values and little uncertainty is left; far away both go back to the prior."""
    mols = [chemistry.parse(s) for s in SMILES]
    features = Features.of(mols, ("ecfp4",))
    values = np.linspace(90, 110, len(mols))
    gp = TanimotoGP(Kernel("ecfp4", 1.0, 0.0, 0.0, 0.0)).fit(features, values)
    mean, std = gp.predict(features)
    assert np.allclose(mean, values, atol=1.0) and mean.mean() == pytest.approx(100, abs=1)
    distant = Features.of([chemistry.parse("FC(F)(F)S(=O)(=O)[Si](Cl)(Br)I")], ("ecfp4",))
    far, unsure = gp.predict(distant)
    assert far[0] == pytest.approx(values.mean(), abs=1.5)
    assert unsure[0] > 3 * std.max()
    assert unsure[0] == pytest.approx(values.std() * np.sqrt(gp._amplitude), rel=0.05)
