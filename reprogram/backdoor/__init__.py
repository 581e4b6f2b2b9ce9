"""Backdoors: triggers, their detection in a source, and their removal."""
