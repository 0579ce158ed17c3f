"""Several processes: rank information and collectives, starting them, stopping them together."""
