"""Answers to inputs without labels: in order, each row in its place, with what is known of how sure they are."""
