"""Routes: reactions give what a chemist expects, every route replays, and a search over routes keeps its promises."""

import csv
import json
import pickle
import random
from functools import partial
from pathlib import Path

import pytest

import molecules
from molecules import chemistry
from molecules.constraints.config import ConstraintConfig
from molecules.constraints.route import Routed
from molecules.constraints.window import Window
from molecules.routes.analogues import Analogues
from molecules.routes.reactions import reaction, reactions, read_reactions
from molecules.routes.retro import RouteFinder
from molecules.routes.rivals import competing
from molecules.routes.route import Route, parse_route, replay
from molecules.routes.stock import Blocks, shipped
from molecules.search.operators.route_edits import WEIGHTS, RouteEdits
from molecules.search.routes import Routes
from molecules.spaces.likelihood import Likelihood
from molecules.spaces.routes import RouteSpace
from molecules.tasks.propose import routes as routes_of_proposals
from reprogram.errors import ConfigError, DataError

REAGENTS = (Path(__file__).parents[2] / "benchmarks" / "common_reagents.smi").read_text().split()
CELECOXIB = chemistry.canonical("Cc1ccc(cc1)-c1cc(nn1-c1ccc(cc1)S(N)(=O)=O)C(F)(F)F")
KNOWN = [  # a reaction, what reacts, and every product it has
    ("amide coupling", ["CC(=O)O", "Nc1ccc(O)cc1"], ["CC(=O)Nc1ccc(O)cc1"]),  # paracetamol
    ("amide coupling", ["CC(=O)O", "CC(N)=O"], []),  # an amide is no amine
    ("sulfonamide", ["Cc1ccc(S(=O)(=O)Cl)cc1", "CN"], ["CNS(=O)(=O)c1ccc(C)cc1"]),
    ("Suzuki coupling", ["OB(O)c1ccccc1", "Clc1ccncc1"], ["c1ccc(-c2ccncc2)cc1"]),
    ("Suzuki coupling", ["CC1(C)OB(c2ccccc2)OC1(C)C", "Brc1ccncc1"], ["c1ccc(-c2ccncc2)cc1"]),  # the ester leaves as a whole
    ("SNAr with an amine", ["Clc1ccncc1", "CN"], ["CNc1ccncc1"]),
    ("SNAr with an amine", ["Clc1ccccc1", "CN"], []),  # not activated
    ("reductive amination, aldehyde", ["O=Cc1ccccc1", "C1COCCN1"], ["c1ccc(CN2CCOCC2)cc1"]),
    ("urea from isocyanate", ["O=C=Nc1ccccc1", "CN"], ["CNC(=O)Nc1ccccc1"]),
    ("Boc removal", ["CC(C)(C)OC(=O)N1CCNCC1"], ["C1CNCCN1"]),
    ("1,2,3-triazole, Cu-catalysed", ["C#Cc1ccccc1", "BrCc1ccccc1"], ["c1ccc(Cn2cc(-c3ccccc3)nn2)cc1"]),
    ("benzimidazole", ["Nc1ccccc1N", "CC(=O)O"], ["Cc1nc2ccccc2[nH]1"]),
    ("thiazole", ["CC(=O)CBr", "NC(=S)c1ccccc1"], ["Cc1csc(-c2ccccc2)n1"]),
    ("Grignard addition, aldehyde", ["O=Cc1ccccc1", "Brc1ccc(O)cc1"], []),  # its own proton would end it
]

