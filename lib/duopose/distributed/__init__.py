"""Several processes: rank information, collectives, the launcher, the stop flag."""
