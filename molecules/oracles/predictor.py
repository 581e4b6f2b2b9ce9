"""A reprogrammed predictor as an oracle: a program folder of :mod:`reprogram`, or several as an ensemble.

Molecules always reach it as canonical SMILES, because a frozen language model answers differently for each way to write a
molecule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from molecules import chemistry
from molecules.oracles.base import MAXIMISE, Answer, Oracle
from reprogram.errors import ConfigError, DataError, nearest
from reprogram.files import read_text
from reprogram.model import ReprogrammedModel
from reprogram.ranges import Share

LARGEST_KNOWN = 256 << 20  # bytes
KNOWN = "known_molecules.smi"  # beside a program: the molecules that it was trained on, one a line


@dataclass
class Predictor(Oracle):
    """Mean over the members as value, their standard deviation as ``std`` (for ``Term.confidence_bound``).

    program: one program folder or several; models may be given instead. column: class (its probability) or value to
    predict; the last class where it is left out. applicability_threshold: least Tanimoto similarity (ECFP4, 2,048
    bits) to the nearest molecule of ``known_molecules.smi`` beside the first program; a molecule further away has no
    value. 0: no threshold.
    """

    program: str | Sequence[str] = ()
    column: str | None = None
    applicability_threshold: Share = 0.0
    direction: str = MAXIMISE
    name: str = "predicted"
    models: list[ReprogrammedModel] = field(default_factory=list, repr=False)
    known: Sequence[str] = ()

    def __post_init__(self) -> None:
        from reprogram.artifact import from_pretrained

        folders = [self.program] if isinstance(self.program, str) else list(self.program)
        if not folders and not self.models:
            raise ConfigError("oracle=predictor needs oracle.program, the folder of a kept program.")
        for folder in folders:
            source = self.models[0].source if self.models else None
            self.models.append(from_pretrained(folder, source))
        target = self.models[0].target
        self.column = self.column or target.classes[-1]
        if self.column not in target.classes:
            raise ConfigError(f"The program has no class '{self.column}' (oracle.column); "
                              f"{nearest(self.column, target.classes)}.")  # fmt: skip
        self._index = target.classes.index(self.column)
        self.range = (-math.inf, math.inf) if target.problem == "regression" else (0.0, 1.0)
        if self.applicability_threshold > 0:
            known = list(self.known) or _known(Path(folders[0]) if folders else None)
            self._known = chemistry.fingerprint_matrix([m for s in known if (m := chemistry.parse(s)) is not None])

    def answers(self, smiles: Sequence[str]) -> list[Answer]:
        written = [chemistry.canonical(text) for text in smiles]
        readable = [text for text in written if text is not None]
        values = iter(self.members(readable).T if readable else ())
        return [
            Answer(math.nan, "not a SMILES that RDKit can parse") if text is None else self._answer(text, next(values))
            for text in written
        ]

    def members(self, smiles: Sequence[str]) -> np.ndarray:
        """[members, N] predictions; members that share input and source share its pass."""
        first = self.models[0]
        values, outputs = [], None
        with torch.no_grad():
            for model in self.models:
                model.eval()
                if outputs is None or not alike(model, first):
                    outputs = model.outputs(list(smiles))
                logits = model.decide(outputs)
                values.append(model.probabilities(logits)[:, self._index].cpu().numpy())
        return np.stack(values).astype(float)

    def _answer(self, smiles: str, predicted: np.ndarray) -> Answer:
        if self.applicability_threshold > 0:
            mol = chemistry.parse(smiles)
            assert mol is not None
            alike = float(chemistry.tanimoto(chemistry.fingerprint_matrix([mol]), self._known).max())
            if alike < self.applicability_threshold:
                shown = f"similarity {alike:.2f} < {self.applicability_threshold:g}"
                return Answer(math.nan, f"outside the applicability domain ({shown})")
        return Answer(float(predicted.mean()), std=float(predicted.std()))


def alike(a: ReprogrammedModel, b: ReprogrammedModel) -> bool:
    """Do two programs ask the source the same question?"""
    same_input = type(a.input) is type(b.input) and a.input.config() == b.input.config() and not a.input.trainable()
    return a.source is b.source and same_input and a.output.taps() == b.output.taps()


def _known(folder: Path | None) -> list[str]:
    path = None if folder is None else folder / KNOWN
    if path is None or not path.exists():
        raise DataError(f"oracle.applicability_threshold needs the training molecules in {path or KNOWN}, one SMILES a line.")
    return read_text(path, LARGEST_KNOWN, DataError).split()
