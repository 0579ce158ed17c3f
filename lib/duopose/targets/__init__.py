"""Targets of a batch: heatmaps, tag cells and offsets, rendered on the device from keypoints."""

from duopose.targets.build import build_targets

__all__ = ["build_targets"]
