"""Attacks on strings, one file each."""
