"""Measures of how near a molecule is to the labelled ones."""