COMPETING = [  # a reaction, reactants, and the reason why a chemist would not run it ("": none)
    ("amide coupling", ["OC(=O)CCC(=O)O", "CCN"], "has two sites"),
    ("amide coupling", ["NCC(=O)O", "CCN"], "NCC(=O)O could react with itself"),
    ("amide coupling", ["CC(=O)O", "NCC(=O)O"], "NCC(=O)O could react with itself"),
    ("amide coupling", ["Nc1ccc(C(=O)O)cc1", "CCN"], ""),  # the aliphatic amine wins over the aniline
    ("amide coupling", ["Nc1ccc(C(=O)O)cc1", "Nc1ccccc1"], "could react with itself"),
    ("amide coupling", ["O=C(O)c1ccc(S(=O)(=O)Cl)cc1", "CCN"], "an acyl or sulfonyl chloride"),
    ("amide coupling", ["CC(=O)O", "Nc1ccc(O)cc1"], ""),
    ("alkylation of a phenol", ["NCc1ccc(O)cc1", "CCBr"], "an aliphatic amine in NCc1ccc(O)cc1"),
    ("reductive amination, ketone", ["CC(=O)c1ccc(C=O)cc1", "CCN"], "an aldehyde"),
    ("Suzuki coupling", ["OB(O)c1ccc(Br)cc1", "Clc1ccncc1"], "could react with itself"),
    ("Suzuki coupling", ["OB(O)c1ccc(Cl)cc1", "Brc1ccncc1"], ""),  # the bromide first
    ("Grignard addition, aldehyde", ["O=Cc1ccc(Br)cc1", "Brc1ccccc1"], ""),  # the magnesium is in the other flask
    ("urea from amines", ["CCN", "Nc1ccccc1"], ""),
    ("Fischer indole synthesis", ["NNc1ccccc1", "O=C1CCCCC1"], ""),  # two ways to one product
    ("pyrazole", ["CC(=O)CC(C)=O", "NNc1ccccc1"], ""),
]


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """A file of the common reagents with names and prices, and rows that cannot be used."""
    path = tmp_path_factory.mktemp("stock") / "mine.csv"
    rows = [(s, f"R-{i}", i) for i, s in enumerate(REAGENTS)]
    rows += [("C1CC", "broken", 3), ("CCO", "again", 1), ("C", "inert", 1), ("CCC#N", "odd", "two"), ("", "empty", 1)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("Name", "SMILES", "price"), *((n, s, p) for s, n, p in rows)])
    return path


@pytest.fixture(scope="module")
def space(stock):
    return RouteSpace(Blocks(str(stock)), steps=4)


@pytest.mark.parametrize(("name", "reactants", "products"), KNOWN)
def test_a_reaction_gives_what_is_known(name, reactants, products):
    assert reaction(name).products([chemistry.canonical(s) for s in reactants]) == [chemistry.canonical(s) for s in products]


def test_every_reaction_runs_both_ways():
    """What a template makes of blocks, the template backwards takes apart."""
    rng = random.Random(0)
    stock = shipped()
    silent = set(reactions())
    for name in sorted(silent):
        step = reaction(name)
        for _ in range(30):
            reactants = [rng.choice(stock.fitting(step, i)) for i in range(step.size)]
            if any(step.precursors(product) for product in step.products(reactants)):
                silent.discard(name)
                break
    assert not silent


def test_random_routes_and_their_children_replay(space):
    rng = random.Random(1)
    edits = RouteEdits(space, rng, 40)
    routes = [r for r in (edits.new() for _ in range(60)) if r is not None]
    for name in list(WEIGHTS) * 15:
        child = edits.child(name, rng.choice(routes), partial(rng.choice, routes))
        routes.extend([child] if child is not None else [])
    assert len(routes) > 100 and max(r.steps for r in routes) == space.steps
    for route in routes:
        text = str(route)
        assert str(parse_route(text)) == text and parse_route(text).steps == route.steps <= space.steps
        assert replay(text, space.stock) == route.smiles
    short = [route.smiles for route in routes if route.steps <= 2][:40]
    found = [space.finder.find(smiles) for smiles in short]
    assert sum(route is not None for route in found) > len(short) / 2
    for smiles, again in zip(short, found):
        assert again is None or replay(again, space.stock) == smiles


