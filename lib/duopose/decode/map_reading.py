"""Reading maps at a few points. Only the values read leave the device; no map is copied or resized.

A point p of the merged input frame lies at the cell  factor * p + shift  of a `MapLayer`, per axis.

Each copy from a GPU makes the host wait. So a `Reading` states which cells it needs and what it
calculates from their values, and `read_together` gets the values of several readings in one copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from duopose.device_tensors import send
from duopose.types import MapLayer


class Cells(NamedTuple):
    """Integer cells of maps (C, h, w), in any memory format and on any device.

    The index arrays are broadcast against each other.
    """

    maps: torch.Tensor
    channel: np.ndarray
    row: np.ndarray
    column: np.ndarray


@dataclass(frozen=True)
class Reading:
    """What is read, and what is calculated from the values, one float64 array for each of `cells`.

    The values have the common shape of the index arrays.
    """

    cells: Sequence[Cells]
    calculate: Callable[[Sequence[np.ndarray]], np.ndarray]


def read_together(*readings: Reading) -> list[np.ndarray]:
    """The results of all readings; from a GPU their values come in one copy."""
    values = read_cells([cells for reading in readings for cells in reading.cells])
    results = []
    start = 0
    for reading in readings:
        end = start + len(reading.cells)
        results.append(reading.calculate(values[start:end]))
        start = end
    return results


def read_cells(wanted: Sequence[Cells]) -> list[np.ndarray]:
    """The values of each, float64."""
    if all(_is_for_numpy(cells.maps) for cells in wanted):
        return [_read_by_numpy(cells) for cells in wanted]
    return _read_by_torch(wanted)


def _is_for_numpy(maps: torch.Tensor) -> bool:
    return maps.device.type == "cpu" and maps.dtype == torch.float32


def _read_by_numpy(cells: Cells) -> np.ndarray:
    maps = cells.maps.detach().numpy()
    return maps[cells.channel, cells.row, cells.column].astype(np.float64)


def _read_by_torch(wanted: Sequence[Cells]) -> list[np.ndarray]:
    """All indices go to the device in one copy, and all values come back in one."""
    shapes = []
    indices = []
    for cells in wanted:
        broadcast = np.broadcast_arrays(*cells[1:])
        shapes.append(broadcast[0].shape)
        indices.append(np.stack([one.ravel() for one in broadcast]))
    device = wanted[0].maps.device
    packed = send(torch.from_numpy(np.concatenate(indices, axis=1)), device)

    counts = [index.shape[1] for index in indices]
    found = []
    for cells, index in zip(wanted, packed.split(counts, dim=1), strict=True):
        values = cells.maps.detach()[index[0], index[1], index[2]]
        found.append(values.float())
    on_host = torch.cat(found).cpu().double()  # in this order: MPS devices have no float64
    parts = on_host.split(counts)
    return [part.numpy().reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


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


def tags_around(
    layers: Sequence[MapLayer], joint: np.ndarray, points: np.ndarray, radius: int
) -> Reading:
    """Reads (N, cells, T) tags in the square of (2 radius + 1)^2 cells around each of N points.

    points: (N, 2). joint: (N,) whose tag map is read. The middle cell is the one at which training
    supervises the tag. Cells of mirrored layers are in the order of the others.
    """
    steps = np.arange(-radius, radius + 1)
    wanted = []
    for layer, cells in zip(layers, points_to_cells(layers, points), strict=True):
        height, width = layer.maps.shape[-2:]
        direction = 1 if layer.factor[0] > 0 else -1
        rows = np.clip(cells[:, 1, None] + steps, 0, height - 1)
        columns = np.clip(cells[:, 0, None] + direction * steps, 0, width - 1)
        channel = layer.channel[joint]
        wanted.append(
            Cells(layer.maps, channel[:, None, None], rows[:, :, None], columns[:, None, :])
        )

    def calculate(values: Sequence[np.ndarray]) -> np.ndarray:
        tags = np.empty((len(points), len(steps) ** 2, len(layers)))
        for index, found in enumerate(values):
            tags[..., index] = found.reshape(tags.shape[:2])
        return tags

    return Reading(wanted, calculate)


def predicted_targets(
    layers: Sequence[MapLayer],
    edge: np.ndarray,
    peak: np.ndarray,
    points: np.ndarray,
    weight: np.ndarray,
) -> Reading:
    """Reads (N, 2) x, y: predicted target positions of N pairs of an edge and a peak.

    edge: (N,) index in the `OffsetLayout`. peak: (N,) index in `points` (M, 2), where its offsets
    are read. weight: (M, layers), rows add up to 1. All points are in the merged input frame.

    A layer holds target - pixel, so a prediction is the cell's own position plus its offset. It is
    mapped to the merged frame as a point, which divides by the scale and mirrors; the layers'
    predictions are averaged with `weight`.
    """
    if not layers:
        return Reading([], lambda _: np.zeros((len(edge), 2)))

    cells = points_to_cells(layers, points)[:, peak]
    wanted = []
    for index, layer in enumerate(layers):
        channel = 2 * layer.channel[edge, None] + [1, 0]  # x, then y
        column = cells[index, :, :1]
        row = cells[index, :, 1:]
        wanted.append(Cells(layer.maps, channel, row, column))

    def calculate(values: Sequence[np.ndarray]) -> np.ndarray:
        targets = cells.astype(np.float64)
        for index, (layer, offset) in enumerate(zip(layers, values, strict=True)):
            targets[index] += layer.unit * offset
        layer_weight = weight[peak].T
        return (layer_weight[..., None] * cells_to_points(layers, targets)).sum(axis=0)

    return Reading(wanted, calculate)


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
