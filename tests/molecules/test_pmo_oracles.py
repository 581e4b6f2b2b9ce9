"""The PMO oracles against values that follow from their published definitions."""

import math

import numpy as np
import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import AllChem, GraphDescriptors
from rdkit.Chem.Pharm2D import Generate, Gobbi_Pharm2D

from molecules import chemistry
from molecules.oracles.pmo import oracles, pmo
from molecules.oracles.pmo.isomers import parse_formula
from molecules.oracles.pmo.mpo import SITAGLIPTIN, ZALEPLON, logp, tpsa
from molecules.oracles.pmo.rediscovery import TARGETS
from molecules.oracles.pmo.similarities import TARGETS as SIMILAR
from molecules.oracles.pmo.valsartan import FRAGMENT
from molecules.pharmacophore import code_tanimoto, gobbi_codes
from reprogram.errors import ConfigError

CELECOXIB, TROGLITAZONE, _ = TARGETS.values()
CAFFEINE = "Cn1cnc2c1c(=O)n(C)c(=O)n2C"
REFERENCE = "CCCOc1cc2ncnc(Nc3ccc4ncsc4c3)c2cc1S(=O)(=O)C(C)(C)C"


def gauss(x, mu, sigma):
    return math.exp(-0.5 * ((x - mu) / sigma) ** 2)


def value(name, smiles):
    return pmo(name).score([smiles])[0]


def test_there_are_twenty():
    assert len(oracles()) == 20
    with pytest.raises(ConfigError, match="did you mean 'zaleplon_mpo'"):
        pmo("zaleplon")


@pytest.mark.parametrize("name", TARGETS)
def test_rediscovered_target_scores_one(name):
    assert value(name, TARGETS[name]) == 1.0


@pytest.mark.parametrize("name", SIMILAR)
def test_similarity_is_full_at_the_target(name):
    assert value(name, SIMILAR[name][0]) == 1.0


def old_ecfp4(a, b):
    """The fingerprint call of the published code: unfolded counts (the trap: folded bits give other numbers)."""
    prints = [AllChem.GetMorganFingerprint(Chem.MolFromSmiles(s), 2) for s in (a, b)]
    return DataStructs.TanimotoSimilarity(*prints)


def test_celecoxib_similarity_of_troglitazone_is_on_unfolded_counts():
    expected = old_ecfp4(CELECOXIB, TROGLITAZONE)
    assert value("celecoxib_rediscovery", TROGLITAZONE) == pytest.approx(expected, abs=1e-12)
    folded = [chemistry.bit_fingerprint(Chem.MolFromSmiles(s)) for s in (CELECOXIB, TROGLITAZONE)]
    assert abs(expected - DataStructs.TanimotoSimilarity(*folded)) > 1e-3


@pytest.mark.parametrize(
    ("name", "isomer"),
    [("isomers_c7h8n2o2", "COc1ccc(C(N)=O)nc1"), ("isomers_c9h10n2o2pf2cl", "CNc1c(Cl)cc(P(=O)(O)C(F)F)c(N)c1")],
)
def test_isomer_formula_by_hand(name, isomer):
    wanted = parse_formula(name.removeprefix("isomers_").upper().replace("CL", "Cl"))
    counts = chemistry.element_counts(Chem.MolFromSmiles(isomer))
    parts = [gauss(counts.get(e, 0), n, 1) for e, n in wanted.items()]
    parts.append(gauss(sum(counts.values()), sum(wanted.values()), 2))
    assert value(name, isomer) == pytest.approx(np.prod(parts) ** (1 / len(parts)))


def test_isomer_of_the_very_formula_scores_one():
    assert value("isomers_c7h8n2o2", "COc1ccc(C(N)=O)nc1") == pytest.approx(1.0)


