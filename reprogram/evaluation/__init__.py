"""How good a program is: metrics with intervals, baselines, one sentence of advice."""
