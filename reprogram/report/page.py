"""A report page: a title, a leading sentence, and sections in order. One file, no network, no scripts.

    page = Page("mnist on efficientnet_lite0", kind="Reprogramming run", lead="…")
    page.section("Errors", table(["label", "prediction"], rows), picture(png, "some of them"))
    page.write(run.dir)

Everything given as plain text is escaped; only :class:`markupsafe.Markup`, which the blocks of
:mod:`reprogram.report.blocks` return, is put in as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reprogram import __version__
from reprogram.result import write_atomically


@dataclass
class Section:
    """One section of a page: its heading and its content as HTML."""

    title: str
    html: Markup

    @property
    def anchor(self) -> str:
        """The heading as the target of a link."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass
class Page:
    """What ``report.html`` shows. ``kind`` stands above the title, ``lead`` (the verdict) below it."""

    title: str
    kind: str = ""
    lead: str = ""
    footer: str = f"Made by reprogram {__version__}. All figures are also in result.json."
    sections: list[Section] = field(default_factory=list)

    def section(self, title: str, *blocks: Markup | str) -> None:
        """Add a section of blocks, one below the other; text becomes a paragraph. Empty blocks make no section."""
        parts = [b if isinstance(b, Markup) else Markup("<p>{}</p>").format(b) for b in blocks if b]
        if parts:
            self.sections.append(Section(title, Markup("\n").join(parts)))

    def render(self) -> str:
        """The page as one HTML document that needs no network."""
        environment = Environment(
            loader=PackageLoader("reprogram.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        return environment.get_template("page.html").render(page=self)

    def write(self, folder: Path) -> Path:
        """``folder/report.html``, atomically."""
        path = folder / "report.html"
        write_atomically(path, self.render())
        return path
