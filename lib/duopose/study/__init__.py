"""Studies: variants of a recipe with several seeds, run as jobs by any number of processes."""
