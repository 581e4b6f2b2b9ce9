"""The files that a person labels in: a list as CSV, and a contact sheet, one page that opens from disk and needs no network.

The sheet shows every input once, takes labels by keyboard or touch, keeps them in the browser, and gives the list back as a
download with the same columns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reprogram.errors import DataError
from reprogram.modalities import modality
from reprogram.selection.label_round import Round
from reprogram.targets.label_list import INPUT, LABEL, Labelled, write_list
from reprogram.targets.pool import Pool

COLUMNS = (INPUT, LABEL, "why", "guess", "probability", "stands_for")
DONE = "labelled"
TYPICAL, UNSURE, CHECK = "typical", "unsure", "check"
CONFIDENT = 0.8  # a guess below this chance is why an input is shown


@dataclass
class Card:
    """One input on the sheet. html: how a person sees it, safe. row: its row of the list."""

    html: str
    row: dict[str, Any]

    def caption(self) -> str:
        """Which it is, and why it is shown."""
        return f"{str(self.row[INPUT])[:60]}: {because(self.row)}"


def because(row: dict[str, Any]) -> str:
    """Why an input is shown, in words."""
    if row["why"] == CHECK:
        return f"labelled {row[LABEL]}, the other labels say {row['guess']}"
    if row["why"] == UNSURE:
        return f"unsure, {row['guess']}?"
    count = int(row["stands_for"] or 0)
    return f"stands for {count:,} inputs" if count > 1 else "unlike the others"


@dataclass
class LabelFiles:
    """The list of a round. rows: what a person is to label, labels to look at again first."""

    pool: Pool
    labelled: Labelled
    chosen: Round

    def __post_init__(self) -> None:
        given = dict(zip(self.labelled.places.tolist(), self.labelled.texts, strict=True))
        checked = [place for place, _, _ in self.chosen.check]
        self.rows = [
            self._row(place, given[place], CHECK) | {"guess": name, "probability": f"{wrong:.2f}"}
            for place, name, wrong in self.chosen.check
        ]
        self.places = [*checked, *(int(place) for place in self.chosen.chosen)]
        self.rows += [self._row(int(place), "", self._why(int(place))) for place in self.chosen.chosen]
        self.done = [self._row(place, text, DONE) for place, text in given.items() if place not in set(checked)]
        self.done += [self._row(int(place), "?", "unclear") for place in self.labelled.unclear]

    def _why(self, place: int) -> str:
        guess = self.chosen.guesses.get(place)
        return UNSURE if guess is not None and guess[1] < CONFIDENT else TYPICAL

    def _row(self, place: int, label: str, why: str) -> dict[str, Any]:
        name, chance = self.chosen.guesses.get(place, ("", None))
        stands = self.chosen.stands_for.get(place, "")
        probability = "" if chance is None else f"{chance:.2f}"
        return dict(zip(COLUMNS, (self.pool.written[place], label, why, name, probability, stands), strict=True))

    def text(self) -> str:
        """``to_label.csv``: what is to be labelled, then what has a label, so that one file always suffices."""
        return write_list([*self.rows, *self.done], COLUMNS)

    def cards(self, side: int) -> list[Card]:
        """What a person sees. A picture that can no longer be read is told so in its place."""
        show, found = modality(self.pool.kind).shown, []
        for place, row in zip(self.places, self.rows, strict=True):
            try:
                found.append(Card(show(self.pool.to_show(place), side), row))
            except DataError as error:
                found.append(Card(str(Markup('<div class="text">{}</div>').format(str(error))), row))
        return found

    def notes(self) -> list[str]:
        return [*self.pool.told(), *self.labelled.notes, *self.chosen.notes]


def sheet(name: str, cards: Sequence[Card], classes: Sequence[str], files: LabelFiles) -> str:
    """``to_label.html``: one page with its pictures, style and script."""
    listed = [{"html": card.html, "row": card.row, "because": because(card.row)} for card in cards]
    data = {"name": name, "columns": list(COLUMNS), "classes": list(classes), "cards": listed, "done": files.done}
    data["key"] = hashlib.sha256(json.dumps([c.row for c in cards]).encode()).hexdigest()[:16]
    environment = Environment(
        loader=PackageLoader("reprogram.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    safe = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")
    return environment.get_template("contact_sheet.html").render(name=name, data=Markup(safe))
