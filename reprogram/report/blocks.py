"""The blocks that report pages are built of: tables, facts, pictures, charts, intervals. Each returns safe HTML."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup


def number(value: Any, digits: int = 3) -> str:
    """A figure for people: thousands separated, ``digits`` significant after the point, a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    value = float(value)
    if value != value:
        return "–"
    if value and (abs(value) >= 1e5 or abs(value) < 10**-digits):
        return f"{value:.{digits}g}"
    return f"{value:,.{digits}f}" if abs(value) < 100 else f"{value:,.1f}"


def interval(metric: Mapping[str, Any] | None, digits: int = 3) -> str:
    """``0.912 [0.894, 0.928]`` of a ``{"value", "low", "high"}``."""
    if not metric or metric.get("value") is None:
        return "–"
    text = number(metric["value"], digits)
    if metric.get("low") is None or metric.get("high") is None:
        return text
    return f"{text} [{number(metric['low'], digits)}, {number(metric['high'], digits)}]"


def table(
    headers: Sequence[str | Markup], rows: Sequence[Sequence[Any]], caption: str = "", own: Sequence[int] = ()
) -> Markup:
    """A table that scrolls sideways on a narrow screen. Numbers align right; ``own`` are rows to be set off."""
    if not rows:
        return Markup("")
    numeric = [all(isinstance(row[c], int | float) or row[c] is None for row in rows) for c in range(len(headers))]
    align = [Markup(' class="number"') if n else Markup("") for n in numeric]
    head = Markup("").join(Markup("<th{}>{}</th>").format(a, h) for a, h in zip(align, headers, strict=True))
    body = Markup("")
    for index, row in enumerate(rows):
        cells = Markup("").join(
            Markup("<td{}>{}</td>").format(a, number(c) if n else ("–" if c is None else c))
            for a, n, c in zip(align, numeric, row, strict=True)
        )
        body += Markup("<tr{}>{}</tr>\n").format(Markup(' class="own"') if index in own else "", cells)
    foot = Markup("<caption>{}</caption>").format(caption) if caption else ""
    return Markup('<div class="scroll"><table>{}<thead><tr>{}</tr></thead><tbody>\n{}</tbody></table></div>').format(
        foot, head, body
    )


def facts(values: Mapping[str, Any]) -> Markup:
    """Short names and values side by side; those without a value are left out."""
    items = [
        Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(k, v if isinstance(v, str | Markup) else number(v))
        for k, v in values.items()
        if v is not None
    ]
    return Markup('<dl class="facts">{}</dl>').format(Markup("").join(items)) if items else Markup("")


def note(text: str) -> Markup:
    """A small remark."""
    return Markup('<p class="note">{}</p>').format(text) if text else Markup("")


def heading(text: str) -> Markup:
    """A heading inside a section."""
    return Markup("<h3>{}</h3>").format(text)


def listing(items: Sequence[str]) -> Markup:
    """A list with bullets."""
    rows = Markup("").join(Markup("<li>{}</li>").format(item) for item in items)
    return Markup("<ul>{}</ul>").format(rows) if items else Markup("")


def code(text: str) -> Markup:
    """Text as it is typed."""
    return Markup("<pre><code>{}</code></pre>").format(text)


def details(summary: str, *blocks: Markup) -> Markup:
    """Blocks that open on a click."""
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, Markup("").join(blocks))


def picture(png: bytes, alt: str, caption: str = "", width: int | None = None) -> Markup:
    """A PNG inside the page; ``alt`` says what is to be seen."""
    data = base64.b64encode(png).decode()
    size = Markup(' style="width:{}px"').format(width) if width else ""
    foot = Markup("<figcaption>{}</figcaption>").format(caption) if caption else ""
    return Markup('<figure><img src="data:image/png;base64,{}" alt="{}"{}>{}</figure>').format(data, alt, size, foot)


