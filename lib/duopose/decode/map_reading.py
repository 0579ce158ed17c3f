"""Reading maps at a few points, on the device where they are; only the values read travel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from duopose.types import MapLayer


def gather(
    maps: torch.Tensor, channel: np.ndarray, row: np.ndarray, column: np.ndarray
) -> np.ndarray:
    """Values of maps (C, h, w) at integer places; the three index arrays are broadcast, the float64 result has their common shape."""
    return gather_flat(maps, (channel * maps.shape[1] + row) * maps.shape[2] + column)


def gather_flat(maps: torch.Tensor, flat: np.ndarray) -> np.ndarray:
    """As `gather`, at indices of the flattened maps, any shape."""
    if maps.device.type == "cpu" and maps.dtype == torch.float32 and maps.is_contiguous():
        return maps.detach().numpy().reshape(-1)[flat].astype(np.float64)
    index = torch.as_tensor(flat, device=maps.device)
    return maps.reshape(-1)[index].double().cpu().numpy()


def cells_of(layers: Sequence[MapLayer], points: np.ndarray, margin: int = 0) -> np.ndarray:
    """(layers, N, 2) int x, y: the cell of each layer in which a point (N, 2) of the merged input frame has its peak.

    Points outside are moved to the border, or `margin` cells inside of it.
    """
    factor, shift = (
        np.array([layer.factor for layer in layers]),
        np.array([layer.shift for layer in layers]),
    )
    peak_shift = np.array([layer.peak_shift for layer in layers])
    cells = np.floor(points * factor[:, None] + (shift - peak_shift[:, None] + 0.5)[:, None])
    limit = (
        np.array([[layer.maps.shape[-1], layer.maps.shape[-2]] for layer in layers]) - 1 - margin
    )
    return np.minimum(np.maximum(cells, margin), limit[:, None]).astype(np.int64)


def points_of(layers: Sequence[MapLayer], cells: np.ndarray) -> np.ndarray:
    """(layers, N, 2) the points of the merged input frame at real-valued cells (layers, N, 2) x, y."""
    factor, shift = (
        np.array([layer.factor for layer in layers]),
        np.array([layer.shift for layer in layers]),
    )
    return (cells - shift[:, None]) / factor[:, None]


def read_tags_around(
    layers: Sequence[MapLayer], channel: np.ndarray, points: np.ndarray, radius: int
) -> np.ndarray:
    """(N, cells, T) tags in the square of 2 radius + 1 cells round each of N points (N, 2) of joints `channel` (N,).

    The middle one is the cell at which the tag was taught.
    """
    steps = np.arange(-radius, radius + 1)
    values = np.empty((len(points), len(steps) ** 2, len(layers)))
    for index, (layer, cells) in enumerate(zip(layers, cells_of(layers, points))):
        height, width = layer.maps.shape[-2:]
        side = (
            1 if layer.factor[0] > 0 else -1
        )  # so that one place has one index in mirrored layers too
        rows = np.minimum(np.maximum(cells[:, 1, None] + steps, 0), height - 1)
        columns = np.minimum(np.maximum(cells[:, 0, None] + side * steps, 0), width - 1)
        found = gather(
            layer.maps, layer.channel[channel][:, None, None], rows[:, :, None], columns[:, None]
        )
        values[..., index] = found.reshape(len(points), len(steps) ** 2)
    return values


def read_votes(
    layers: Sequence[MapLayer],
    edge: np.ndarray,
    peak: np.ndarray,
    points: np.ndarray,
    weight: np.ndarray,
) -> np.ndarray:
    """(N, 2) x, y of the merged input frame: where offset `edge` (N,), read at the point of `peak` (N,), says its target is.

    points: (M, 2). A layer holds target - pixel at the pixel, so the vote is the cell's own place plus its offset; it is moved to
    the merged frame as a point, which divides by the scale and mirrors. Layers are averaged with `weight` (M, layers), rows adding up to 1.
    """
    if not layers:
        return np.zeros((len(edge), 2))
    cells = cells_of(layers, points)[:, peak]
    places = cells.astype(np.float64)
    for index, layer in enumerate(layers):
        channel = 2 * layer.channel[edge, None] + [1, 0]
        places[index] += layer.unit * gather(
            layer.maps, channel, cells[index, :, 1:], cells[index, :, :1]
        )
    return (weight.T[:, peak, None] * points_of(layers, places)).sum(axis=0)


def window_overlaps(
    layers: Sequence[MapLayer], joint: np.ndarray, points: np.ndarray, radius: float
) -> np.ndarray:
    """(N, layers) int: in how many other offset windows (2 radius + 1 cells wide) of the same joint type each of N peaks lies.

    joint: (N,) sorted. Joints and windows are rounded to cells, so that one cell more than the radius may still be inside.
    """
    first = np.searchsorted(joint, joint)
    rank = np.arange(len(joint)) - first
    table = np.full(
        (2, int(joint.max(initial=0)) + 1, int(rank.max(initial=0)) + 1), np.inf
    )  # a row a joint type
    table[:, joint, rank] = points.T
    with np.errstate(invalid="ignore"):  # nobody minus nobody
        x, y = np.abs(table[..., :, None] - table[..., None, :])
    apart = np.maximum(x, y)[joint, rank]
    reach = [(radius + 1) / abs(layer.factor[0]) for layer in layers]
    counts = {limit: np.count_nonzero(apart <= limit, axis=1) - 1 for limit in set(reach)}
    return (
        np.array([counts[limit] for limit in reach], dtype=int).reshape(len(layers), len(joint)).T
    )
