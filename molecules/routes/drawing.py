"""A route as a picture for the report: a line a step, what reacts, the reaction over an arrow, what is made."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from molecules import chemistry
from molecules.routes.route import Route

SIZE = (190, 140)
ROW = "display:flex;flex-wrap:wrap;align-items:center;gap:.4rem;margin:.2rem 0"
FIGURE = "margin:0;width:190px;text-align:center"
SIGN = "font-size:1.4rem;padding:0 .2rem"
ARROW = "display:inline-block;width:9rem;text-align:center;font-size:.85rem;line-height:1.25"


def route_picture(route: Route, blocks: Sequence[str] = ()) -> Markup:
    """HTML of a route. blocks: its building blocks as the table has them, with the user's own names: ``SMILES (NAME)``."""
    names = {smiles: name.removesuffix(")") for smiles, _, name in (block.partition(" (") for block in blocks)}
    numbers = {node.smiles: f"{i}" for i, node in enumerate(route.made, 1)}
    rows = []
    for node in route.made:
        parts = []
        for reactant in node.reactants:
            number = numbers.get(reactant.smiles) if reactant.reaction else None
            label = f"intermediate {number}" if number else names.get(reactant.smiles) or "building block"
            parts.append(_figure(reactant.smiles, label))
        left = Markup("<span style='{}'>+</span>").format(SIGN).join(parts)
        arrow = Markup("<span style='{}'>{}<br><span style='{}'>⟶</span></span>").format(ARROW, node.reaction, SIGN)
        label = "product" if node.smiles == route.smiles else f"intermediate {numbers[node.smiles]}"
        rows.append(Markup("<div style='{}'>{}{}{}</div>").format(ROW, left, arrow, _figure(node.smiles, label)))
    return Markup("").join(rows)


def _figure(smiles: str, label: str) -> Markup:
    drawing = chemistry.draw_svg(smiles, size=SIZE)
    return Markup("<figure style='{}'>{}<figcaption>{}</figcaption></figure>").format(
        FIGURE, Markup(drawing[drawing.index("<svg") :]), label
    )
