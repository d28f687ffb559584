"""Checkpoints, text and progress: what crosses the border of the process."""
