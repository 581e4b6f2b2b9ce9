"""What a candidate is worth before it is evaluated: one file a method, found by its name."""
