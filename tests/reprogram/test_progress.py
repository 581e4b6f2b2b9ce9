"""Progress bars: one line at a time."""

from reprogram import progress as module
from reprogram.progress import progress


def test_a_bar_inside_a_bar_is_silent(monkeypatch, capsys):
    monkeypatch.setattr(module, "PLAIN_SECONDS", 0.0)
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    with progress("outer", 2) as outer:
        outer.advance(note="half")
        with progress("inner", 5) as inner:
            inner.advance()
        outer.advance()
    with progress("alone", 1) as alone:
        alone.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["outer: 1/2 half", "outer: 2/2 half", "alone: 1/1"]