@pytest.mark.parametrize(("name", "reactants", "reason"), COMPETING)
def test_a_group_that_would_react_as_well_is_named(name, reactants, reason):
    step, reactants = reaction(name), [chemistry.canonical(s) for s in reactants]
    assert step.products(reactants), "the template alone sees no reason"
    assert reason in competing(step, reactants) and bool(reason) == bool(competing(step, reactants))


def test_no_route_takes_a_step_in_which_another_group_reacts(space, tmp_path):
    edits = RouteEdits(space, random.Random(3), 40)
    free = RouteEdits(RouteSpace(space.blocks, selective=False), random.Random(3), 40)

    def concerned(maker):
        steps = [node for route in (maker.new() for _ in range(150)) if route for node in route.made]
        return sum(bool(competing(reaction(n.reaction), [r.smiles for r in n.reactants])) for n in steps)

    assert concerned(edits) == 0 and concerned(free) > 10
    small = tmp_path / "two.smi"
    small.write_text("NCC(=O)O\nNCc1ccccc1\n")
    stock, wanted = Blocks(str(small)).read(), chemistry.canonical("NCC(=O)NCc1ccccc1")
    assert RouteFinder(stock, 1, 60).find(wanted) is None  # glycine would react with its own kind
    assert RouteFinder(stock, 1, 60, selective=False).find(wanted).steps == 1


def test_analogues_are_like_the_molecule_and_replay(space):
    edits = RouteEdits(space, random.Random(0), 60)
    analogues = Analogues(space.stock, 3, edits.applied)
    wanted = chemistry.canonical("CC(=O)Nc1ccc(OCc2ccc(CCl)cc2)cc1")
    found = analogues.of(wanted)
    prints = [chemistry.bit_fingerprint(chemistry.parse(s)) for s in (wanted, *(r.smiles for r in found))]
    alike = chemistry.similarity(prints[0], prints[1:])
    assert len(found) > 1 and alike[0] > 0.4 and all(replay(r, space.stock) == r.smiles for r in found)
    known = analogues.of(chemistry.canonical("CC(=O)Nc1ccc(O)cc1"))[0]
    assert known.smiles == "CC(=O)Nc1ccc(O)cc1"  # what can be made is made


def test_replay_finds_what_is_wrong(space):
    route = space.finder.find(CELECOXIB)
    assert replay(route) == CELECOXIB and route.steps == 1
    with pytest.raises(DataError, match=r"pyrazole of .* gives .*, not CCO"):
        replay(Route("CCO", route.reaction, route.reactants))
    with pytest.raises(DataError, match=r"NNc1ccc\(S\(N\)\(=O\)=O\)cc1 is not in the stock"):
        other = {s: b for s, b in space.stock.blocks.items() if not s.startswith("NN")}
        replay(route, type(space.stock)(other, {}))
    with pytest.raises(DataError, match="did you mean 'pyrazole'"):
        replay(str(route).replace("pyrazole", "pyrazol"))
    with pytest.raises(DataError, match="is not a step of a route"):
        parse_route("nonsense")


def test_a_route_is_found_or_not_whatever_the_machine(space):
    ibuprofen = "CC(C)Cc1ccc(C(C)C(=O)O)cc1"
    assert space.finder.find(ibuprofen) is None
    target = chemistry.canonical("COc1ccc(S(=O)(=O)N2CCN(C(=O)c3ccccc3)CC2)cc1")
    found = space.finder.find(target)
    assert 2 <= found.steps <= 3 and replay(found, space.stock) == target
    assert RouteFinder(space.stock, 3, 60).find(target) == found
    assert RouteFinder(space.stock, 1, 60).find(target) is None


