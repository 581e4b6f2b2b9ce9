"""A second opinion on bridged aromatic rings, by another algorithm than the filter's: all chordless cycles of the graph."""

from __future__ import annotations

from itertools import combinations

import networkx as nx

from molecules.chemistry import Mol

FLAT = 8  # atoms of an aromatic ring; the macrocycle of a porphyrin is aromatic too, and bends


def crossings(mol: Mol, longest: int) -> list[int]:
    """Sizes of the chordless cycles of at most ``longest`` atoms that share three atoms or more with an aromatic ring, or
    two of its atoms that are not bonded."""
    graph = nx.Graph((b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds() if b.IsInRing())
    cycles = [frozenset(cycle) for cycle in nx.chordless_cycles(graph, length_bound=longest)]
    aromatic = [
        frozenset(ring)
        for ring in mol.GetRingInfo().AtomRings()
        if len(ring) <= FLAT and all(mol.GetAtomWithIdx(i).GetIsAromatic() for i in ring)
    ]
    return [len(c) for c in cycles if any(c != ring and _crosses(graph, c & ring) for ring in aromatic)]


def _crosses(graph: nx.Graph, shared: frozenset[int]) -> bool:
    return len(shared) >= 3 or any(not graph.has_edge(i, j) for i, j in combinations(shared, 2))