def test_isomers_count_hydrogens_in_the_total():
    # benzene against C7H8N2O2: C6H6 with 12 atoms against 19 (the older variant left hydrogen out)
    parts = [gauss(6, 7, 1), gauss(6, 8, 1), gauss(0, 2, 1), gauss(0, 2, 1), gauss(12, 19, 2)]
    assert value("isomers_c7h8n2o2", "c1ccccc1") == pytest.approx(np.prod(parts) ** 0.2)


def test_sitagliptin_at_its_own_values():
    # formula, logP and TPSA are its own (1 each); similarity 1 against mu 0, sigma 0.1
    assert value("sitagliptin_mpo", SITAGLIPTIN) == pytest.approx(math.exp(-50) ** 0.25, rel=1e-9)


def test_zaleplon_at_its_own_values():
    # zaleplon is C17H15N5O: C 19, H 17, N 3, O 2 wanted, 41 atoms against its 38
    isomer = [gauss(17, 19, 1), gauss(15, 17, 1), gauss(5, 3, 1), gauss(1, 2, 1), gauss(38, 41, 2)]
    expected = math.sqrt(1.0 * np.prod(isomer) ** 0.2)
    assert value("zaleplon_mpo", ZALEPLON) == pytest.approx(expected, rel=1e-9)


def test_medians_are_symmetric_geometric_means():
    camphor, menthol = "CC1(C)C2CCC1(C)C(=O)C2", "CC(C)C1CCC(C)CC1O"
    between = old_ecfp4(camphor, menthol)
    assert value("median1", camphor) == pytest.approx(math.sqrt(between)) == value("median1", menthol)


def test_valsartan_is_exactly_zero_until_the_fragment_is_there():
    assert value("valsartan_smarts", SITAGLIPTIN) == 0.0
    holder = "CC(=O)N(C)Cc1ccc(-c2ccccc2)cc1"
    mol, own = Chem.MolFromSmiles(holder), Chem.MolFromSmiles(SITAGLIPTIN)
    assert mol.HasSubstructMatch(Chem.MolFromSmarts(FRAGMENT))
    bertz = GraphDescriptors.BertzCT
    parts = [gauss(tpsa(mol), tpsa(own), 5), gauss(logp(mol), logp(own), 0.2), gauss(bertz(mol), bertz(own), 30)]
    assert value("valsartan_smarts", holder) == pytest.approx(np.prod([p**0.25 for p in parts]), rel=1e-9)


def test_hops_at_their_reference():
    # deco_hop: pharmacophore 1, sulfone present 0, aminobenzothiazole present 0, scaffold present 1
    assert value("deco_hop", REFERENCE) == pytest.approx(0.5)
    # scaffold_hop: pharmacophore 1, propoxy chain to the benzothiazole 1, scaffold still present 0
    assert value("scaffold_hop", REFERENCE) == pytest.approx(2 / 3)


def test_fast_pharmacophore_equals_rdkit():
    smiles = [REFERENCE, CAFFEINE, CELECOXIB, TROGLITAZONE, SITAGLIPTIN, ZALEPLON, "C", "CCO", "OC(=O)c1ccccc1P"]
    mols = [Chem.MolFromSmiles(s) for s in smiles]
    slow = [Generate.Gen2DFingerprint(m, Gobbi_Pharm2D.factory) for m in mols]
    fast = [gobbi_codes(m) for m in mols]
    assert [len(f) for f in fast] == [s.GetNumOnBits() for s in slow]
    for i in range(len(mols)):
        for j in range(i):
            assert code_tanimoto(fast[i], fast[j]) == pytest.approx(DataStructs.TanimotoSimilarity(slow[i], slow[j]))


@pytest.mark.parametrize("name", sorted(oracles()))
def test_every_oracle_stays_in_range_and_survives_bad_molecules(name):
    oracle = pmo(name)
    scores = oracle.score([CAFFEINE, "C", "[Na+].[Cl-]", "C1CCCCCCCCCCCCC1", "not a molecule"])
    assert np.isnan(scores[-1]) and not np.isnan(scores[:-1]).any()
    assert (scores[:-1] >= 0).all() and (scores[:-1] <= 1).all()
