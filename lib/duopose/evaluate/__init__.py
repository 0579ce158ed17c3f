"""From people found to the benchmark's numbers."""

from duopose.evaluate.build import build_evaluator

__all__ = ["build_evaluator"]
