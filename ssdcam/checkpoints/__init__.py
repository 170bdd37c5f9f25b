"""Checkpoints: names and files in, a spec and its weights out. Weights are numpy arrays, whatever runs them later."""
