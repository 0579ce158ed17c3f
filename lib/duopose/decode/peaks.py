"""Heatmap peaks by non-maximum suppression (NMS) within each heatmap channel.

    candidates = cells above the threshold that equal the largest of their 3x3 cells
    cell a beats cell b  if  a > b, or a = b and a comes first in reading order (row, then column)
    no peak              if  a cell of the candidate's 3x3 cells beats it (plateaus keep one cell)
    nms_suppressed       if  a cell of its NMS window, 2 radius + 1 cells wide, beats it

Suppressed peaks are kept and marked, because joints of two people can lie closer than the window is
wide. No person starts from a suppressed peak, but a person who lacks the joint can take it.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch.nn import functional

from duopose.decode.map_reading import read_cells
from duopose.errors import NotFiniteError

SQUARE_3X3 = np.ones((3, 3), np.uint8)


def find_peak_cells(
    heatmaps: torch.Tensor, threshold: float, radius: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Peak cells of heatmaps (C, H, W), at most `limit` per channel.

    radius: (C,) int, half width of each channel's NMS window in cells.

    Returns cells (M, 3) int channel, row, column; scores (M,) float64, the heatmap values; and
    nms_suppressed (M,) bool. They are sorted by channel; within a channel the suppressed ones come
    last, and higher scores first. ValueError naming the channel where a heatmap holds NaN or
    +infinity.
    """
    cells = find_candidates(heatmaps, threshold)
    scores = read_cells(heatmaps, *cells.T)
    _check_scores(cells, scores)

    beaten_within = _chebyshev_distance_to_winner(heatmaps, cells, scores, int(radius.max()))
    is_peak = beaten_within > 1
    nms_suppressed = beaten_within <= radius[cells[:, 0]]

    order = np.lexsort((-scores, nms_suppressed, cells[:, 0]))
    order = order[is_peak[order]]
    channel = cells[order, 0]
    rank = np.arange(len(order)) - np.searchsorted(channel, channel)
    order = order[rank < limit]
    return cells[order], scores[order], nms_suppressed[order]


def find_candidates(heatmaps: torch.Tensor, threshold: float) -> np.ndarray:
    """(M, 3) int channel, row, column, in reading order, of the candidates as defined above.

    NaN and +infinity are among them, so that the caller finds them: the conditions are written as
    negations because every comparison with NaN is false.
    """
    if heatmaps.device.type == "cpu":
        return candidates_by_dilation(heatmaps.detach().numpy(), threshold)
    return candidates_by_pooling(heatmaps, threshold)


def candidates_by_pooling(heatmaps: torch.Tensor, threshold: float) -> np.ndarray:
    """`find_candidates` by max pooling, on the device of the heatmaps."""
    largest = functional.max_pool2d(heatmaps[None], kernel_size=3, stride=1, padding=1)[0]
    candidate = ~((heatmaps <= threshold) | (heatmaps < largest))
    return candidate.nonzero().cpu().numpy()


def candidates_by_dilation(heatmaps: np.ndarray, threshold: float) -> np.ndarray:
    """`find_candidates` by OpenCV, which takes a tenth of the time of max pooling on the CPU.

    Only the rows between the first and the last cell above the threshold are dilated.
    """
    num_rows, num_columns = heatmaps.shape[1:]
    found = [np.zeros(0, dtype=np.int64)]
    for channel, heatmap in enumerate(heatmaps):
        rows = np.flatnonzero(~(heatmap.max(axis=1) <= threshold))
        if not len(rows):
            continue

        first_row = max(rows[0] - 1, 0)  # the row before is a neighbour
        part = heatmap[first_row : rows[-1] + 2]
        candidate = ~((part <= threshold) | (part < cv2.dilate(part, SQUARE_3X3)))
        first_cell = (channel * num_rows + first_row) * num_columns
        found.append(first_cell + np.flatnonzero(candidate))

    cells = np.unravel_index(np.concatenate(found), heatmaps.shape)
    return np.column_stack(cells)


def check_values(name: str, values: np.ndarray) -> None:
    """NotFiniteError where values read at the peaks hold NaN or infinity."""
    if not np.isfinite(values).all():
        raise NotFiniteError(f"{name} hold NaN or infinity at a heatmap peak")


def _check_scores(cells: np.ndarray, scores: np.ndarray) -> None:
    """NotFiniteError naming the first channel that holds NaN or infinity."""
    broken_channels = cells[~np.isfinite(scores), 0]
    if len(broken_channels):
        raise NotFiniteError(f"heatmap of channel {broken_channels[0]} holds NaN or infinity")


def _chebyshev_distance_to_winner(
    heatmaps: torch.Tensor, cells: np.ndarray, scores: np.ndarray, max_distance: int
) -> np.ndarray:
    """(M,) int: distance max(|rows|, |columns|) to the nearest cell that beats each of `cells`.

    max_distance + 1 where no cell within `max_distance` does.
    """
    steps = np.arange(-max_distance, max_distance + 1)
    channel, row, column = cells.T[:, :, None, None]
    # a cell outside the map is replaced by one at the border, which is in the square anyway
    height, width = heatmaps.shape[1:]
    rows = np.clip(row + steps[:, None], 0, height - 1)
    columns = np.clip(column + steps, 0, width - 1)
    values = read_cells(heatmaps, channel, rows, columns)

    own = scores[:, None, None]
    earlier = rows * width + columns < row * width + column
    beats = (values > own) | ((values == own) & earlier)
    distance = np.maximum(np.abs(steps)[:, None], np.abs(steps))
    return np.where(beats, distance, max_distance + 1).min(axis=(1, 2), initial=max_distance + 1)
