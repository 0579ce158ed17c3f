"""Reading maps at a few points, on the device where they are; only the values read travel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from duopose.types import MapLayer


def gather(maps: torch.Tensor, channel: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Values of maps (C, h, w) at integer places; the three index arrays have one shape, which the float64 result has too."""
    flat = (channel * maps.shape[1] + row) * maps.shape[2] + column
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

    Joints and windows are rounded to cells, so that one cell more than the radius may still be inside.
    """
    reach = np.array([(radius + 1) / abs(layer.factor[0]) for layer in layers])
    overlaps = np.zeros((len(points), len(layers)), dtype=int)
    bounds = np.flatnonzero(np.diff(joint, prepend=-1, append=-1))
    for first, last in pairwise(bounds):
        x, y = points[first:last].T
        apart = np.maximum(np.abs(np.subtract.outer(x, x)), np.abs(np.subtract.outer(y, y)))
        for index, limit in enumerate(reach):
            overlaps[first:last, index] = np.count_nonzero(apart <= limit, axis=1) - 1
    return overlaps
