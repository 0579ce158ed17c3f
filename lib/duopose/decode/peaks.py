"""Heatmap peaks: where they are, to a fraction of a cell, and what tags and offsets say there.

**Non-maximum suppression.** A cell is a peak if it is the largest of a square of cells round it and above the
threshold; among equal ones the first in reading order. Few cells pass the threshold; on the
CPU only those are looked at, and each comparison with a neighbour leaves fewer of them for the next. On a GPU a max-pooling
finds the candidates.

**Secondary peaks.** Two people's joints can lie closer than the square is wide. A cell that is the largest of its 3x3
neighbours only, beside a higher peak, is kept as *secondary*: no person starts from it, but one who lacks the joint may take it.

**Sub-pixel position.** A Gaussian's logarithm is a parabola, so from three cells in a row,
L = log h:  gradient g = (L+ - L-) / 2,  curvature q = 2 L0 - L+ - L-,  maximum at g / q from the middle cell
(Zhang et al. 2020, "Distribution-aware coordinate representation", DARK, without its blurring). The mean over strides and scales is no
Gaussian, its maximum is drawn to the coarse grid's cells; each layer as the network gave it is one. The
position maximises the sum of the layers' parabolas: sum(w q p) / sum(w q), each layer weighted by its own height squared (the
variance of log h is that of h over h^2), the fine ones by their curvature.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from duopose.decode.sample import cells_of, gather, points_of
from duopose.types import MapLayer, PoseMaps

SMALLEST = 1e-6  # heatmap values are cut here before taking logarithms
MAX_SHIFT = 1.0  # merged cells that the sub-pixel position may lie away from its cell, per axis


def check_finite(maps: PoseMaps) -> None:
    """ValueError where a heatmap holds NaN or infinity, naming the first joint that does."""
    if bool(torch.isfinite(maps.heatmaps.sum())):
        return
    wrong = ~torch.isfinite(maps.heatmaps).flatten(1).all(dim=1)
    if bool(wrong.any()):
        channel = int(wrong.nonzero()[0, 0])
        raise ValueError(f"the heatmap of channel {channel} holds NaN or infinity; the network's weights or its input are broken")


def check_values(tag: np.ndarray, vote: np.ndarray, expected: np.ndarray) -> None:
    """ValueError where tags, or votes that there must be (`expected`, (M, E) bool), hold NaN or infinity at a peak."""
    if not np.isfinite(tag).all():
        raise ValueError("the tags hold NaN or infinity at a heatmap peak; the network's weights or its input are broken")
    if not np.isfinite(vote[expected]).all():
        raise ValueError("the offsets hold NaN or infinity at a heatmap peak; the network's weights or its input are broken")


def find_cells(heatmaps: torch.Tensor, threshold: float, radius: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Peak cells of heatmaps (C, H, W), at most `limit` per channel, best first within a channel.

    radius: (C,) int, half side of each channel's suppression square in cells. Returns cells (M, 3) int channel, row,
    column; heights (M,); secondary (M,) bool.
    """
    cells, heights = _candidates(heatmaps, threshold)
    secondary = _shadowed(heatmaps, cells, heights, radius)
    order = np.lexsort((-heights, secondary, cells[:, 0]))
    cells, heights, secondary = cells[order], heights[order], secondary[order]
    rank = np.arange(len(cells)) - np.searchsorted(cells[:, 0], cells[:, 0])
    keep = rank < limit
    return cells[keep], heights[keep], secondary[keep]


