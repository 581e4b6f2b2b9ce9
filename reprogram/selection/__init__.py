"""The best program for these labels, chosen by cross-validation on them: cheap candidates first, test labels never."""
