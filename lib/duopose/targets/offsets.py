"""Offset targets: in a window around each joint, the displacement to its parent, centre or child.

Edge e of the `OffsetLayout` has a source joint and a target. Around the source joint of each
person lies a window of (2 radius + 1)^2 cells. Every cell of it is supervised with

    offset = target position - cell position           (input pixels)

Where the windows of several people overlap, the cell holds the mean over these people. This is
how the method describes it. (The public code overwrites the value and divides all the same.)
An edge is only supervised where its target is labelled; the public code points to (0, 0) then.

Only window cells are stored, not dense maps. A cell of n overlapping windows is stored n times
with weight 1/n, so the weights of an image sum up to its number of supervised cells.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from duopose.geometry import MapFrame
from duopose.skeletons import OffsetLayout
from duopose.targets.points import MapPoints
from duopose.types import OffsetTargets


class _Windows(NamedTuple):
    """W windows, one for each labelled pair of source and target; D = 2 radius + 1."""

    image: torch.Tensor  # (W,) int64
    edge: torch.Tensor  # (W,) int64
    rows: torch.Tensor  # (W, D) int64 cells; some may lie outside the map
    columns: torch.Tensor  # (W, D) int64
    target: torch.Tensor  # (W, 2) float32 x, y of the target in input pixels


def offset_targets(
    keypoints: torch.Tensor,
    points: MapPoints,
    layout: OffsetLayout,
    frame: MapFrame,
    height: int,
    width: int,
    radius: int,
) -> OffsetTargets:
    """The window cells of all images, people and edges.

    keypoints: (B, P, K+1, 3) input frame, with centres. points: the same keypoints on the map of
    `frame`, which has height x width cells. radius: of the windows, in cells.
    """
    windows = _find_windows(keypoints, points, layout, radius)
    cell, offset, is_inside = _window_cells(windows, frame, height, width)

    kept = is_inside.flatten().nonzero().squeeze(1)
    cells_per_window = is_inside[0].numel() if len(is_inside) else 1
    window = kept // cells_per_window
    image = windows.image[window]
    edge = windows.edge[window]
    cell = cell.flatten()[kept]
    offset = offset.reshape(-1, 2)[kept]

    map_index = (image * layout.num_edges + edge) * (height * width) + cell
    map_size = len(keypoints) * layout.num_edges * height * width
    offset, weight = _mean_over_people(map_index, offset, map_size)
    return OffsetTargets(image, edge, cell, offset, weight)


def _find_windows(
    keypoints: torch.Tensor, points: MapPoints, layout: OffsetLayout, radius: int
) -> _Windows:
    """The windows of every edge whose source is on the map and whose target is labelled."""
    source = torch.from_numpy(layout.source).to(keypoints.device)
    target = torch.from_numpy(layout.target).to(keypoints.device)

    # As in the public code, a keypoint outside the map is no target, but a centre outside is.
    is_target = torch.cat([points.valid[:, :, :-1], keypoints[:, :, -1:, 2] > 0], dim=2)
    is_supervised = points.valid[:, :, source] & is_target[:, :, target]  # (B, P, E)
    image, person, edge = is_supervised.nonzero(as_tuple=True)

    window_centre = points.cell[image, person, source[edge]]
    steps = torch.arange(-radius, radius + 1, device=keypoints.device)
    return _Windows(
        image=image,
        edge=edge,
        rows=window_centre[:, 1:] + steps,
        columns=window_centre[:, :1] + steps,
        target=keypoints[image, person, target[edge], :2],
    )


def _window_cells(
    windows: _Windows, frame: MapFrame, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each window: flat cells (W, D, D), offsets (W, D, D, 2) y, x, is inside (W, D, D)."""
    rows = windows.rows.unsqueeze(2)
    columns = windows.columns.unsqueeze(1)
    cell = rows * width + columns

    row_is_inside = (rows >= 0) & (rows < height)
    column_is_inside = (columns >= 0) & (columns < width)

    target_x = windows.target[:, 0, None, None]
    target_y = windows.target[:, 1, None, None]
    offset_y = target_y - frame.to_input(rows.to(torch.float32))
    offset_x = target_x - frame.to_input(columns.to(torch.float32))
    offset = torch.stack(torch.broadcast_tensors(offset_y, offset_x), dim=-1)
    return cell, offset, row_is_inside & column_is_inside


def _mean_over_people(
    map_index: torch.Tensor, offset: torch.Tensor, map_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean offset (N, 2) and weight (N,) of window cells that may share a cell of the map.

    map_index: (N,) cell of the dense maps, of `map_size` cells in all.
    """
    ones = offset.new_ones(len(offset))
    count = offset.new_zeros(map_size).index_add_(0, map_index, ones)[map_index]
    total = offset.new_zeros(map_size, 2).index_add_(0, map_index, offset)[map_index]
    return total / count.unsqueeze(1), 1 / count
