"""What a run does, one file a task, read from top to bottom."""
