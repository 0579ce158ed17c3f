"""Offset targets: in a window around each joint, the displacement to its parent, centre or child.

Edge e of the `OffsetLayout` has a source joint and a target. Around the source joint of each
person lies a window of (2 radius + 1)^2 cells. Every cell of it is supervised with

    offset = target position - cell position           (input pixels)

Where the windows of several people overlap, the cell holds the mean over these people. This is
how the method describes it. (The public code overwrites the value and divides all the same.)
An edge is only supervised where its target is labelled; the public code points to (0, 0) then.

Only window cells are stored, not dense maps. A cell of n overlapping windows is stored n times
with weight 1/n, so the weights of an image sum up to its number of supervised cells. Every window
has the same number of cells: those outside the map are moved to its border, into the same window,
and have weight 0. So the number of cells follows from the number of windows, which is known on the
CPU, and the device need not be asked for it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from duopose.device_tensors import constant, send
from duopose.geometry import MapFrame
from duopose.skeletons import OffsetLayout
from duopose.targets.points import MapPoints
from duopose.types import OffsetTargets


class Windows(NamedTuple):
    """W windows, one for each labelled pair of source and target."""

    image: torch.Tensor  # (W,) int64
    edge: torch.Tensor  # (W,) int64
    centre: torch.Tensor  # (W, 2) int64 x, y: the cell of the source joint, inside the map
    target: torch.Tensor  # (W, 2) float32 x, y of the target in input pixels
    batch_size: int
    num_edges: int


def find_windows(
    keypoints: torch.Tensor, points: MapPoints, layout: OffsetLayout, device: torch.device
) -> Windows:
    """The windows of every edge whose source is on the map and whose target is labelled.

    keypoints: (B, P, K+1, 3) input frame, with centres. points: the same keypoints on the map.
    Both are on the CPU; the windows are on `device`.
    """
    source = torch.from_numpy(layout.source)
    target = torch.from_numpy(layout.target)

    # As in the public code, a keypoint outside the map is no target, but a centre outside is.
    is_target = torch.cat([points.valid[:, :, :-1], keypoints[:, :, -1:, 2] > 0], dim=2)
    is_supervised = points.valid[:, :, source] & is_target[:, :, target]  # (B, P, E)
    image, person, edge = is_supervised.nonzero(as_tuple=True)

    centre = points.cell[image, person, source[edge]]
    target_position = keypoints[image, person, target[edge], :2]
    return Windows(
        image=send(image, device),
        edge=send(edge, device),
        centre=send(centre, device),
        target=send(target_position, device),
        batch_size=len(keypoints),
        num_edges=layout.num_edges,
    )


def offset_targets(
    windows: Windows, frame: MapFrame, height: int, width: int, radius: int
) -> OffsetTargets:
    """The (2 radius + 1)^2 cells of each window, on a map of height x width cells of `frame`."""
    cell, offset, is_inside = _window_cells(windows, frame, height, width, radius)
    image = windows.image[:, None, None].expand_as(cell).flatten()
    edge = windows.edge[:, None, None].expand_as(cell).flatten()
    cell = cell.flatten()

    map_index = (image * windows.num_edges + edge) * (height * width) + cell
    map_size = windows.batch_size * windows.num_edges * height * width
    counts = is_inside.flatten().to(offset.dtype)
    offset, weight = _mean_over_people(map_index, offset.view(-1, 2), counts, map_size)
    return OffsetTargets(image, edge, cell, offset, weight)


def _window_cells(
    windows: Windows, frame: MapFrame, height: int, width: int, radius: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each window: flat cells (W, D, D), offsets (W, D, D, 2) y, x, is inside (W, D, D).

    D = 2 radius + 1.
    """
    device = windows.centre.device
    steps = torch.arange(-radius, radius + 1, device=device)
    last = constant((width - 1, height - 1), torch.int64, device)
    cells = windows.centre.unsqueeze(2) + steps  # (W, 2, D) x, y
    map_cells = cells.clamp(min=0).minimum(last.unsqueeze(1))

    columns, rows = map_cells.unbind(dim=1)
    cell = rows.unsqueeze(2) * width + columns.unsqueeze(1)
    is_inside_x, is_inside_y = (cells == map_cells).unbind(dim=1)
    is_inside = is_inside_y.unsqueeze(2) & is_inside_x.unsqueeze(1)

    offsets = windows.target.unsqueeze(2) - frame.to_input(map_cells.to(torch.float32))
    offset_x, offset_y = offsets.unbind(dim=1)
    both = torch.broadcast_tensors(offset_y.unsqueeze(2), offset_x.unsqueeze(1))
    return cell, torch.stack(both, dim=-1), is_inside


def _mean_over_people(
    map_index: torch.Tensor, offset: torch.Tensor, counts: torch.Tensor, map_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean offset (N, 2) and weight (N,) of window cells that may share a cell of the map.

    map_index: (N,) cell of the dense maps, of `map_size` cells in all. counts: (N,) 1, and 0 for
    cells that do not count; their own window has the cell, too, so it is counted at least once.
    """
    count = offset.new_zeros(map_size).index_add_(0, map_index, counts)[map_index]
    counted_offset = offset * counts.unsqueeze(1)
    total = offset.new_zeros(map_size, 2).index_add_(0, map_index, counted_offset)[map_index]
    return total / count.unsqueeze(1), counts / count
