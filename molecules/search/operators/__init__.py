"""Edits of molecular graphs, the library of pieces, and the choice among edits."""