def test_rows_of_a_stock_that_cannot_be_used_are_named(stock):
    found = Blocks(str(stock)).read()
    notes = " ".join(found.notes)
    last = len(REAGENTS)
    assert f"({last + 2}): not used, not a molecule that RDKit can read" in notes, notes
    assert f"{last + 4}): takes part in no reaction" in notes and "without a price, which is no number" in notes
    assert found.blocks["CC(=O)O"].name.startswith("R-") and found.priced
    with pytest.raises(DataError, match=r"blocks\.name_column=nam: .* has no such column; allowed: Name"):
        Blocks(str(stock), name_column="nam").read()


def test_the_stock_of_the_package_fits_its_reactions():
    found = shipped()  # raises where the table was made for other reactions
    assert len(found) > 10_000 and len(set(map(chemistry.canonical, REAGENTS)) - set(found.blocks)) < 5
    rng = random.Random(0)
    for step in reactions().values():
        for slot in range(step.size):
            fitting = found.fitting(step, slot)
            assert fitting, f"{step.name} has no block for its reactant {slot + 1}"
            smiles = rng.choice(fitting)
            assert chemistry.parse(smiles).HasSubstructMatch(chemistry.smarts(step.slots[slot]))


def test_a_file_of_reactions_names_the_line(tmp_path):
    (tmp_path / "mine.tsv").write_text("$acid\t[CX3](=O)[OX2H1]\nester: wrong\tA\tB\n")
    with pytest.raises(DataError, match="line 2 must be a new name"):
        read_reactions(tmp_path / "mine.tsv")


def search(space, **options):
    return Routes(space=space, **{"initial": 20, "batch": (10, 10, 10), "candidates": (3, 3, 3), "unrestricted": 1} | options)


def test_every_evaluated_molecule_has_a_route_that_replays(space, tmp_path):
    start = ["CC(=O)Nc1ccc(O)cc1", "CC(C)Cc1ccc(C(C)C(=O)O)cc1"]
    options = {"constraints": [Window("mw", 100, 400)], "journal": tmp_path / "calls.jsonl"}
    whole = molecules.design("qed", start, 60, search=search(space), **options)
    assert len(whole.calls) == 60 and len({s.smiles for s in whole.calls}) == 60
    for scored in whole.calls:
        assert replay(scored.told["route"], space.stock) == scored.smiles
        assert scored.feasible and int(scored.told["steps"]) <= space.steps
    assert whole.calls[0].smiles == start[0]  # paracetamol can be made of the reagents, ibuprofen cannot
    assert "1 of 2 start molecules left out" in " ".join(whole.notes)
    first, last = whole.calls[:20], whole.calls[-20:]
    assert sum(s.score for s in last) > sum(s.score for s in first)
    lines = (tmp_path / "calls.jsonl").read_text().splitlines(keepends=True)
    for kept, torn in ((7, 30), (41, 0)):  # as kills leave it
        (tmp_path / "calls.jsonl").write_text("".join(lines[:kept]) + lines[kept][:torn])
        again = molecules.design("qed", start, 60, search=search(space), **options)
        assert again.calls == whole.calls and again.cost["calls_from_journal"] == kept


def test_constraints_and_spaces_are_told_apart(space):
    assert molecules.load_search("routes", initial=3).space == RouteSpace()
    with pytest.raises(ConfigError, match="no route was found whose molecule satisfies the constraints"):
        molecules.design("qed", budget=10, search=search(space), constraints=[Window("mw", 10, 20)])
    with pytest.raises(ConfigError, match="this one is for search=routes"):
        Likelihood(space)
    with pytest.raises(ConfigError, match="start must be given"):
        molecules.design("qed", budget=10, search="genetic")


