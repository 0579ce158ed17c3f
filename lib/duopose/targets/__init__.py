"""What the network should say about a batch: heatmaps, tag cells and offsets, made on the device from the keypoints."""

from duopose.targets.build import build_targets

__all__ = ["build_targets"]
