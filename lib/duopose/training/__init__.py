"""Training: the loop, the optimizer, checkpoints and logs of a run."""
