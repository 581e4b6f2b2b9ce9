"""Labelled data of a new job: where it comes from, how few labels are drawn, how the test set is held out."""
