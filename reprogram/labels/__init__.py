"""Which inputs to label next, which labels look wrong, and what more labels will bring."""
