"""Searches in and in front of a frozen encoder-decoder: closed forms, a toy space, and the real one."""

import math

import numpy as np
import pytest
import torch

from molecules.chemistry import canonical, parse, random_smiles
from molecules.constraints.config import ConstraintConfig
from molecules.evaluator import Evaluator
from molecules.objective import Objective, Scored
from molecules.oracles.base import Answer, Oracle
from molecules.oracles.descriptor import Descriptor
from molecules.search.latent import Latent, Mover, estimate, sphere
from molecules.search.proposals import Proposals, ranks
from molecules.search.reprogrammed_generator import Pairs, ReprogrammedGenerator, policy_loss, standardised
from molecules.spaces.annalog import Annalog
from molecules.spaces.base import Decoded, Memory, Space
from molecules.spaces.likelihood import Likelihood
from reprogram.artifact import from_pretrained, save_pretrained
from reprogram.errors import ConfigError, DataError
from reprogram.interfaces import SourceOutput, SourceSpec, TargetInfo

START = "CC(=O)Nc1ccc(O)cc1"


class Chains(Space):
    """A memory of 8 numbers that decodes to an alkane of round(10 + 4 * their mean) carbons; negative is invalid."""

    name, width = "chains", 8

    def __init__(self):
        super().__init__()
        self.spec = SourceSpec("text", 50, (), embedding_size=8, answers="none")
        self.freeze()

    def unreadable(self, smiles):
        return None if set(smiles) == {"C"} else "is no alkane"

    def encode(self, smiles):
        base = torch.linspace(-1, 1, 8)
        rows = torch.stack([(base + (len(s) - 10) / 4).view(1, 8) for s in smiles])
        return Memory(rows, torch.ones(len(smiles), 1, dtype=torch.bool))

    def decode(self, memory, temperature=0.0, generator=None):
        states = memory.states + (temperature * torch.randn(memory.states.shape, generator=generator))
        sizes = (10 + 4 * states.mean((1, 2))).round().int().tolist()
        return Decoded(["C" * n if n > 0 else "C(" for n in sizes], torch.zeros(len(sizes)))

    def log_probability(self, memory, smiles):
        wanted = torch.tensor([(len(s) - 10) / 4 for s in smiles])
        return -((memory.states.mean((1, 2)) - wanted) ** 2)

    def answer(self, source_input, taps=()):
        return SourceOutput(torch.zeros(len(source_input), 0))


class Carbons(Oracle):
    name = "carbons"

    def answers(self, smiles):
        return [Answer(len(s) / 100) for s in smiles]


def problem(budget=200, target=None, **limits):
    return Evaluator(Objective.of(Carbons(), ConstraintConfig(**limits).constraints(["C" * 10])), budget, target=target)


def test_the_estimate_of_a_linear_loss_is_its_gradient():
    """Eq. 4 in expectation: (d / Q) sum (g·u) u -> g for u on the sphere."""
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(6, generator=generator)
    directions = sphere(20_000, 6, generator)
    losses = torch.cat([torch.zeros(1), 0.3 * directions @ gradient])
    torch.testing.assert_close(estimate(losses, directions, 0.3), gradient, atol=0.08, rtol=0.05)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(20_000))


def test_steps_by_hand():
    gradient = torch.tensor([2.0, -0.5])
    assert Mover("sign", 0.1, 4)(torch.zeros(2), gradient).tolist() == pytest.approx([-0.1, 0.1])
    gd = Mover("gd", 0.1, 4)
    first = gd(torch.zeros(2), gradient)
    assert first.tolist() == pytest.approx([-0.2, 0.05])
    second = gd(first, gradient)  # the step falls with sqrt(1 - t/T)
    assert (second - first).tolist() == pytest.approx([-0.2 * math.sqrt(0.75), 0.05 * math.sqrt(0.75)])
    z = torch.zeros(2, requires_grad=True)
    theirs = torch.optim.Adam([z], lr=0.1)
    ours, mover = torch.zeros(2), Mover("adam", 0.1, 4)
    for scale in (1.0, -0.3, 2.0):
        z.grad = gradient * scale
        theirs.step()
        ours = mover(ours, gradient * scale)
    torch.testing.assert_close(ours, z.detach())


