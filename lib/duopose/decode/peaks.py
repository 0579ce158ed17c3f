"""Heatmap peaks by non-maximum suppression (NMS) within each heatmap channel.

    candidates = cells above the threshold that equal the largest of their 3x3 cells
    cell a beats cell b  if  a > b, or a = b and a comes first in reading order (row, then column)
    no peak              if  a cell of the candidate's 3x3 cells beats it (plateaus keep one cell)
    nms_suppressed       if  a cell of its NMS window, 2 radius + 1 cells wide, beats it

Suppressed peaks are kept and marked, because joints of two people can lie closer than the window is
wide. No person starts from a suppressed peak, but a person who lacks the joint can take it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch.nn import functional

from duopose.decode.map_reading import Cells, read_cells
from duopose.errors import NotFiniteError

SQUARE_3X3 = np.ones((3, 3), np.uint8)
# Candidates that are copied from a GPU at once. A photograph of 30 people has about 1000.
MAX_COPIED = 4096


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
    cells, squares = find_candidates(heatmaps, threshold, int(radius.max()))
    middle = squares.shape[1] // 2
    scores = squares[:, middle, middle]
    _check_scores(cells, scores)

    beaten_within = _chebyshev_distance_to_winner(cells, squares, heatmaps.shape[1:])
    is_peak = beaten_within > 1
    nms_suppressed = beaten_within <= radius[cells[:, 0]]

    order = np.lexsort((-scores, nms_suppressed, cells[:, 0]))
    order = order[is_peak[order]]
    channel = cells[order, 0]
    rank = np.arange(len(order)) - np.searchsorted(channel, channel)
    order = order[rank < limit]
    return cells[order], scores[order], nms_suppressed[order]


def find_candidates(
    heatmaps: torch.Tensor, threshold: float, radius: int
) -> tuple[np.ndarray, np.ndarray]:
    """The candidates as defined above, in reading order, and the heatmap around each.

    Cells (M, 3) int channel, row, column; squares (M, 2 radius + 1, 2 radius + 1) float64. A cell
    of a square that lies outside the map is replaced by the nearest one inside.

    NaN and +infinity are among them, so that the caller finds them: the conditions are written as
    negations because every comparison with NaN is false.
    """
    if heatmaps.device.type == "cuda":
        return candidates_by_pooling(heatmaps, threshold, radius, MAX_COPIED)
    if heatmaps.device.type != "cpu":  # torch 2.11 has no nonzero_static for Apple's GPUs
        return candidates_by_pooling(heatmaps, threshold, radius, limit=0)
    cells = candidates_by_dilation(heatmaps.detach().numpy(), threshold)
    return cells, _read_squares(heatmaps, cells, radius)


def candidates_by_pooling(
    heatmaps: torch.Tensor, threshold: float, radius: int, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """`find_candidates` on the device of the heatmaps.

    `limit` cells with their squares come in one copy together with the number of candidates. Only
    if there are more, they are read anew, which takes three copies.
    """
    heatmaps = heatmaps.detach()
    largest = functional.max_pool2d(heatmaps[None], kernel_size=3, stride=1, padding=1)[0]
    candidate = ~((heatmaps <= threshold) | (heatmaps < largest))
    if limit:
        found, cells, squares = _first_candidates(heatmaps, candidate, radius, limit)
        if found <= limit:
            return cells, squares

    cells = candidate.nonzero().cpu().numpy()
    return cells, _read_squares(heatmaps, cells, radius)


def _first_candidates(
    heatmaps: torch.Tensor, candidate: torch.Tensor, radius: int, limit: int
) -> tuple[int, np.ndarray, np.ndarray]:
    """In one copy: the number of all candidates; cells and squares of the first `limit` ones."""
    first = torch.nonzero_static(candidate, size=limit, fill_value=0)
    height, width = heatmaps.shape[1:]
    steps = torch.arange(-radius, radius + 1, device=heatmaps.device)
    channel, row, column = (one[:, None, None] for one in first.unbind(dim=1))
    rows = (row + steps[:, None]).clamp(0, height - 1)
    columns = (column + steps).clamp(0, width - 1)
    squares = heatmaps[channel, rows, columns].float()

    # One tensor, and so one copy: the bits of the float32 values travel as int32.
    bits = squares.view(torch.int32).flatten(1)
    number = candidate.sum().to(torch.int32).expand(limit, 1)
    packed = torch.cat([first.to(torch.int32), bits, number], dim=1).cpu().numpy()
    found = int(packed[0, -1])
    packed = packed[:found]

    cells = packed[:, :3].astype(np.int64)
    values = np.ascontiguousarray(packed[:, 3:-1]).view(np.float32).astype(np.float64)
    return found, cells, values.reshape(len(packed), *squares.shape[1:])


def candidates_by_dilation(heatmaps: np.ndarray, threshold: float) -> np.ndarray:
    """The cells of `find_candidates` by OpenCV, on the CPU ten times as fast as max pooling.

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
    cells: np.ndarray, squares: np.ndarray, map_size: Sequence[int]
) -> np.ndarray:
    """(M,) int: distance max(|rows|, |columns|) to the nearest cell that beats each of `cells`.

    squares: (M, 2 max_distance + 1, 2 max_distance + 1) values around them. map_size: height,
    width. max_distance + 1 where no cell within `max_distance` does.
    """
    max_distance = squares.shape[1] // 2
    steps = np.arange(-max_distance, max_distance + 1)
    _, row, column = cells.T[:, :, None, None]
    _, width = map_size
    rows, columns = _square_cells(cells, max_distance, map_size)

    own = squares[:, max_distance, max_distance, None, None]
    earlier = rows * width + columns < row * width + column
    beats = (squares > own) | ((squares == own) & earlier)
    distance = np.maximum(np.abs(steps)[:, None], np.abs(steps))
    return np.where(beats, distance, max_distance + 1).min(axis=(1, 2), initial=max_distance + 1)


def _read_squares(heatmaps: torch.Tensor, cells: np.ndarray, radius: int) -> np.ndarray:
    """(M, 2 radius + 1, 2 radius + 1) heatmap values around each of the cells (M, 3)."""
    rows, columns = _square_cells(cells, radius, heatmaps.shape[1:])
    channel = cells[:, 0, None, None]
    return read_cells([Cells(heatmaps, channel, rows, columns)])[0]


def _square_cells(
    cells: np.ndarray, radius: int, map_size: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (M, 2 radius + 1, 1) and columns (M, 1, 2 radius + 1) around each of the cells (M, 3).

    A cell outside the map is replaced by one at the border, which is in the square anyway.
    """
    steps = np.arange(-radius, radius + 1)
    _, row, column = cells.T[:, :, None, None]
    height, width = map_size
    rows = np.clip(row + steps[:, None], 0, height - 1)
    columns = np.clip(column + steps, 0, width - 1)
    return rows, columns
