"""Triggers of Trojaned models: a function on images, and what poisoning a training set with it means."""
