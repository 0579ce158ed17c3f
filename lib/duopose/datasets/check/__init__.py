"""Everything that can be wrong with a data set, found before training: one sentence per kind of problem, with the first ids."""