def pictures(items: Sequence[Markup]) -> Markup:
    """Pictures beside each other, as many in a row as fit."""
    return Markup('<div class="pictures">{}</div>').format(Markup("").join(items)) if items else Markup("")


def bar(metric: Mapping[str, Any] | None, low: float = 0.0, high: float = 1.0) -> Markup:
    """A value with its interval on an axis from ``low`` to ``high``, drawn with boxes so that it fits any width."""
    if not metric or metric.get("value") is None or high <= low:
        return Markup('<div class="bar"></div>')
    value = metric["value"]
    left, right = metric.get("low"), metric.get("high")
    left, right = (value if left is None else left), (value if right is None else right)
    at, start, end = (100 * min(max((x - low) / (high - low), 0.0), 1.0) for x in (value, left, right))
    return Markup(
        '<div class="bar" role="img" aria-label="{}"><i style="left:{:.1f}%;width:{:.1f}%"></i>'
        '<b style="left:{:.1f}%"></b></div>'
    ).format(interval(metric), start, end - start, at)


def axis(low: float = 0.0, high: float = 1.0) -> Markup:
    """The ends and the middle of the axis that :func:`bar` draws on, as a table header."""
    ends = (number(low, 2), number((low + high) / 2, 2), number(high, 2))
    return Markup('<div class="axis">{}</div>').format(
        Markup("").join(Markup("<span>{}</span>").format(e) for e in ends)
    )


def intervals(
    rows: Mapping[str, Mapping[str, Any]], own: Sequence[str] = (), label: str = "", caption: str = ""
) -> Markup:
    """A chart that is a table: name, value with interval, and both drawn on one axis. ``own`` rows are set off.

    The axis runs from 0 to 1 where all values do, and over their range otherwise.
    """
    known = [m for m in rows.values() if m and m.get("value") is not None]
    if not known:
        return Markup("")
    ends = [x for m in known for x in (m["value"], m.get("low"), m.get("high")) if x is not None]
    low, high = (0.0, 1.0) if min(ends) >= 0 and max(ends) <= 1 else (min(0.0, min(ends)), max(ends))
    body = [[name, _stacked(m), bar(m, low, high)] for name, m in rows.items()]
    marked = [i for i, name in enumerate(rows) if name in own]
    return table(["", label, axis(low, high)], body, caption=caption, own=marked)


def matrix(counts: Sequence[Sequence[int]], names: Sequence[str], caption: str = "") -> Markup:
    """A confusion matrix [T, T] as a table; the shade is the share of the row, right answers and errors apart."""
    head = Markup("").join(Markup("<th>{}</th>").format(name) for name in names)
    body = Markup("")
    for index, row in enumerate(counts):
        total = max(sum(row), 1)
        cells = Markup("").join(
            Markup('<td class="{}" style="--share:{:.0f}%">{}</td>').format(
                "hit" if column == index else "miss", 100 * count / total, count or ""
            )
            for column, count in enumerate(row)
        )
        body += Markup("<tr><th>{}</th>{}</tr>\n").format(names[index], cells)
    foot = Markup("<caption>{}</caption>").format(caption) if caption else ""
    return Markup(
        '<div class="scroll"><table class="matrix">{}<thead><tr><th></th>{}</tr></thead><tbody>\n{}</tbody></table></div>'
    ).format(foot, head, body)


def _stacked(metric: Mapping[str, Any]) -> Markup:
    """The value, and its interval small beside or below it, so that the column is narrow on a phone."""
    value, _, ends = interval(metric).partition(" ")
    return Markup('{} <span class="ends">{}</span>').format(value, ends)


def shares(items: Sequence[tuple[str, float]], largest: float) -> Markup:
    """Names with their weights, each with a bar of its length; one line an item, for a table cell."""
    return Markup("").join(
        Markup(
            '<div class="share"><span>{}</span><span><i style="width:{:.0f}%"></i></span><span>{}</span></div>'
        ).format(name, 100 * max(value, 0.0) / max(largest, 1e-12), number(value, 2))
        for name, value in items
    )
