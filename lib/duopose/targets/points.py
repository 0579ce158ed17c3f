"""Where people's keypoints and centres lie on a map."""

from __future__ import annotations

from typing import NamedTuple

import torch

from duopose.geometry import MapFrame


class MapPoints(NamedTuple):
    """Keypoints (J of them: K, or K+1 with the centre) of B images and P people on a map of height H and width W."""

    position: torch.Tensor  # (B, P, J, 2) float, x, y in cells: where the Gaussian's middle is
    cell: torch.Tensor  # (B, P, J, 2) int64, x, y: the cell that contains the point
    valid: torch.Tensor  # (B, P, J) bool: labelled, and `cell` is inside the map


def with_centres(keypoints: torch.Tensor) -> torch.Tensor:
    """Append each person's centre, the mean of the labelled keypoints: (B, P, K, 3) -> (B, P, K+1, 3).

    Labelled means visibility > 0, which the datasets take away from keypoints outside the input: so the centre is that of
    what the network can see, and lies inside the input. Nobody there (nothing labelled): visibility 0, position 0.
    """
    labelled = (keypoints[..., 2:] > 0).to(keypoints.dtype)
    count = labelled.sum(dim=2)
    # not-labelled keypoints may hold anything, even NaN, hence where and not a product
    place = torch.where(labelled > 0, keypoints[..., :2], 0).sum(dim=2) / count.clamp(min=1)
    centre = torch.cat([place, (count > 0).to(keypoints.dtype)], dim=-1)
    return torch.cat([keypoints, centre.unsqueeze(2)], dim=2)


def on_map(keypoints: torch.Tensor, frame: MapFrame, height: int, width: int) -> MapPoints:
    """Where keypoints (B, P, J, 3) of the input frame lie on a map of that frame.

    Default frame: the Gaussian's middle is the true position, and the cell is the one whose square contains it.
    The family's frame: both are int(position) (`DATASET.HEATMAP_CENTRES rounded`); so up to a cell left of or above the map
    still counts as inside, which the datasets' own test forestalls.
    """
    labelled = keypoints[..., 2] > 0
    exact = frame.to_cells(torch.where(labelled.unsqueeze(-1), keypoints[..., :2], 0))
    floored = torch.trunc(exact) if frame.legacy_alignment else torch.floor(exact + 0.5)
    size = torch.tensor([width, height], device=keypoints.device)
    inside = ((floored >= 0) & (floored < size)).all(dim=-1)
    return MapPoints(
        floored if frame.legacy_alignment else exact, floored.to(torch.int64), labelled & inside
    )
