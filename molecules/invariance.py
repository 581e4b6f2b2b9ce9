"""Does the answer depend on how a molecule is written? A robustness hook for targets of SMILES.

The same molecule is written with random atom orders, and in equivalent forms (kekulised, explicit hydrogens, atom
maps: the families of AMORE). A model of molecules should give the same answer; a model that reads strings often does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rdkit import Chem
from torch import Tensor

from molecules.chemistry import canonical, parse, random_smiles
from molecules.counting import counted
from reprogram.hooks import Hook, Run
from reprogram.progress import progress
from reprogram.robustness.findings import Flag, Row, share_row

if TYPE_CHECKING:
    from reprogram.interfaces import TargetTask
    from reprogram.model import ReprogrammedModel

Model = Callable[[list[str]], Tensor]
VOTERS = 5  # randomized SMILES that vote together: their probabilities are averaged


def random_forms(smiles: str, count: int, seed: int = 0) -> list[str]:
    """Up to ``count`` different SMILES of one molecule, by random atom orders; each reads back as the same molecule."""
    mol = parse(smiles)
    if mol is None:
        return []
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        found.append(random_smiles(mol, rng))
    return list(dict.fromkeys(found))


def equivalent_forms(smiles: str) -> dict[str, str]:
    """The molecule kekulised, with explicit hydrogens, and with atom maps."""
    mol = parse(smiles)
    if mol is None:
        return {}
    kekulised = Chem.Mol(mol)
    Chem.Kekulize(kekulised, clearAromaticFlags=True)
    mapped = Chem.Mol(mol)
    for atom in mapped.GetAtoms():
        atom.SetAtomMapNum(atom.GetIdx() + 1)
    return {
        "kekulised": Chem.MolToSmiles(kekulised, kekuleSmiles=True),
        "explicit_hydrogens": Chem.MolToSmiles(Chem.AddHs(mol)),
        "atom_maps": Chem.MolToSmiles(mapped),
    }


def same_molecule(first: str, second: str) -> bool:
    """Both read back as one canonical SMILES; atom maps do not count."""

    def plain(smiles: str) -> str | None:
        mol = parse(smiles)
        return None if mol is None else canonical(Chem.MolToSmiles(Chem.RemoveHs(mol)))

    return plain(first) is not None and plain(first) == plain(second)


@dataclass
class Invariance:
    """answers, written: [N] whether every way of writing keeps the answer; std: [N], of the leading probability.

    worst: [N] right in every way of writing. flips: [N] share of ways with another answer. forms: name -> [N] kept.
    voted, voted_flips: [N] likewise for as many answers, each the vote of VOTERS of the ways: what voting repairs.
    """

    worst: Tensor
    flips: Tensor
    std: Tensor
    forms: dict[str, Tensor]
    skipped: int
    queries: int
    voted: Tensor
    voted_flips: Tensor


def invariance(
    model: Model, smiles: Sequence[str], labels: Tensor, count: int = 20, seed: int = 0, advance: Any = None
) -> Invariance:
    """``model``: SMILES -> logits [B, T] (one column: regression, whose std is that of the values).

    Unreadable molecules are skipped and counted.
    """
    worst, flips, std, skipped, queries = [], [], [], 0, 0
    voted: list[tuple[bool, float]] = []
    forms: dict[str, list[bool]] = {}
    for row, (text, label) in enumerate(zip(smiles, labels, strict=True)):
        ways = random_forms(text, count, seed + row)
        others = equivalent_forms(text)
        if advance is not None:
            advance(1)
        if not ways:
            skipped += 1
            continue
        with torch.no_grad():
            logits = model([text, *ways, *others.values()]).detach().cpu().float()
        queries += len(logits)
        here, drawn = logits[:1], logits[: len(ways) + 1]
        if logits.shape[1] == 1:
            std.append(float(drawn.std()))
            continue
        answers = logits.argmax(1)
        flips.append(float((answers[1 : len(ways) + 1] != answers[0]).float().mean()))
        std.append(float(drawn.softmax(1)[:, int(here.argmax())].std()))
        worst.append(bool((answers[: len(ways) + 1] == label).all()))
        voted.append(_voted(drawn.softmax(1), int(label), count, seed + row))
        for name, answer in zip(others, answers[len(ways) + 1 :], strict=True):
            forms.setdefault(name, []).append(bool(answer == answers[0]))
    kept = {name: torch.tensor(values) for name, values in forms.items()}
    votes, vote_flips = torch.tensor([v for v, _ in voted]), torch.tensor([f for _, f in voted])
    return Invariance(torch.tensor(worst), torch.tensor(flips), torch.tensor(std), kept, skipped, queries, votes, vote_flips)


def _voted(probabilities: Tensor, label: int, count: int, seed: int) -> tuple[bool, float]:
    """(is every one of ``count`` votes right?, share of votes unlike the most frequent) from probabilities [ways, T]."""
    rng = np.random.default_rng([seed, VOTERS])
    together = min(VOTERS, len(probabilities))
    draws = [rng.permutation(len(probabilities))[:together] for _ in range(count)]
    answers = torch.stack([probabilities[torch.from_numpy(rows)].mean(0) for rows in draws]).argmax(1)
    return bool((answers == label).all()), float((answers != answers.mode().values).float().mean())


def rows(found: Invariance, count: int) -> list[Row]:
    """Rows of the report: worst of k, flip rate, standard deviation, equivalent forms."""
    threat, more = f"{count} randomized SMILES of the same molecule", {"queries": found.queries}
    skipped = Flag("skipped", f"{counted(found.skipped, 'molecule')} cannot be read, skipped")
    flags = [skipped] if found.skipped else []
    table = []
    if len(found.worst):
        table.append(share_row("smiles_worst_case", "attack", threat, found.worst, flags=flags, **more))
        flip = Row("smiles_flip_rate", "estimate", threat, float(found.flips.mean()), n=len(found.flips), flags=flags)
        if flip.value is not None and flip.value > 0.05:
            flip.flags = [*flags, Flag("written_form", "the answer depends on how the molecule is written")]
        table.append(flip)
        vote = f"{count} votes of {VOTERS} randomized SMILES each"
        table.append(share_row("smiles_vote_worst_case", "attack", vote, found.voted, flags=flags, repairs="smiles_worst_case"))
        flips = float(found.voted_flips.mean())
        table.append(Row("smiles_vote_flip_rate", "estimate", vote, flips, n=len(found.voted_flips), flags=flags))
    if len(found.std):
        table.append(Row("smiles_std", "estimate", threat, float(found.std.mean()), n=len(found.std)))
    for name, kept in found.forms.items():
        table.append(share_row(f"smiles_{name}", "attack", "an equivalent form keeps the answer", kept))
    return table


class InvarianceHook(Hook):
    """molecules: test molecules looked at. count: randomized SMILES of each."""

    def __init__(self, molecules: int = 50, count: int = 20) -> None:
        self.molecules, self.count = molecules, count

    def on_fit_end(self, run: Run, model: ReprogrammedModel, target: TargetTask) -> None:
        if target.info.kind != "molecule" or target.info.problem == "multilabel":
            return
        picked = np.random.default_rng(run.seed).permutation(len(target.test))[: self.molecules]
        examples = target.test.subset(np.sort(picked))
        labels = torch.as_tensor(np.asarray(examples.labels))
        texts = list(examples.batch(range(len(examples))))
        with progress("robustness: SMILES", len(texts)) as bar:
            found = invariance(model, texts, labels, self.count, run.seed, bar.advance)
        for row in rows(found, self.count):
            row.add_to(run.result)
