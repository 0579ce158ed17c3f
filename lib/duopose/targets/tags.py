"""Where to read each person's tags."""

from __future__ import annotations

from duopose.targets.points import MapPoints
from duopose.types import TagTargets


def tag_targets(points: MapPoints, width: int) -> TagTargets:
    """One cell per person and keypoint, the centre too: the cell that contains the point.

    Tags of all joints are taught, not of the torso alone: as in the public code, and because the decoder may ask any joint
    for its tag (filling, assignment) while the cost is nothing.
    """
    cells = points.cell[..., 1] * width + points.cell[..., 0]
    return TagTargets(cells.masked_fill(~points.valid, 0), points.valid)
