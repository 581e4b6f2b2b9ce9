"""Input transformations: from a target input to what a source reads. One file a method."""
