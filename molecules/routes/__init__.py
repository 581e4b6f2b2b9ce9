"""Synthesis routes: reactions, the stock of building blocks, routes that replay, and the search for a route."""
