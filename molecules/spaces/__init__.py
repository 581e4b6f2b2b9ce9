"""Frozen encoder–decoders that turn one molecule into others."""