@pytest.mark.parametrize("method", ["adam", "gd", "sign"])
def test_zeroth_order_search_climbs(method):
    rate = 60.0 if method == "gd" else 0.3
    p = problem(budget=60)
    Latent(Chains(), method=method, rate=rate, directions=8, iterations=30, beta=0.5, clamp=8.0).run(
        p, ["C" * 10], np.random.default_rng(0)
    )
    assert p.best(1)[0].score >= 0.15


def test_an_invalid_string_has_the_start_score_less_a_tenth_and_similarity_zero():
    p = problem(similarity=0.4)
    start = p.score(["C" * 10])[0]
    losses = Latent(Chains(), penalty=0.25).losses(p, start, ["C" * 10, "C(", None, "CCCCN"])
    similarity = p.objective.constraints.items[0]

    other = -0.05 + 0.25 * similarity.violation(parse("CCCCN"))
    assert losses.tolist() == pytest.approx([-0.1, 0.0 + 0.25 * 0.4, 0.0 + 0.25 * 0.4, other])


def test_several_starts_take_turns():
    p = problem(budget=40)
    Latent(Chains(), directions=4, iterations=5).run(p, ["C" * 5, "C" * 30], np.random.default_rng(0))
    assert {s.parent for s in p.calls[2:12]} == {"C" * 5, "C" * 30}


SMALL = {
    "latent": lambda space: Latent(space, directions=4, iterations=4),
    "proposals": lambda space: Proposals(space, samples=4),
    "reprogrammed_generator": lambda space: ReprogrammedGenerator(space, samples=4, epochs=1, replay=4),
}


@pytest.mark.parametrize("search", SMALL)
def test_the_same_seed_gives_the_same_calls_and_the_budget_holds(search):
    def calls(seed):
        p = problem(budget=12)
        SMALL[search](Chains()).run(p, ["C" * 10], np.random.default_rng(seed))
        return [s.smiles for s in p.calls]

    assert calls(3) == calls(3)
    assert len(set(calls(3))) == len(calls(3)) <= 12


@pytest.mark.parametrize("search", SMALL)
def test_a_start_that_the_space_cannot_read_is_named(search):
    with pytest.raises(DataError, match="'CCN', is no alkane"):
        SMALL[search](Chains()).run(problem(), ["CCN"], np.random.default_rng(0))
    p = problem(budget=5)
    SMALL[search](Chains()).run(p, ["CCN", "CCCC"], np.random.default_rng(0))
    assert len(p.calls) > 2


def test_the_program_learns_and_the_frozen_model_does_not():
    search = ReprogrammedGenerator(Chains(), slots=0, rate=0.05, batch=5, samples=8)
    before = search.space.fingerprint()
    p = problem(budget=30)
    search.run(p, ["C" * 10], np.random.default_rng(0))
    offset = search.program.input.offset.detach()
    assert float(offset.mean()) > 0.05, "longer chains score more, and the offset makes chains longer"
    assert search.space.fingerprint() == before


def test_known_actives_are_remembered_from_the_first_round(tmp_path):
    actives = tmp_path / "actives.smi"
    actives.write_text("CCCCCCCCCCCCCCCC\nnonsense\nCCCCCCCCCCCCCCC\n")
    search = ReprogrammedGenerator(Chains(), slots=0, epochs=1, batch=5, samples=4, actives=str(actives))
    shown = []
    search.learn = lambda evaluator, written, drawn, best, rng: shown.append([(s.parent, s.smiles) for s in best])
    p = problem(budget=12)
    search.run(p, ["C" * 10], np.random.default_rng(0))
    assert [s.smiles for s in p.calls[:3]] == ["C" * 10, "C" * 16, "C" * 15]  # paid for, as every molecule
    parents = {smiles: parent for parent, smiles in shown[0]}
    known = {s.smiles for s in p.calls[:3]}
    assert all(parents["C" * n] in known - {"C" * n} for n in (15, 16))  # each beside another molecule that is known
    assert "1 dropped that cannot be parsed" in search.notes[0]
    limited = problem(budget=30, windows={"mw": [0, 215]})  # C15 is feasible, C16 is not
    shown.clear()
    search.run(limited, ["C" * 10], np.random.default_rng(0))
    assert [smiles for _, smiles in shown[0] if len(smiles) > 14] == ["C" * 15]


