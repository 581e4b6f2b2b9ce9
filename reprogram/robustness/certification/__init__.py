"""Proven bounds: of the model itself (``linear_bounds``), of the classifier that votes over noise (``randomized_smoothing``)."""
