"""Gaussian heatmaps, rendered where the people are.

A map is mostly zero: only a window of 6 sigma + 3 cells round each keypoint (the family's size) is computed, as an outer
product of two rows of exponentials, and scattered into a zeroed map, the larger value winning where people overlap.
So filling the map once is nearly all the memory traffic there is.
"""

from __future__ import annotations

import torch

from duopose.targets.points import MapPoints


def render_heatmaps(points: MapPoints, height: int, width: int, sigma: float) -> torch.Tensor:
    """exp(-|cell - position|^2 / (2 sigma^2)), maximum over people: (B, J, height, width) float32 in [0, 1]; sigma in cells.

    Beyond the window it is 0 (the Gaussian is below 0.011 there, at sigma 2 below 0.001).
    """
    images, _, joints = points.valid.shape
    maps = torch.zeros(images, joints, height, width, device=points.position.device)
    image, person, joint = points.valid.nonzero(as_tuple=True)
    cell, position = points.cell[image, person, joint], points.position[image, person, joint]
    radius = int(3 * sigma + 1)
    columns, across = _gaussian_row(cell[:, 0], position[:, 0], radius, width, sigma)
    rows, down = _gaussian_row(cell[:, 1], position[:, 1], radius, height, sigma)
    row_starts = ((image * joints + joint) * height).unsqueeze(1) + rows
    index = (row_starts * width).unsqueeze(2) + columns.unsqueeze(1)
    value = down.unsqueeze(2) * across.unsqueeze(1)
    maps.view(-1).scatter_reduce_(0, index.view(-1), value.view(-1), "amax")
    return maps


def _gaussian_row(
    cell: torch.Tensor, position: torch.Tensor, radius: int, size: int, sigma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Along one axis: the window's cells (N, 2 radius + 1), moved inside the map, and their values, 0 for those that were outside."""
    cells = cell.unsqueeze(1) + torch.arange(-radius, radius + 1, device=cell.device)
    value = torch.exp((cells - position.unsqueeze(1)).square() / (-2 * sigma**2))
    clipped = cells.clamp(0, size - 1)
    return clipped, value.masked_fill(cells != clipped, 0)
