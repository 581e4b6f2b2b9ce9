"""Genetic search over synthesis routes, screened by a Gaussian process: every molecule it evaluates can be made.

Routes are trees of building blocks and reactions (as in SynGA, arXiv 2509.20719); children are ranked by the surrogate of
``search=surrogate`` before any is evaluated. Children also come from edits of the molecules themselves: many are ranked by the
surrogate, and the best are projected into the space of routes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

import numpy as np

from molecules import chemistry
from molecules.chemistry import Mol
from molecules.counting import counted
from molecules.evaluator import Evaluator
from molecules.objective import Scored
from molecules.routes.analogues import Analogues
from molecules.routes.route import Route
from molecules.search.model.experts import SurrogateExpert
from molecules.search.operators.library import default_library
from molecules.search.operators.offspring import Child, Offspring
from molecules.search.operators.projection import Projection, Promise
from molecules.search.operators.route_edits import WEIGHTS, RouteEdits
from molecules.search.operators.weights import EditWeights
from molecules.search.surrogate import Breeding, Screened, SurrogatePass
from molecules.spaces.routes import RouteSpace
from reprogram.errors import ConfigError
from reprogram.ranges import Amount, Count, NotNegative, Share

GRAPH = "route to an edited molecule"
MOST_RINGS = 8  # of edited molecules
PROJECTED = "projection of an edited molecule"
KEPT = 20_000  # routes of candidates that are remembered
LEAD_IN = 60  # rounds of breeding towards the constraints before the first evaluation


@dataclass
class Routes(Screened):
    """Evaluates only molecules with a route of at most ``space.steps`` reactions from ``space.blocks``.

    Start molecules to which a route is found, and molecules like the others, are evaluated first, then random routes.

    space: reactions, blocks and the longest route. initial: random routes that are evaluated before the surrogate is asked.
    graph_edits: weight of edits of molecules to which a route is looked for, beside 18.5 for all edits of routes.
    unrestricted: molecules without routes that are bred, twice, and ranked by the surrogate for each candidate. projected: so
    many of the best of them, as a share of the candidates, are replaced by similar molecules with a route: candidates, too.
    max_atoms: larger children are dropped. The other options are those of ``surrogate``.
    """

    gives_routes: ClassVar[bool] = True

    space: RouteSpace = field(default_factory=RouteSpace)
    initial: Amount = 100
    graph_edits: NotNegative = 2.0
    max_atoms: Count = 60
    candidates: tuple[Count, ...] = (6, 4, 2)
    unrestricted: Amount = 4
    projected: Share = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.space, RouteSpace):
            raise ConfigError("search=routes needs space=routes: reactions and building blocks.")
        self.routes: dict[str, Route] = {}  # of every molecule that was evaluated, and of candidates
        self.notes: list[str] = []

    def first(self, evaluator: Evaluator, start: Sequence[str], rng: np.random.Generator) -> list[str]:
        self.notes = list(self.space.stock.notes)
        breeding = self.breeding(evaluator, Random(int(rng.integers(2**63))))
        found: list[str] = []
        missing: list[str] = []
        for smiles in start:
            flat = chemistry.without_stereo(smiles)
            route = self.space.finder.find(smiles) or self.space.finder.find(flat)
            if route is None:
                missing.append(flat)
            else:
                self.routes[route.smiles] = route
                found.append(route.smiles)
        alike = [child.smiles for child in breeding.like(missing)]
        if missing:
            whole, steps = counted(len(start), "start molecule"), counted(self.space.finder.steps, "step")
            instead = f"; in their place {counted(len(alike), 'similar molecule')} with a route" if alike else ""
            self.notes.append(f"{len(missing)} of {whole} left out: no route of {steps} was found to them{instead}.")
        found = list(dict.fromkeys([*found, *alike]))
        made = breeding.beginning(self.initial, found)
        if not found and not made:
            raise ConfigError("no route was found whose molecule satisfies the constraints; loosen them, or give more blocks.")
        return [*found, *(child.smiles for child in made)]

    def one_pass(self, evaluator: Evaluator, rng: np.random.Generator, breeding: Breeding) -> RoutePass:
        return RoutePass(self, evaluator, rng, breeding)

    def breeding(self, evaluator: Evaluator, random: Random) -> RouteBreeding:
        return RouteBreeding(self, evaluator, random)

    def told(self, smiles: str) -> dict[str, str]:
        route = self.routes.get(smiles)
        return {} if route is None else self.space.told(route)


class RoutePass(SurrogatePass):
    """Shows the surrogate to the breeding, which asks it about molecules without routes."""

    breeding: RouteBreeding

    def _bred(self, leader: SurrogateExpert, wanted: int) -> tuple[np.ndarray, np.ndarray]:
        def promise(mols: Sequence[Mol]) -> np.ndarray:
            mean, std = leader.predict(leader.read(mols))
            return np.asarray(mean + leader.trust * std)

        self.breeding.promise = promise
        return super()._bred(leader, wanted)


class RouteBreeding(Breeding):
    """Children of routes. Every child's route is remembered by its molecule."""

    def __init__(self, options: Routes, evaluator: Evaluator, random: Random) -> None:
        self.options: Routes
        super().__init__(options, evaluator, Offspring(random, default_library(), options.max_atoms, MOST_RINGS))
        self.routes, self.space = options.routes, options.space
        self.edits = RouteEdits(options.space, random, options.max_atoms)
        analogues = Analogues(options.space.stock, min(options.space.steps, 3), self.edits.applied)
        self.projection = Projection(self.offspring, analogues, evaluator.objective.constraints)
        self.promise: Promise | None = None
        self.weights = EditWeights(WEIGHTS | {GRAPH: max(options.graph_edits, 1e-9)}, random)

    def child_of(self, draw: Callable[[], str]) -> Child | None:
        """A child of a drawn parent."""
        parent, name = draw(), self.weights.draw()
        if name == GRAPH:
            return self._near(parent, draw)
        route = self.edits.child(name, self.routes[parent], lambda: self.routes[draw()])
        return None if route is None else self._known(route, parent, name)

    def children(self, draw: Callable[[], str], count: int, pool: dict[str, Child], slack: float) -> list[Child]:
        if len(self.routes) > KEPT + 2 * len(self.evaluator.calls):
            for smiles in [s for s in self.routes if s not in pool and not self.evaluator.known(s)]:
                del self.routes[smiles]
        projected = self._projected(draw, count, pool, slack) if self.promise else []
        return [*projected, *super().children(draw, count, pool | {c.smiles: c for c in projected}, slack)]

    def _projected(self, draw: Callable[[], str], count: int, pool: dict[str, Child], slack: float) -> list[Child]:
        """The most promising of many molecules without routes, or what is like them and has one."""
        assert self.promise is not None
        imagined = self.projection.bred(draw, self.options.unrestricted * count, 2, self.promise, slack)
        waiting: list[Child] = []
        for edited in imagined[: round(self.options.projected * count)]:
            for route in self.projection.routes(edited, self.routes[edited.root]):
                child = self._known(route, edited.root, PROJECTED)
                if child is not None:
                    waiting.append(child._replace(inner=edited.edit))
        queue = iter(waiting)
        return self._collect(lambda: next(queue, None), len(waiting), pool, slack)

    def assembled(self, count: int) -> list[Child]:
        return self._without_slow(self._collect(self._new, count, {}, 0.0))

    def reward(self, batch: list[Child], scored: list[Scored]) -> None:
        bar = self.population.bar
        self.weights.reward([(c.edit, s.rank > bar) for c, s in zip(batch, scored)])
        self.offspring.reward([(c.inner, s.rank > bar) for c, s in zip(batch, scored) if c.inner])

    def like(self, molecules: Sequence[str]) -> list[Child]:
        """For each molecule without a route the most similar feasible one that has one, where there is any."""
        made: dict[str, Child] = {}
        constraints = self.evaluator.objective.constraints
        for smiles in molecules:
            for route in self.projection.analogues.of(smiles):
                child = self._known(route, "", PROJECTED)
                if child is not None and constraints.total(child.mol) == 0:
                    made[child.smiles] = child
                    break
        return list(made.values())

    def beginning(self, count: int, known: Sequence[str]) -> list[Child]:
        """Up to ``count`` random routes whose molecules satisfy the constraints, bred towards them where few do."""
        made: dict[str, Child] = {}
        feasible: list[Child] = []
        constraints = self.evaluator.objective.constraints
        for _ in range(LEAD_IN if count else 0):
            best = sorted(made.values(), key=lambda c: c.violation)[:count]
            few = len(feasible) < count / 4 and len(made) > 4 * count

            def draw(best: list[Child] = best) -> str:
                return self.random.choice(best).smiles

            for _ in range(count):
                child = self.child_of(draw) if few and self.random.random() < 0.7 else self._new()
                if child is None or child.smiles in made or child.smiles in known:
                    continue
                child = made[child.smiles] = child._replace(violation=constraints.quick_total(child.mol))
                if child.violation == 0 and constraints.slow_total(child.mol) == 0:
                    feasible.append(child)
            if len(feasible) >= count:
                break
        return feasible[:count]

    def _near(self, parent: str, draw: Callable[[], str]) -> Child | None:
        """An edit of the molecule, where a route to the result is found."""
        child = self.offspring.child(parent, draw)
        if child is None or child.smiles in self.routes:
            return None
        route = self.space.finder.near(child.smiles, self.routes[parent])
        if route is None or not 0 < route.steps <= self.space.steps:
            return None
        made = self._known(route, parent, GRAPH)
        return None if made is None else made._replace(inner=child.edit)

    def _new(self) -> Child | None:
        route = self.edits.new()
        return None if route is None else self._known(route, "", "new")

    def _known(self, route: Route, parent: str, name: str) -> Child | None:
        mol = chemistry.parse(route.smiles)
        if mol is None or mol.GetNumHeavyAtoms() > self.edits.max_atoms:
            return None
        before = self.routes.get(route.smiles)
        if before is None or route.steps < before.steps:
            self.routes[route.smiles] = route
        return Child(route.smiles, mol, parent, name)
