"""Repair a model that may hide a Trojan, with a small clean set: mode connectivity, and what it has to beat."""
