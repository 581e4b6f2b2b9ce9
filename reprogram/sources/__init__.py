"""Frozen pretrained models: how to load them, what they read, what they answer."""
