"""Constraints as options: each adds one, mistakes are said in one sentence before anything is paid for."""

from importlib.metadata import EntryPoint

import pytest

from molecules.chemistry import parse
from molecules.constraints import Constraint
from molecules.constraints.config import ConstraintConfig
from reprogram import registry
from reprogram.errors import ConfigError

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


def names(limits):
    return [item.name for item in limits.constraints([ASPIRIN]).items]


def test_each_option_adds_its_constraint():
    assert names(ConstraintConfig()) == []
    everything = ConstraintConfig(
        similarity=0.4, keep="c1ccccc1", forbid=["[N+]"], scaffold="c1ccccc1", alerts=["PAINS"], lipinski=0, sa=5,
        mw=[100, None], windows={"tpsa": [None, 90]}, plausible=True, unstable=True,
        ring_precedent=10,
    )  # fmt: skip
    assert names(everything) == [
        "similarity", "scaffold", "keep", "forbid", "alerts", "lipinski", "sa", "mw", "tpsa", "plausible",
        "unstable", "precedent",
    ]  # fmt: skip
    assert everything.constraints([ASPIRIN]).total(parse(ASPIRIN)) == 0


def test_similarity_counts_the_nearest_of_several_starts():
    limits = ConstraintConfig(similarity=0.9).constraints(["CCO", ASPIRIN])
    assert limits.total(parse(ASPIRIN)) == 0 and limits.total(parse("CCO")) == 0 and limits.total(parse("CCN")) > 0


class Halogens(Constraint):
    """At most so many halogens, as another package would bring it."""

    name = "halogens"

    def __init__(self, most=0):
        self.most = most

    def violation(self, mol):
        return float(max(sum(a.GetAtomicNum() in (9, 17, 35, 53) for a in mol.GetAtoms()) - self.most, 0))

    def conflict(self, required):
        halogens = 0 if required.mol is None else self.violation(required.mol)
        return f"{required.text} must stay and holds too many halogens" if halogens else ""


def test_a_constraint_of_another_package_is_found_by_its_entry_point(monkeypatch):
    point = EntryPoint("halogens", f"{__name__}:Halogens", "molecules.constraints")
    declared = registry._declared
    monkeypatch.setattr(
        registry, "_declared", lambda group: {"halogens": point} if group == "molecules.constraints" else declared(group)
    )
    found = ConstraintConfig(others={"halogens": {"most": 1}}).constraints([ASPIRIN])
    assert found.total(parse("CCl")) == 0 and found.total(parse("ClCCl")) == 1
    with pytest.raises(ConfigError, match="scaffold ClCCl must stay and holds too many halogens"):
        ConstraintConfig(scaffold="ClCCl", others={"halogens": {"most": 1}}).constraints([ASPIRIN])
    with pytest.raises(ConfigError, match=r"others\.halogens does not take these options"):
        ConstraintConfig(others={"halogens": {"least": 1}}).constraints([ASPIRIN])
    with pytest.raises(ConfigError, match="did you mean 'halogens'"):
        ConstraintConfig(others={"halogen": {}}).constraints([ASPIRIN])


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"keep": ["c1ccccc1"], "forbid": ["c1ccccc1"]}, "contradict each other"),
        ({"scaffold": "c1ccc2ccccc2c1", "forbid": ["c1ccccc1"]}, "must stay and holds forbidden"),
        ({"scaffold": "c1ccc2ccccc2c1", "mw": [None, 100]}, "more than mw allows"),
        ({"mw": [500, 200]}, "at least 500 and at most 200"),
        ({"mw": 500}, "must be \\[low, high\\]"),
        ({"keep": ["c1cccc("]}, "'c1cccc\\(' is not a SMARTS"),
        ({"windows": {"tpsaa": [0, 1]}}, "did you mean 'tpsa'"),
        ({"windows": {"tpsa": 90}}, "constraints.windows.tpsa is 90; it must be \\[low, high\\]"),
        ({"windows": {"tpsa": ["low", 90]}}, "constraints.windows.tpsa is .* must be \\[low, high\\]"),
        ({"windows": {"sa": [1, 2]}, "sa": 3.2}, "both given; constraints.sa=null"),
        ({"alerts": ["PAIN"]}, "did you mean 'PAINS'"),
        ({"similarity": 1.4}, "between 0 and 1"),
        ({"fingerprint": "ecfp5", "similarity": 0.4}, "did you mean 'ecfp"),
    ],
)
def test_mistakes_are_said_before_the_first_call(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        ConstraintConfig(**options).constraints([ASPIRIN])


def test_a_similarity_to_nothing_is_one_sentence():
    with pytest.raises(ConfigError, match=r"constraints.similarity needs start molecules"):
        ConstraintConfig(similarity=0.4).constraints([])
