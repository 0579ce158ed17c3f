"""3x3 maxima of heatmaps, the candidates for peaks: a quick first sieve that may keep a few cells too many, never one too few.

On the CPU most cells are below the threshold. Where few pass, only these are looked at: they come in runs along the rows, so that two
neighbours of each are at hand in the list of the found values, and the one in nine that is left is compared with the six others.
Where many pass, a dilation by OpenCV, one map after the other so that each stays in the processor's cache, costs less. On a GPU
max-pooling does it.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch
from torch.nn import functional

SQUARE = np.ones((3, 3), np.uint8)
ALL_TRUE = 0x0101010101010101  # eight bools
MANY = 0.04  # share of the cells, counted in eights that hold one; measured: looking at single cells costs more from here on


def maxima(heatmaps: torch.Tensor, threshold: float) -> np.ndarray:
    """Flat indices, sorted, of the cells of (C, H, W) above the threshold that none of their 3x3 neighbours exceeds.

    NaN and +infinity are among them; -infinity is below any threshold. Cells of the outermost rows and columns may be among
    them though a neighbour exceeds them.
    """
    if heatmaps.device.type == "cpu":
        return _maxima_on_cpu(heatmaps.contiguous().numpy(), threshold)
    low = (
        heatmaps < functional.max_pool2d(heatmaps[None], 3, 1, 1)[0]
    )  # comparisons with NaN are false, so that it stays in
    low |= heatmaps <= threshold
    return (~low).flatten().nonzero()[:, 0].cpu().numpy()


def _maxima_on_cpu(maps: np.ndarray, threshold: float) -> np.ndarray:
    low = maps <= np.float32(threshold)
    eights = _not_all_true(low.reshape(-1))
    if 8 * len(eights) > MANY * low.size:
        return _dilated(maps, low)
    return _sparse(maps, _false_places(low.reshape(-1), eights))


def _dilated(maps: np.ndarray, low: np.ndarray) -> np.ndarray:
    """The maxima among the cells where `low` is False; `low` is changed."""
    largest = np.empty_like(maps[0])
    for channel, one in enumerate(maps):
        cv2.dilate(one, SQUARE, dst=largest)
        low[channel] |= one < largest
    return _false_places(low.reshape(-1), _not_all_true(low.reshape(-1)))


def _not_all_true(mask: np.ndarray) -> np.ndarray:
    """Which eights of a mask's (N,) places are not all True; looking at eight together is quick where few are not."""
    whole = mask[: mask.size // 8 * 8].view(np.uint64) != ALL_TRUE
    rest = np.arange(mask.size // 8, -(-mask.size // 8))
    return np.append(np.flatnonzero(whole), rest)


def _false_places(mask: np.ndarray, eights: np.ndarray) -> np.ndarray:
    """Indices at which a mask (N,) is False, of which all lie in `eights`."""
    places = (
        np.pad(mask, (0, -mask.size % 8), constant_values=True).reshape(-1, 8)
        if mask.size % 8
        else mask.reshape(-1, 8)
    )
    inside = np.flatnonzero(~places[eights])
    return (eights[inside >> 3] << 3) + (inside & 7)


def _sparse(maps: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """The maxima among the cells at sorted flat indices, which are all that are above the threshold.

    Neighbours are looked up in the flat array. For cells at the border some are from the opposite side, so these cells all stay.
    """
    everything, width = maps.reshape(-1), maps.shape[2]
    value, border = everything[flat], _on_border(maps.shape)[flat]
    keep = _row_maxima(flat, value) | border
    for step in (width, -width, width + 1, width - 1, 1 - width, -1 - width):
        index = np.flatnonzero(keep)
        flat, value, border = flat[index], value[index], border[index]
        keep = ~(value < everything.take(flat + step, mode="clip")) | border
    return flat[keep]


def _row_maxima(flat: np.ndarray, value: np.ndarray) -> np.ndarray:
    """(N,) bool: neither neighbour in the row exceeds the cell; a neighbour that is not listed is lower."""
    follows = np.diff(flat) == 1
    keep = np.ones(len(flat), dtype=bool)
    keep[:-1] = ~(follows & (value[1:] > value[:-1]))
    keep[1:] &= ~(follows & (value[1:] < value[:-1]))
    return keep


@lru_cache(maxsize=8)
def _on_border(shape: tuple[int, int, int]) -> np.ndarray:
    """(C * H * W,) bool: the outermost rows and columns of maps of that shape."""
    mask = np.ones(shape, dtype=bool)
    mask[:, 1:-1, 1:-1] = False
    return mask.reshape(-1)
