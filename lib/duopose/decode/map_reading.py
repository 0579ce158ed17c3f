"""Reading maps at a few points. Only the values read leave the device; no map is copied or resized.

A point p of the merged input frame lies at the cell  factor * p + shift  of a `MapLayer`, per axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from duopose.types import MapLayer


def read_cells(
    maps: torch.Tensor, channel: np.ndarray, row: np.ndarray, column: np.ndarray
) -> np.ndarray:
    """Values of maps (C, h, w), in any memory format and on any device, at integer cells.

    The index arrays are broadcast against each other; the float64 result has their common shape.
    """
    maps = maps.detach()
    if maps.device.type == "cpu" and maps.dtype == torch.float32:
        return maps.numpy()[channel, row, column].astype(np.float64)

    index = [torch.as_tensor(one, device=maps.device) for one in (channel, row, column)]
    values = maps[index[0], index[1], index[2]]
    return values.cpu().double().numpy()  # in this order: MPS devices have no float64


def points_to_cells(layers: Sequence[MapLayer], points: np.ndarray, margin: int = 0) -> np.ndarray:
    """(layers, N, 2) int x, y: the cell of each layer that has the peak of a point (N, 2).

    points: merged input frame. Those outside a map are moved to its border, or to `margin` cells
    inside of it.
    """
    factor, shift, peak_shift = _stacked(layers)
    cells = np.floor(points * factor + (shift - peak_shift + 0.5))
    sizes = np.array([[layer.maps.shape[-1], layer.maps.shape[-2]] for layer in layers])
    last = sizes[:, None] - 1 - margin
    return np.minimum(np.maximum(cells, margin), last).astype(np.int64)


def cells_to_points(layers: Sequence[MapLayer], cells: np.ndarray) -> np.ndarray:
    """(layers, N, 2) points of the merged input frame at cells (layers, N, 2) x, y, real-valued."""
    factor, shift, _ = _stacked(layers)
    return (cells - shift) / factor


def _stacked(layers: Sequence[MapLayer]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Factors (layers, 1, 2), shifts (layers, 1, 2) and peak shifts (layers, 1, 1)."""
    factor = np.array([layer.factor for layer in layers])
    shift = np.array([layer.shift for layer in layers])
    peak_shift = np.array([layer.peak_shift for layer in layers])
    return factor[:, None], shift[:, None], peak_shift[:, None, None]


def read_tags_around(
    layers: Sequence[MapLayer], joint: np.ndarray, points: np.ndarray, radius: int
) -> np.ndarray:
    """(N, cells, T) tags in the square of (2 radius + 1)^2 cells around each of N points (N, 2).

    joint: (N,) whose tag map is read. The middle cell is the one at which training supervises the
    tag. Cells of mirrored layers are in the order of the others.
    """
    steps = np.arange(-radius, radius + 1)
    num_cells = len(steps) ** 2
    tags = np.empty((len(points), num_cells, len(layers)))

    for index, (layer, cells) in enumerate(
        zip(layers, points_to_cells(layers, points), strict=True)
    ):
        height, width = layer.maps.shape[-2:]
        direction = 1 if layer.factor[0] > 0 else -1
        rows = np.clip(cells[:, 1, None] + steps, 0, height - 1)
        columns = np.clip(cells[:, 0, None] + direction * steps, 0, width - 1)
        channel = layer.channel[joint]
        found = read_cells(
            layer.maps, channel[:, None, None], rows[:, :, None], columns[:, None, :]
        )
        tags[..., index] = found.reshape(len(points), num_cells)
    return tags


def read_offsets(
    layers: Sequence[MapLayer],
    edge: np.ndarray,
    peak: np.ndarray,
    points: np.ndarray,
    weight: np.ndarray,
) -> np.ndarray:
    """(N, 2) x, y: predicted target positions of N pairs of an edge and a peak.

    edge: (N,) index in the `OffsetLayout`. peak: (N,) index in `points` (M, 2), where its offsets
    are read. weight: (M, layers), rows add up to 1. All points are in the merged input frame.

    A layer holds target - pixel, so a prediction is the cell's own position plus its offset. It is
    mapped to the merged frame as a point, which divides by the scale and mirrors; the layers'
    predictions are averaged with `weight`.
    """
    if not layers:
        return np.zeros((len(edge), 2))

    cells = points_to_cells(layers, points)[:, peak]
    targets = cells.astype(np.float64)
    for index, layer in enumerate(layers):
        channel = 2 * layer.channel[edge, None] + [1, 0]  # x, then y
        column = cells[index, :, :1]
        row = cells[index, :, 1:]
        targets[index] += layer.unit * read_cells(layer.maps, channel, row, column)

    layer_weight = weight[peak].T
    return (layer_weight[..., None] * cells_to_points(layers, targets)).sum(axis=0)


def count_window_overlaps(
    layers: Sequence[MapLayer], joint: np.ndarray, points: np.ndarray, radius: float
) -> np.ndarray:
    """(N, layers) int: how many other peaks' offset windows each of N peaks lies in.

    joint: (N,) sorted; only windows of the same joint type count. A window is 2 radius + 1 cells
    wide. One cell more is allowed for, because joints and windows are rounded to cells.
    """
    # peaks as a padded table (2, joint types, peaks of a type), so that types are compared at once
    rank = np.arange(len(joint)) - np.searchsorted(joint, joint)
    shape = (2, int(joint.max(initial=0)) + 1, int(rank.max(initial=0)) + 1)
    table = np.full(shape, np.inf)
    table[:, joint, rank] = points.T
    with np.errstate(invalid="ignore"):  # padding minus padding
        x_distance, y_distance = np.abs(table[..., :, None] - table[..., None, :])
    distance = np.maximum(x_distance, y_distance)[joint, rank]

    limits = [(radius + 1) / abs(layer.factor[0]) for layer in layers]
    counts = {limit: np.count_nonzero(distance <= limit, axis=1) - 1 for limit in set(limits)}
    overlaps = np.zeros((len(joint), len(layers)), dtype=int)
    for index, limit in enumerate(limits):
        overlaps[:, index] = counts[limit]
    return overlaps
