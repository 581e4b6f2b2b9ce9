"""What a surrogate search learns from: features of molecules, the values to fit, and the Gaussian process."""
