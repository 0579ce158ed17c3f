"""The stages of `tools/benchmark.py`: each measures the speed of one part of Duopose."""
