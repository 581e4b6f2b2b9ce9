"""The report page: nothing leaks in unescaped, nothing is fetched, every block says what it shows."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from reprogram.report import blocks, charts
from reprogram.report.page import Page

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Balance(HTMLParser):
    """Checks that tags close in order and collects what would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.fetched += [v for k, v in attrs if k in ("src", "href") and v and not v.startswith(("data:", "#"))]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def parsed(html: str) -> Balance:
    parser = Balance()
    parser.feed(html)
    assert parser.open == []
    return parser


def example_page() -> Page:
    page = Page("A <b>target</b>", kind="Reprogramming run", lead="Use it & see.")
    page.section("Result", blocks.intervals({"program": {"value": 0.9, "low": 0.8, "high": 0.95}}, own=["program"]))
    page.section("Curve", charts.curves({"loss": [2.0, 1.0], "accuracy": [0.1, 0.9]}, "epoch", "", "learning curve"))
    page.section("Picture", blocks.picture(b"\x89PNG", 'a "quoted" picture', "what it is"))
    page.section("Costs", blocks.facts({"seconds": 1.5, "nothing": None}), "plain <text>")
    return page


def test_page_is_one_wellformed_file_that_fetches_nothing():
    html = example_page().render()
    parser = parsed(html)
    assert parser.fetched == []
    assert not re.search(r"<script|@import|url\((?!#)", html)


def test_text_is_escaped_everywhere():
    html = example_page().render()
    assert "A &lt;b&gt;target&lt;/b&gt;" in html and "plain &lt;text&gt;" in html
    assert "&#34;quoted&#34;" in html


def test_page_writes_report_html(tmp_path):
    path = example_page().write(tmp_path / "new")
    assert path.name == "report.html" and "Use it &amp; see." in path.read_text()


def test_section_without_content_is_left_out():
    page = Page("t")
    page.section("Empty", Markup(""), blocks.table(["a"], []))
    assert page.sections == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(), st.one_of(st.none(), st.floats(), st.integers()))), st.text())
def test_table_is_wellformed_for_any_cells(rows, caption):
    parsed(str(blocks.table(["name", "value"], rows, caption)))


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ({"value": 0.91234, "low": 0.9, "high": 0.925}, "0.912 [0.900, 0.925]"),
        ({"value": 0.5, "low": None, "high": None}, "0.500"),
        ({"value": None}, "–"),
        ({"value": float("nan"), "low": float("nan"), "high": 1.0}, "– [–, 1.000]"),
    ],
)
def test_interval_text(metric, text):
    assert blocks.interval(metric) == text


def test_bar_stays_on_its_axis():
    html = str(blocks.bar({"value": 1.4, "low": -1.0, "high": 2.0}))
    assert "left:0.0%;width:100.0%" in html and "left:100.0%" in html


def test_intervals_widen_the_axis_beyond_one_only_when_needed():
    inside = str(blocks.intervals({"a": {"value": 0.2, "low": 0.1, "high": 0.3}}))
    beyond = str(blocks.intervals({"a": {"value": 2.0, "low": 1.0, "high": 3.0}}))
    assert ">1.00<" in inside and ">3.00<" in beyond


def test_chart_follows_the_page_colours_and_is_the_same_each_time():
    draw = lambda: str(charts.scatter([1, 2, 3], [1, 2, 4], "agreement"))  # noqa: E731
    assert draw() == draw()
    assert "var(--mark)" in draw() and "#1f5fbf" not in draw()


def test_two_charts_on_a_page_do_not_share_ids():
    ids = [
        set(re.findall(r'id="([^"]+)"', str(charts.curves({"loss": [1, 2, 3]}, "x", "y", alt))))
        for alt in ("first chart", "second chart")
    ]
    assert ids[0] and not ids[0] & ids[1]
