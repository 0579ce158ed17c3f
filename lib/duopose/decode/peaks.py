"""Heatmap peaks: which cells, how high, and which of them stand in a higher one's shadow.

**Non-maximum suppression.** A cell is a peak if it is the largest of a square of cells round it and above the
threshold; among equal ones the first in reading order.

**Secondary peaks.** Two people's joints can lie closer than the square is wide. A cell that is the largest of its 3x3
neighbours only, beside a higher peak, is kept as *secondary*: no person starts from it, but one who lacks the joint may take it.
"""

from __future__ import annotations

import numpy as np
import torch

from duopose.decode.map_reading import gather_flat
from duopose.decode.maxima import maxima


def find_cells(
    heatmaps: torch.Tensor, threshold: float, radius: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Peak cells of heatmaps (C, H, W), at most `limit` per channel, best first within a channel.

    radius: (C,) int, half side of each channel's suppression square in cells. Returns cells (M, 3) int channel, row,
    column; heights (M,); secondary (M,) bool. ValueError naming the channel where a heatmap holds NaN or +infinity.
    """
    flat = maxima(heatmaps, threshold)
    cells = np.column_stack(np.unravel_index(flat, heatmaps.shape))
    heights = gather_flat(heatmaps, flat)
    _check_heights(cells, heights)
    none, nms_suppressed = _beaten(heatmaps, cells, flat, heights, radius[cells[:, 0]])
    order = np.lexsort((-heights, nms_suppressed, cells[:, 0]))
    order = order[~none[order]]
    cells, heights, nms_suppressed = cells[order], heights[order], nms_suppressed[order]
    keep = np.arange(len(cells)) - np.searchsorted(cells[:, 0], cells[:, 0]) < limit
    return cells[keep], heights[keep], nms_suppressed[keep]


def check_values(name: str, values: np.ndarray) -> None:
    """ValueError where values read at the peaks hold NaN or infinity."""
    if not np.isfinite(values).all():
        raise ValueError(
            f"the {name} hold NaN or infinity at a heatmap peak; the network's weights or its input are broken"
        )


def _check_heights(cells: np.ndarray, heights: np.ndarray) -> None:
    """ValueError naming the first channel that holds NaN or infinity."""
    wrong = cells[~np.isfinite(heights), 0]
    if len(wrong):
        raise ValueError(
            f"the heatmap of channel {wrong[0]} holds NaN or infinity; the network's weights or its input are broken"
        )


def _beaten(
    heatmaps: torch.Tensor,
    cells: np.ndarray,
    flat: np.ndarray,
    heights: np.ndarray,
    radius: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Which of M cells are beaten by one of their 3x3 neighbours, and which by one of the square of `radius` (M,). Both (M,) bool.

    To beat is to be larger, or equal and earlier in reading order. cells: (M, 3), flat: (M,) the same as flat indices.
    """
    _, height, width = heatmaps.shape
    side = max(int(radius.max(initial=1)), 1)
    steps = np.arange(-side, side + 1)
    rows = np.minimum(
        np.maximum(cells[:, 1, None] + steps, 0), height - 1
    )  # cells outside the map become others of the square
    columns = np.minimum(np.maximum(cells[:, 2, None] + steps, 0), width - 1)
    around = ((cells[:, 0, None] * height + rows) * width)[:, :, None] + columns[:, None]
    other, own = gather_flat(heatmaps, around), heights[:, None, None]
    beaten = (other > own) | ((other == own) & (around < flat[:, None, None]))
    distance = np.maximum(np.abs(steps)[:, None], np.abs(steps)).reshape(-1)
    nearest = np.where(beaten.reshape(len(flat), len(distance)), distance, side + 1).min(
        axis=1, initial=side + 1
    )  # who beats the cell
    return nearest <= 1, nearest <= radius