def test_a_route_may_be_required_or_shown(stock):
    ibuprofen, paracetamol = (chemistry.parse(s) for s in ("CC(C)Cc1ccc(C(C)C(=O)O)cc1", "CC(=O)Nc1ccc(O)cc1"))
    (required,) = ConstraintConfig(route=True, blocks=Blocks(str(stock))).constraints([]).items
    assert isinstance(required, Routed)
    required.violation(paracetamol)
    assert len(pickle.dumps(required)) < 2_000  # workers read the stock themselves
    assert required.violation(ibuprofen) == 1 and required.violation(paracetamol) == 0
    assert required.values(ibuprofen)[0] == "none found" and replay(required.values(paracetamol)[0])
    (shown,) = ConstraintConfig(route="show", blocks=Blocks(str(stock))).constraints([]).items
    assert shown.violation(ibuprofen) == 0 and shown.values(ibuprofen) == ["none found", "", "", ""]


def test_proposals_have_routes_where_they_are_asked_for(stock):
    blocks = {"_target_": "molecules.routes.stock.Blocks", "path": str(stock)}
    asked = {"_target_": "molecules.constraints.config.ConstraintConfig", "route": "show", "blocks": blocks}
    found = routes_of_proposals({"constraints": asked}, ["CC(=O)Nc1ccc(O)cc1", "CC(C)Cc1ccc(C(C)C(=O)O)cc1"])
    assert [told["steps"] for told in found.values()] == ["2", ""] and all(told["route"] for told in found.values())
    assert routes_of_proposals({"constraints": asked | {"route": False}}, ["CCO"]) == {}


def test_from_the_command_line(typed, stock, tmp_path):
    small = [f"blocks.path={stock}", "budget=14", "search.initial=10", "oracle=qed", "start=smiles", "start.smiles=CCO"]
    small.append("constraints.route=true")
    assert typed("task=design", "search=routes", *small, folder="run")[0] == 0
    with (tmp_path / "run" / "molecules.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 14
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert "constraints.route was left out" in " ".join(result["notes"]) and list(rows[0]).count("route") == 1
    best = result["best"][0]
    assert "route" not in best["constraints"]  # no second search for what the search has made
    assert replay(best["told"]["route"]) == best["smiles"] == rows[0]["smiles"] and rows[0]["route"] == best["told"]["route"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Routes of the best molecules" in page and ">product<" in page and "R-" in page
    (tmp_path / "two.smi").write_text("CC(C)Cc1ccc(C(C)C(=O)O)cc1\nCC(=O)Nc1ccc(O)cc1\n")
    where = [f"blocks.path={stock}", "start=file", "start.path=two.smi"]
    assert typed("task=score", "oracle=qed", "constraints=none", "constraints.route=show", *where, folder="scored")[0] == 0
    with (tmp_path / "scored" / "scores.csv").open() as file:
        shown = [row["route"] for row in csv.DictReader(file)]
    assert shown[0] == "none found" and replay(shown[1]) == "CC(=O)Nc1ccc(O)cc1"


def test_a_stock_that_changed_is_noticed(typed, tmp_path):
    blocks = tmp_path / "mine.smi"
    blocks.write_text("\n".join(REAGENTS[:120]))
    small = [f"blocks.path={blocks}", "search.initial=2", "oracle=qed", "start=smiles", "start.smiles=CCO"]
    run = ["task=design", "search=routes", "constraints=none", *small]
    assert typed(*run, "budget=2")[0] == 0
    blocks.write_text("\n".join(REAGENTS[:119]))
    code, stderr = typed(*run, "budget=3", "resume=true")
    assert code == 2 and "mine.smi holds other building blocks than the run began with" in " ".join(stderr.split())
    recipe = tmp_path / "run" / "recipe.json"
    told = json.loads(recipe.read_text())
    blocks.write_text("\n".join(REAGENTS[:120]))
    recipe.write_text(json.dumps(told | {"stock": told["stock"] | {"reactions": "0"}}))
    code, stderr = typed(*run, "budget=3", "resume=true")
    assert code == 2 and "the reactions of this package are others" in " ".join(stderr.split())
    del told["stock"]  # as earlier versions wrote it
    recipe.write_text(json.dumps(told))
    assert typed(*run, "budget=3", "resume=true")[0] == 0
