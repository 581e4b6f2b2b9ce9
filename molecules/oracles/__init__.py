"""Oracles: what a molecule is worth. One file a method."""
