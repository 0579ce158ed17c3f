"""Positions of keypoints and person centres on a map, and the cells where tags are read."""

from __future__ import annotations

from typing import NamedTuple

import torch

from duopose.geometry import MapFrame
from duopose.types import TagTargets


class MapPoints(NamedTuple):
    """Keypoints of B images and P people on a map of height H and width W.

    J keypoints: K, or K+1 with the centre.
    """

    position: torch.Tensor  # (B, P, J, 2) float x, y in cells: the mean of the Gaussian
    cell: torch.Tensor  # (B, P, J, 2) int64 x, y: the cell that contains the point
    valid: torch.Tensor  # (B, P, J) bool: labelled, and `cell` is inside the map


def append_centres(keypoints: torch.Tensor) -> torch.Tensor:
    """Append the centre of each person: (B, P, K, 3) -> (B, P, K+1, 3).

    The centre is the mean of the labelled keypoints (visibility > 0). The datasets set keypoints
    outside the input to visibility 0, so the centre lies inside the input. A person without a
    labelled keypoint gets visibility 0 and position 0.
    """
    is_labelled = keypoints[..., 2:] > 0
    count = is_labelled.sum(dim=2).to(keypoints.dtype)

    # Unlabelled keypoints may hold anything, even NaN: torch.where, not a product.
    labelled_positions = torch.where(is_labelled, keypoints[..., :2], 0)
    position = labelled_positions.sum(dim=2) / count.clamp(min=1)
    visibility = (count > 0).to(keypoints.dtype)

    centre = torch.cat([position, visibility], dim=-1)
    return torch.cat([keypoints, centre.unsqueeze(2)], dim=2)


def to_map_points(keypoints: torch.Tensor, frame: MapFrame, height: int, width: int) -> MapPoints:
    """Keypoints (B, P, J, 3) of the input frame on a map of height x width cells.

    Default frame: the Gaussian is centred on the exact position, and the cell is the one whose
    square contains it. With `frame.legacy_alignment` both are int(position), as in HigherHRNet
    (`DATASET.HEATMAP_CENTRES rounded`).
    """
    is_labelled = keypoints[..., 2] > 0
    exact = frame.to_cells(torch.where(is_labelled.unsqueeze(-1), keypoints[..., :2], 0))

    if frame.legacy_alignment:
        # int() of a position up to one cell left of the map is 0, so it counts as inside. The
        # datasets remove such keypoints before.
        containing_cell = torch.trunc(exact)
        position = containing_cell
    else:
        containing_cell = torch.floor(exact + 0.5)
        position = exact

    size = torch.tensor([width, height], device=keypoints.device)
    is_inside = ((containing_cell >= 0) & (containing_cell < size)).all(dim=-1)
    return MapPoints(position, containing_cell.to(torch.int64), is_labelled & is_inside)


def tag_targets(points: MapPoints, width: int) -> TagTargets:
    """One cell per person and keypoint, the centre included: the cell that contains the point.

    Tags of all joints are supervised, as in the public code, although grouping by tags needs the
    torso only: the decoder reads the tags of limb joints too (assignment, missing joints).
    """
    cells = points.cell[..., 1] * width + points.cell[..., 0]
    return TagTargets(cells.masked_fill(~points.valid, 0), points.valid)
