"""Checkpoints, and opening a model from a run."""
