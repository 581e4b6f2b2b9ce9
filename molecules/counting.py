"""Numbers with their nouns in the sentences of a report."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """``1 molecule``, ``2 molecules``; ``noun`` in the singular."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
