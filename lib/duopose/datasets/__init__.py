"""From files to batches."""

from duopose.datasets.build import build_dataset

__all__ = ["build_dataset"]
