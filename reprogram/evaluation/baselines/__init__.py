"""What else one could have done with the same labels, one file a baseline; the file's name is its row's name."""
