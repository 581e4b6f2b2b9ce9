"""Output mappings: from what the frozen source answers to target labels, one file a method."""