def test_policy_gradient_by_hand():
    """d/d offset of -mean(A log p) for the toy likelihood -(mean(memory) - c)^2."""
    search = ReprogrammedGenerator(Chains(), slots=0)
    search.run(problem(budget=2), ["C" * 10], np.random.default_rng(0))
    model = search.program
    pairs = ["C" * 10 + ">>" + "C" * 14, "C" * 10 + ">>" + "C" * 6]
    policy_loss(model, pairs, torch.tensor([[2.0], [-1.0]])).backward()
    # log p = -(0 - c)^2 with c = 1 and -1; d log p / d offset_j = -2 (0 - c) / 8
    assert model.input.offset.grad.tolist() == pytest.approx([-(2.0 * 2 / 8 + -1.0 * -2 / 8) / 2] * 8)


def test_advantages_and_ranks():
    assert standardised([0.2, 0.2]) == [0.0, 0.0] and standardised([]) == []
    assert standardised([0.0, 1.0]) == pytest.approx([-1.0, 1.0])
    drawn = ranks(100, 4000, np.random.default_rng(0))
    assert min(drawn) == 0 and max(drawn) < 100
    assert sum(r < 10 for r in drawn) == pytest.approx(2000 + 4000 * math.log10(1.1) / 2, rel=0.15)
    assert ranks(1, 3, np.random.default_rng(0)) == [0, 0, 0]


def test_a_molecule_in_random_order_is_the_same_molecule():

    rng = np.random.default_rng(0)
    written = {random_smiles(parse(START), rng) for _ in range(8)}
    assert len(written) > 3 and {canonical(w) for w in written} == {canonical(START)}


def test_unknown_method_is_said():
    with pytest.raises(ConfigError, match="did you mean 'adam'"):
        Latent(Chains(), method="adm")


@pytest.fixture(scope="module")
def annalog():
    return Annalog()


@pytest.mark.parametrize("search", [Latent, Proposals, ReprogrammedGenerator])
def test_on_the_real_model_each_improves_a_drug(search, annalog):
    objective = Objective.of(Descriptor("qed"), ConstraintConfig(similarity=0.3).constraints([START]))
    p = Evaluator(objective, 40, target=0.75)
    search(annalog).run(p, [START], np.random.default_rng(1))
    start = p.calls[0].score
    assert p.best(1)[0].feasible and p.best(1)[0].score > start + 0.05


def test_a_program_is_kept_and_found_again(annalog, tmp_path):
    search = ReprogrammedGenerator(annalog, samples=4, batch=8)
    p = Evaluator(Objective.of(Descriptor("qed")), 12)
    search.run(p, [START], np.random.default_rng(0))
    save_pretrained(search.program, tmp_path)
    again = from_pretrained(tmp_path, source=Likelihood(annalog))
    pairs = Pairs([START + ">>" + START], [1.0]).batch([0])
    with torch.no_grad():
        torch.testing.assert_close(again(pairs), search.program(pairs))
    assert again.target == TargetInfo("qed", "molecule", "regression", ("log_probability",))


def test_a_molecule_that_failed_counts_as_zero_reward():
    search, p = ReprogrammedGenerator(Chains()), problem(similarity=0.9)
    assert search.reward(p, "C(") == 0.0
    assert search.reward(p, "CCO") < 0
    assert search.reward(p, "C" * 10) is None  # feasible but not evaluated
    p.score(["C" * 10])
    assert search.reward(p, "C" * 10) == pytest.approx(0.1)
    assert isinstance(p.calls[0], Scored)