def _candidates(heatmaps: torch.Tensor, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Cells (M, 3) above the threshold that are the largest of their 3x3 neighbours, and their heights."""
    channels, height, width = heatmaps.shape
    if heatmaps.device.type != "cpu":
        found = (functional.max_pool2d(heatmaps[None], 3, 1, 1)[0] == heatmaps) & (heatmaps > threshold)
        flat = found.flatten().nonzero()[:, 0].cpu().numpy()
    else:
        flat = _sparse_candidates(heatmaps.contiguous().numpy(), threshold)
    cells = np.column_stack(np.unravel_index(flat, (channels, height, width)))
    return cells, gather(heatmaps, cells[:, 0], cells[:, 1], cells[:, 2])


def _sparse_candidates(maps: np.ndarray, threshold: float) -> np.ndarray:
    """Flat indices of the 3x3 maxima of maps (C, H, W), sorted.

    Neighbours are looked up in the flat array, which for cells at the border takes some from the opposite side; so these are judged again.
    """
    everything, width = maps.reshape(-1), maps.shape[2]
    flat = np.flatnonzero(everything[width + 1 : -width - 1] > threshold) + (width + 1)
    value = everything[flat]
    for step in (1, -1, width, -width, width + 1, width - 1, 1 - width, -1 - width):
        other = everything[flat + step]
        keep = value > other if step < 0 else value >= other  # among equal ones the first in reading order wins
        flat, value = flat[keep], value[keep]
    return np.union1d(flat, _border_candidates(maps, threshold))


def _border_candidates(maps: np.ndarray, threshold: float) -> np.ndarray:
    """As `_sparse_candidates`, the cells of the outermost rows and columns only."""
    _, height, width = maps.shape
    found = []
    for row, column in ((0, slice(None)), (height - 1, slice(None)), (slice(1, -1), 0), (slice(1, -1), width - 1)):
        channel, place = np.nonzero(maps[:, row, column] > threshold)
        along = place if isinstance(column, slice) else place + 1
        found.append((channel, np.full_like(along, row), along) if isinstance(row, int) else (channel, along, np.full_like(along, column)))
    channel, rows, columns = (np.concatenate(part) for part in zip(*found))
    steps = np.argwhere(np.ones((3, 3))) - 1
    y, x = rows[:, None] + steps[:, 0], columns[:, None] + steps[:, 1]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    around = maps[channel[:, None], np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    around = np.where(inside, around, -np.inf)
    value = around[:, 4:5]
    best = (value > around[:, :4]).all(axis=1) & (value >= around[:, 5:]).all(axis=1)
    return np.ravel_multi_index((channel[best], rows[best], columns[best]), maps.shape)


def _shadowed(heatmaps: torch.Tensor, cells: np.ndarray, heights: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """(M,) bool: a cell of the channel's square is larger, or equal and earlier in reading order."""
    secondary = np.zeros(len(cells), dtype=bool)
    limit = np.array(heatmaps.shape[1:]) - 1
    for side in np.unique(radius):
        members = np.flatnonzero(radius[cells[:, 0]] == side)
        steps = np.argwhere(np.ones((2 * side + 1, 2 * side + 1))) - side
        around = cells[members, None, 1:] + steps
        inside = ((around >= 0) & (around <= limit)).all(axis=2)
        row, column = np.clip(around, 0, limit).transpose(2, 0, 1)
        channel = np.broadcast_to(cells[members, :1], row.shape)
        value = np.where(inside, gather(heatmaps, channel, row, column), -np.inf)
        height = heights[members, None]
        earlier = np.arange(len(steps)) < len(steps) // 2
        secondary[members] = ((value > height) | ((value == height) & earlier)).any(axis=1)
    return secondary


def sub_pixel(layers: Sequence[MapLayer], channel: np.ndarray, points: np.ndarray, limit: float) -> np.ndarray:
    """Better positions (M, 2) for peaks of joints `channel` (M,) found at `points` (M, 2), merged input frame (formula above).

    limit: largest correction per axis in pixels of the merged input.
    """
    weighted, weights = np.zeros_like(points), np.zeros_like(points)
    for layer in layers:
        cells = cells_of(layer, points, margin=1)
        place, curvature = _parabola(layer, channel, cells)
        weighted += curvature * place
        weights += curvature
    better = np.where(weights > 0, weighted / np.where(weights > 0, weights, 1), points)
    return points + np.clip(better - points, -limit, limit)


def _parabola(layer: MapLayer, channel: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maximum (M, 2) x, y of one layer's parabola in the merged input frame, and its weight (M, 2), 0 where it has none."""
    steps = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    around = cells[:, None] + steps
    source = np.broadcast_to(layer.channel[channel][:, None], around.shape[:2])
    height = np.maximum(gather(layer.maps, source, around[..., 1], around[..., 0]), SMALLEST)
    logarithm = np.log(height)
    plus, minus, middle = logarithm[:, 1::2], logarithm[:, 2::2], logarithm[:, :1]
    curvature = 2 * middle - plus - minus
    usable = curvature > SMALLEST
    shift = np.where(usable, (plus - minus) / 2 / np.where(usable, curvature, 1), 0.0)
    shift = np.clip(shift, -1.5, 1.5)
    weight = np.where(usable, curvature * layer.factor**2 * height[:, :1] ** 2, 0.0)
    return points_of(layer, cells + shift + layer.peak_shift), weight
