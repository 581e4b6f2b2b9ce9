"""Robustness checks, one file each: what each needs, what it costs, and how it is run."""
