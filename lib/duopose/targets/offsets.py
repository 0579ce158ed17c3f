"""Offset targets: what every pixel near a joint should say about the way to its parent, its centre or its child.

Entry e of the `OffsetLayout` holds, in the window of (2 radius + 1)^2 cells round its source joint, target - pixel. Where
windows of several people's same joint overlap, it is the mean over those people: the best answer under a squared error,
and the way the method describes it (the public code overwrites, and divides all the same). A window is only taught
where the target is labelled; the public code points at (0, 0) else. Only window cells are stored: no dense map is needed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from duopose.geometry import MapFrame
from duopose.skeletons import OffsetLayout
from duopose.targets.points import MapPoints
from duopose.types import OffsetTargets


class _Sources(NamedTuple):
    """What the edges of the layout start from and point to; E edges."""

    taught: torch.Tensor  # (B, P, E) bool: the source is on the map and the target is labelled
    cell: torch.Tensor  # (B, P, E, 2) int64 x, y of the source
    target: torch.Tensor  # (B, P, E, 2) float x, y in input pixels


class _Windows(NamedTuple):
    """W windows, one for each labelled pair of source and target; D = 2 radius + 1."""

    image: torch.Tensor  # (W,) int64
    edge: torch.Tensor  # (W,) int64
    person: torch.Tensor  # (W,) int64
    columns: torch.Tensor  # (W, D) int64 cells, perhaps outside the map
    rows: torch.Tensor  # (W, D) int64
    target: torch.Tensor  # (W, 2) float x, y of the target in input pixels


def offset_targets(
    keypoints: torch.Tensor,
    points: MapPoints,
    layout: OffsetLayout,
    frame: MapFrame,
    height: int,
    width: int,
    radius: int,
) -> OffsetTargets:
    """The window cells of all images, people and edges, each (image, edge, cell) once.

    keypoints: (B, P, K+1, 3) input frame, with centres; points: the same on the map of `frame`, height and width.
    """
    source, target = (
        torch.from_numpy(index).to(keypoints.device) for index in (layout.source, layout.target)
    )
    # as in the public code a keypoint outside the map is no target, a centre outside is; the datasets let neither happen
    is_target = torch.cat([points.valid[:, :, :-1], keypoints[:, :, -1:, 2] > 0], dim=2)
    taught = points.valid[:, :, source] & is_target[:, :, target]
    sources = _Sources(taught, points.cell[:, :, source], keypoints[:, :, target, :2])
    windows = _windows(sources, radius)
    value_y = windows.target[:, 1:] - _input_pixels(windows.rows, frame)
    value_x = windows.target[:, :1] - _input_pixels(windows.columns, frame)
    value = torch.stack(torch.broadcast_tensors(value_y.unsqueeze(2), value_x.unsqueeze(1)))
    kept = _inside(windows.rows, height).unsqueeze(2) & _inside(windows.columns, width).unsqueeze(1)
    _share_overlaps(windows, sources, radius, value, kept)

    chosen = kept.view(-1).nonzero().squeeze(1)
    cell = (windows.rows * width).unsqueeze(2) + windows.columns.unsqueeze(1)
    times = kept.sum(dim=(1, 2))
    return OffsetTargets(
        image=windows.image.repeat_interleave(times, output_size=len(chosen)),
        edge=windows.edge.repeat_interleave(times, output_size=len(chosen)),
        cell=cell.view(-1).index_select(0, chosen),
        value=value.view(2, -1)
        .index_select(1, chosen)
        .T,  # all y before all x in memory: faster to read and to write
    )


def _windows(sources: _Sources, radius: int) -> _Windows:
    image, edge, person = sources.taught.transpose(1, 2).nonzero(as_tuple=True)
    middle = sources.cell[image, person, edge]
    steps = torch.arange(-radius, radius + 1, device=middle.device)
    return _Windows(
        image,
        edge,
        person,
        middle[:, :1] + steps,
        middle[:, 1:] + steps,
        sources.target[image, person, edge],
    )


def _input_pixels(cells: torch.Tensor, frame: MapFrame) -> torch.Tensor:
    return frame.to_input(cells.to(torch.float32))


def _inside(cells: torch.Tensor, size: int) -> torch.Tensor:
    return (cells >= 0) & (cells < size)


def _share_overlaps(
    windows: _Windows, sources: _Sources, radius: int, value: torch.Tensor, kept: torch.Tensor
) -> None:
    """Where windows overlap: make `value` (2, W, D, D) the mean over people, and keep a cell in its first person's window alone.

    Whether the window of person q covers a cell is a product of its row's and its column's yes or no; so counting people and
    summing their targets over a window are products of small matrices, (D, n) times (n, D) for n neighbours.
    """
    neighbours = _neighbours(windows, sources, 2 * radius)
    count = neighbours.sum(dim=1)
    crowded = (count > 1).nonzero().squeeze(1)
    if len(crowded) == 0:
        return
    own = _Windows(*(field[crowded] for field in windows))
    present, person = neighbours[crowded].to(torch.uint8).topk(int(count.max()), dim=1)  # (C, n)
    where = own.image.unsqueeze(1), person, own.edge.unsqueeze(1)
    cell = sources.cell[where]
    in_columns = (own.columns.unsqueeze(1) - cell[..., :1]).abs() <= radius  # (C, n, D)
    in_rows = ((own.rows.unsqueeze(1) - cell[..., 1:]).abs() <= radius) & (present > 0).unsqueeze(2)
    earlier = person < own.person.unsqueeze(1)
    # only what others say differently is summed: there is less to round than in the sum of the targets
    difference = sources.target[where] - own.target.unsqueeze(1)
    weight = torch.stack(
        [torch.ones_like(earlier), earlier, difference[..., 1], difference[..., 0]], dim=1
    )  # (C, 4, n)
    weight = weight.to(_exact_type(value.device))
    rows = in_rows.transpose(1, 2).unsqueeze(1) * weight.unsqueeze(2)  # (C, 4, D, n)
    people, before, sum_y, sum_x = torch.matmul(
        rows, in_columns.to(rows.dtype).unsqueeze(1)
    ).unbind(dim=1)
    value[:, crowded] += (torch.stack([sum_y, sum_x]) / people).to(value.dtype)
    kept[crowded] &= before < 0.5


def _neighbours(windows: _Windows, sources: _Sources, reach: int) -> torch.Tensor:
    """(W, P) bool: the people, oneself among them, whose window of the same edge overlaps the window."""
    near = (sources.cell.unsqueeze(2) - sources.cell.unsqueeze(1)).abs().amax(
        dim=-1
    ) <= reach  # (B, P, P, E)
    near &= sources.taught.unsqueeze(2) & sources.taught.unsqueeze(1)
    return near[windows.image, windows.person, :, windows.edge]


def _exact_type(device: torch.device) -> torch.dtype:
    """Products in float64 are never shortened to TF32; Apple's GPUs have no float64 and no TF32 either."""
    return torch.float32 if device.type == "mps" else torch.float64
