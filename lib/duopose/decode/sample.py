"""Reading maps at a few points, on the device where they are; only the values read travel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from duopose.types import MapLayer


def gather(maps: torch.Tensor, channel: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Values of maps (C, h, w) at integer places; the three index arrays are broadcast, the float64 result has their common shape."""
    return gather_flat(maps, (channel * maps.shape[1] + row) * maps.shape[2] + column)


def gather_flat(maps: torch.Tensor, flat: np.ndarray) -> np.ndarray:
    """As `gather`, at indices of the flattened maps, any shape."""
    if maps.device.type == "cpu" and maps.dtype == torch.float32 and maps.is_contiguous():
        return maps.detach().numpy().reshape(-1)[flat].astype(np.float64)
    index = torch.as_tensor(flat, device=maps.device)
    return maps.reshape(-1)[index].double().cpu().numpy()


def cells_of(layer: MapLayer, points: np.ndarray, margin: int = 0) -> np.ndarray:
    """(..., 2) int x, y: the cell of a layer in which a point (..., 2) of the merged input frame has its peak.

    Points outside are moved to the border, or `margin` cells inside of it.
    """
    cells = np.floor(points * layer.factor + (layer.shift - layer.peak_shift + 0.5))
    limit = np.array([layer.maps.shape[-1], layer.maps.shape[-2]]) - 1 - margin
    return np.minimum(np.maximum(cells, margin), limit).astype(np.int64)


def points_of(layer: MapLayer, cells: np.ndarray) -> np.ndarray:
    """(..., 2) the points of the merged input frame at real-valued cells (..., 2) x, y of a layer."""
    return (cells - layer.shift) / layer.factor


def read_tags_around(layers: Sequence[MapLayer], channel: np.ndarray, points: np.ndarray, radius: int) -> np.ndarray:
    """(N, cells, T) tags in the square of 2 radius + 1 cells round each of N points (N, 2) of joints `channel` (N,).

    The middle one is the cell at which the tag was taught.
    """
    steps = np.argwhere(np.ones((2 * radius + 1, 2 * radius + 1))) - radius
    values = np.empty((len(points), len(steps), len(layers)))
    for index, layer in enumerate(layers):
        sides = np.sign(layer.factor).astype(int)  # so that one place has one index in mirrored layers too
        cells = cells_of(layer, points)[:, None] + sides * steps
        cells = np.clip(cells, 0, np.array([layer.maps.shape[-1], layer.maps.shape[-2]]) - 1)
        source = np.broadcast_to(layer.channel[channel][:, None], cells.shape[:2])
        values[..., index] = gather(layer.maps, source, cells[..., 1], cells[..., 0])
    return values


def read_votes(layers: Sequence[MapLayer], entry: np.ndarray, points: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(N, 2) x, y of the merged input frame: where offset `entry` (N,), read at `points` (N, 2), says its target is.

    A layer holds target - pixel at the pixel, so the vote is the cell's own place plus its offset; it is moved to
    the merged frame as a point, which divides by the scale and mirrors. Layers are averaged with `weight` (N, layers), rows adding up to 1.
    """
    votes = np.zeros((len(points), 2))
    for index, layer in enumerate(layers):
        cells = cells_of(layer, points)
        channel = 2 * layer.channel[entry]
        offset = gather(layer.maps, np.stack([channel + 1, channel], axis=1), cells[:, 1:], cells[:, :1])
        votes += weight[:, index, None] * points_of(layer, cells + layer.unit * offset)
    return votes


def window_overlaps(layers: Sequence[MapLayer], joint: np.ndarray, points: np.ndarray, radius: float) -> np.ndarray:
    """(N, layers) int: in how many other offset windows (2 radius + 1 cells wide) of the same joint type each of N peaks lies.

    joint: (N,) sorted. Joints and windows are rounded to cells, so that one cell more than the radius may still be inside.
    """
    first = np.searchsorted(joint, joint)
    rank = np.arange(len(joint)) - first
    table = np.full((2, int(joint.max(initial=0)) + 1, int(rank.max(initial=0)) + 1), np.inf)  # a row a joint type
    table[:, joint, rank] = points.T
    with np.errstate(invalid="ignore"):  # nobody minus nobody
        x, y = np.abs(table[..., :, None] - table[..., None, :])
    apart = np.maximum(x, y)[joint, rank]
    reach = [(radius + 1) / abs(layer.factor[0]) for layer in layers]
    limits, which = np.unique(reach, return_inverse=True)
    counts = np.array([np.count_nonzero(apart <= limit, axis=1) - 1 for limit in limits], dtype=int)
    return counts.reshape(len(limits), len(joint))[which.astype(int)].T
