"""What makes one candidate fail and never ends the search."""

from __future__ import annotations

from reprogram.errors import Interrupted, ReprogramError

FAILURES = (ReprogramError, RuntimeError, ValueError, ArithmeticError)  # of a source, a method, or linear algebra


def failed(error: Exception) -> dict[str, str]:
    """The row of a candidate that could not be used. A user who stops the run is no such reason."""
    if isinstance(error, Interrupted):
        raise error
    return {"status": "failed", "why": " ".join(str(error).split())[:300] or type(error).__name__}
