"""Recipes of design runs, one file a task."""
