"""The perfect-network test: annotations -> ideal maps -> the project's merging and decoder -> the benchmark's metric."""
