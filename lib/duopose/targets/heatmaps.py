"""Gaussian heatmaps, rendered only in a window around each keypoint.

    heatmap(cell) = max over people of exp(-|cell - position|^2 / (2 sigma^2))

A window of 6 sigma + 3 cells is computed (the size in HigherHRNet) as the outer product of two
rows of exponentials. It is scattered into a map of zeros with the maximum as reduction.
"""

from __future__ import annotations

import torch

from duopose.device_tensors import constant, send
from duopose.targets.points import MapPoints

CPU = torch.device("cpu")


def render_heatmaps(
    points: MapPoints, height: int, width: int, sigma: float, device: torch.device = CPU
) -> torch.Tensor:
    """(B, J, height, width) float32 in [0, 1] on `device`, from points on the CPU; sigma in cells.

    Outside the windows the value is 0. The Gaussian is below 0.011 there, at sigma 2 below 0.001.
    """
    batch_size, _, num_joints = points.valid.shape
    image, person, joint = points.valid.nonzero(as_tuple=True)
    channel = send(image * num_joints + joint, device)
    cell = send(points.cell[image, person, joint], device)
    position = send(points.position[image, person, joint], device)

    radius = int(3 * sigma + 1)
    last = constant((width - 1, height - 1), torch.int64, device)
    cells, values = _gaussian_rows(cell, position, radius, last, sigma)
    columns, rows = cells.unbind(dim=1)
    value_x, value_y = values.unbind(dim=1)
    value = value_y.unsqueeze(2) * value_x.unsqueeze(1)

    map_row = (channel * height).unsqueeze(1) + rows
    index = (map_row * width).unsqueeze(2) + columns.unsqueeze(1)

    maps = torch.zeros(batch_size, num_joints, height, width, device=device)
    maps.view(-1).scatter_reduce_(0, index.flatten(), value.flatten(), "amax")
    return maps


def _gaussian_rows(
    cell: torch.Tensor, position: torch.Tensor, radius: int, last: torch.Tensor, sigma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cells and values of the windows along x and y, (N, 2, 2 radius + 1) each.

    last: (2,) x, y of the last cell. Cells outside the map are moved to its border, where their
    value 0 changes nothing. Both axes together, because each operation is a launch on a GPU.
    """
    steps = torch.arange(-radius, radius + 1, device=cell.device)
    cells = cell.unsqueeze(2) + steps
    distance = cells - position.unsqueeze(2)
    value = torch.exp(distance.square() / (-2 * sigma**2))

    clipped = cells.clamp(min=0).minimum(last.unsqueeze(1))
    return clipped, value.masked_fill(cells != clipped, 0)
