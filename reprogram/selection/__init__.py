"""The best program for these labels, chosen inside the labels: cheap candidates first, test labels never."""
