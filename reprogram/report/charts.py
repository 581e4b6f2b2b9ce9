"""Matplotlib figures as SVG inside the page: text stays text, and ink follows the page's light or dark colours.

Figures are drawn with a few marker colours that are replaced by the page's CSS variables.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, MARK, OTHER, GOOD, WARN, BAD = (
    "#1d2125", "#636b74", "#e2e4e1", "#1f5fbf", "#8a929b", "#20794a", "#96590a", "#b3261e",
)  # fmt: skip
_VARIABLES = {
    INK: "--ink", MUTED: "--muted", LINE: "--line", MARK: "--mark", OTHER: "--other", GOOD: "--good", WARN: "--warn",
    BAD: "--bad",
}  # fmt: skip


def axes(width: float = 5.2, height: float = 3.0, x: str = "", y: str = "") -> tuple[Figure, Axes]:
    """An empty chart in the page's style; sizes in inches (5.2 fills a phone and is readable on it)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    chart = figure.add_subplot()
    chart.spines[["top", "right"]].set_visible(False)
    chart.spines[["left", "bottom"]].set_color(OTHER)
    chart.tick_params(colors=MUTED, labelsize=10)
    chart.set_xlabel(x, color=MUTED, fontsize=10)
    chart.set_ylabel(y, color=MUTED, fontsize=10)
    chart.grid(color=LINE, linewidth=0.6)
    chart.set_axisbelow(True)
    return figure, chart


def svg(figure: Figure, alt: str, caption: str = "") -> Markup:
    """The figure as inline SVG with the page's colours and font, the same bytes each time."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": alt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"font: (\d+\.?\d*px) [^;\"]+", r"font-size: \1; font-family: inherit", text)
    prefix = re.sub(r"\W+", "-", alt)  # ids must be unique on a page of several figures
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    text = text.replace("<svg ", f'<svg role="img" aria-label="{Markup.escape(alt)}" ', 1)
    foot = Markup("<figcaption>{}</figcaption>").format(caption) if caption else ""
    return Markup("<figure>{}{}</figure>").format(Markup(text), foot)


def curves(
    lines: Mapping[str, Sequence[float]], x: str, y: str, alt: str, caption: str = "", steps: Sequence[float] = ()
) -> Markup:
    """Lines over steps (1, 2, … unless ``steps`` are given), named in a legend where there are several."""
    figure, chart = axes(x=x, y=y)
    colours = (MARK, OTHER, GOOD, WARN, BAD)
    for index, (name, values) in enumerate(lines.items()):
        at = list(steps) or list(range(1, len(values) + 1))
        dots = "" if len(values) > 2 else "o"
        chart.plot(at, values, color=colours[index % len(colours)], linewidth=1.8, label=name, marker=dots)
    if len(lines) > 1:
        chart.legend(frameon=False, labelcolor=MUTED, fontsize=10)
    return svg(figure, alt, caption)


def scatter(
    known: Any, predicted: Any, alt: str, caption: str = "", x: str = "measured", y: str = "predicted"
) -> Markup:
    """Predicted against measured values, with the line where they agree."""
    figure, chart = axes(4.0, 4.0, x, y)
    chart.plot(known, predicted, "o", color=MARK, markersize=3, alpha=0.5, rasterized=len(known) > 3000)
    ends = [min(min(known), min(predicted)), max(max(known), max(predicted))]
    chart.plot(ends, ends, color=OTHER, linewidth=1)
    return svg(figure, alt, caption)
