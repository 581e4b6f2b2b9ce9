"""Linear bounds of a network by back-substitution (CNN-Cert, Boopathy et al. 2019, arXiv 1811.12395).

``trace`` records a model as a graph, ``relax`` bounds its bends by lines, ``bounds`` substitutes the lines back to the
input, ``certify`` turns that into radii. Whatever stands before the source (padding, resizing, a prompt) is recorded
with it, so everything is measured in the target's pixels.
"""
