"""Heatmap peaks: which cells, how high, and which of them stand in a higher one's shadow.

**Non-maximum suppression.** A cell is a peak if it is the largest of a square of cells round it and above the
threshold; among equal ones the first in reading order. Few cells pass the threshold; on the
CPU only those are looked at. They come in runs along the rows, so that two neighbours of each are at hand in the list of
the found values; the one in nine cells that is left is compared with the six others. On a GPU a max-pooling finds the candidates.

**Secondary peaks.** Two people's joints can lie closer than the square is wide. A cell that is the largest of its 3x3
neighbours only, beside a higher peak, is kept as *secondary*: no person starts from it, but one who lacks the joint may take it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional

from duopose.decode.sample import gather_flat


def find_cells(heatmaps: torch.Tensor, threshold: float, radius: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Peak cells of heatmaps (C, H, W), at most `limit` per channel, best first within a channel.

    radius: (C,) int, half side of each channel's suppression square in cells. Returns cells (M, 3) int channel, row,
    column; heights (M,); secondary (M,) bool. ValueError naming the channel where a heatmap holds NaN or infinity.
    """
    flat = _candidates(heatmaps, threshold)
    cells = np.column_stack(np.unravel_index(flat, heatmaps.shape))
    heights, side = gather_flat(heatmaps, flat), radius[cells[:, 0]]
    secondary = np.zeros(len(flat), dtype=bool)
    for value in np.unique(radius).tolist():
        secondary[side == value] = ~_are_maxima(heatmaps, flat[side == value], value)
    order = np.lexsort((-heights, secondary, cells[:, 0]))
    cells, heights, secondary = cells[order], heights[order], secondary[order]
    keep = np.arange(len(cells)) - np.searchsorted(cells[:, 0], cells[:, 0]) < limit
    return cells[keep], heights[keep], secondary[keep]


def check_values(tag: np.ndarray, vote: np.ndarray) -> None:
    """ValueError where tags or votes hold NaN or infinity at a peak."""
    for name, values in (("tags", tag), ("offsets", vote)):
        if not np.isfinite(values).all():
            raise ValueError(f"the {name} hold NaN or infinity at a heatmap peak; the network's weights or its input are broken")


def _check_heights(flat: np.ndarray, value: np.ndarray, cells_per_channel: int) -> None:
    """ValueError naming the first channel that holds NaN or infinity. value: heights at the flat indices."""
    wrong = flat[~np.isfinite(value)]
    if len(wrong):
        channel = wrong[0] // cells_per_channel
        raise ValueError(f"the heatmap of channel {channel} holds NaN or infinity; the network's weights or its input are broken")


def _candidates(heatmaps: torch.Tensor, threshold: float) -> np.ndarray:
    """Flat indices of the cells above the threshold that are the largest of their 3x3 neighbours, sorted."""
    if heatmaps.device.type == "cpu":
        return _sparse_candidates(heatmaps.contiguous().numpy(), threshold)
    largest = functional.max_pool2d(heatmaps[None], 3, 1, 1)[0] == heatmaps
    found = (largest & (heatmaps > threshold)) | ~torch.isfinite(heatmaps)
    flat = found.flatten().nonzero()[:, 0].cpu().numpy()
    _check_heights(flat, gather_flat(heatmaps, flat), heatmaps[0].numel())
    return flat[_are_maxima(heatmaps, flat)]  # pooling keeps all of equal cells


def _sparse_candidates(maps: np.ndarray, threshold: float) -> np.ndarray:
    """Flat indices of the 3x3 maxima of maps (C, H, W), sorted.

    Neighbours are looked up in the flat array, which for cells at the border takes some from the opposite side; so these are judged again.
    """
    everything, width = maps.reshape(-1), maps.shape[2]
    low = everything <= np.float32(threshold)
    flat = _false_places(low)  # NaN is not low, and is found here
    value = everything[flat]
    if not np.isfinite(value.sum()):
        _check_heights(flat, value, maps[0].size)
    flat, value = _row_maxima(flat, value)
    inside = slice(*np.searchsorted(flat, [width + 1, len(everything) - width - 1]))
    flat, value = flat[inside], value[inside]
    for step in (width, -width, width + 1, width - 1, 1 - width, -1 - width):
        other = everything[flat + step]
        keep = value > other if step < 0 else value >= other  # among equal ones the first in reading order wins
        flat, value = flat[keep], value[keep]
    return _with_border(flat, maps, low)


def _false_places(mask: np.ndarray) -> np.ndarray:
    """Indices at which a mask (N,) is False, quickly where few are: eight places at a time first."""
    if len(mask) % 8:
        return np.flatnonzero(~mask)
    eights = np.flatnonzero(mask.view(np.uint64) != 0x0101010101010101)
    inside = np.flatnonzero(~mask.reshape(-1, 8)[eights])
    return (eights[inside >> 3] << 3) + (inside & 7)


def _row_maxima(flat: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of the cells (sorted flat indices and their values) that no neighbour in their row beats; who is not listed is lower."""
    follows = np.diff(flat) == 1
    rises = value[1:] > value[:-1]
    keep = np.ones(len(flat), dtype=bool)
    keep[:-1] = ~(follows & rises)
    keep[1:] &= ~(follows & ~rises)
    return flat[keep], value[keep]


def _with_border(flat: np.ndarray, maps: np.ndarray, low: np.ndarray) -> np.ndarray:
    """The 3x3 maxima with the outermost rows and columns judged by their neighbours inside the map alone.

    low: (C * H * W,) bool, which cells are no candidates.
    """
    border, on_border = _border_cells(maps.shape)
    border = border[~low[border]]
    if not len(border):
        return flat
    best = border[_are_maxima(torch.from_numpy(maps), border)]
    return np.sort(np.concatenate([flat[~on_border[flat]], best]))


@lru_cache(maxsize=8)
def _border_cells(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices of the outermost rows and columns of maps of that shape, and the mask (C * H * W,) of them."""
    mask = np.ones(shape, dtype=bool)
    mask[:, 1:-1, 1:-1] = False
    return np.flatnonzero(mask), mask.reshape(-1)


def _are_maxima(heatmaps: torch.Tensor, flat: np.ndarray, side: int = 1) -> np.ndarray:
    """(M,) bool: no cell of the square of 2 side + 1 cells round each is larger, or equal and earlier in reading order."""
    around, value = _square(flat, heatmaps.shape, side), gather_flat(heatmaps, flat)[:, None]
    other = gather_flat(heatmaps, around)
    return ~((other > value) | ((other == value) & (around < flat[:, None]))).any(axis=1)


def _square(flat: np.ndarray, shape: Sequence[int], side: int) -> np.ndarray:
    """Flat indices (M, (2 side + 1)**2) of the cells round M cells; those outside the map are replaced by ones of the square inside it."""
    _, height, width = shape
    steps = np.arange(-side, side + 1)
    channel, row, column = np.unravel_index(flat, tuple(shape))
    rows = np.minimum(np.maximum(row[:, None] + steps, 0), height - 1)
    columns = np.minimum(np.maximum(column[:, None] + steps, 0), width - 1)
    return ((channel[:, None] * height + rows)[:, :, None] * width + columns[:, None]).reshape(len(flat), len(steps) ** 2)
