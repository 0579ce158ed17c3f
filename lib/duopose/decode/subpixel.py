"""Adjustment: where a peak is to a fraction of a cell.

A Gaussian's logarithm is a parabola, so from three cells in a row,
L = log h:  gradient g = (L+ - L-) / 2,  curvature q = 2 L0 - L+ - L-,  maximum at g / q from the middle cell
(Zhang et al. 2020, "Distribution-aware coordinate representation", DARK, without its blurring). The mean over strides and scales is no
Gaussian, its maximum is drawn to the coarse grid's cells; each layer as the network gave it is one. The
position maximises the sum of the layers' parabolas: sum(w q p) / sum(w q), each layer weighted by its own height squared (the
variance of log h is that of h over h^2), the fine ones by their curvature.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from duopose.decode.map_reading import cells_of, gather, points_of
from duopose.types import MapLayer

SMALLEST = 1e-6  # heatmap values are cut here before taking logarithms
MAX_SHIFT = 1.5  # cells of a layer that its parabola's maximum may lie away
STEPS = np.array(
    [[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]]
)  # x, y: the cell, its neighbours after it, those before it


def sub_pixel(
    layers: Sequence[MapLayer], channel: np.ndarray, points: np.ndarray, limit: float
) -> np.ndarray:
    """Better positions (M, 2) for peaks of joints `channel` (M,) found at `points` (M, 2), merged input frame (formula above).

    limit: largest correction per axis in pixels of the merged input.
    """
    if not layers:
        return points
    cells = cells_of(layers, points, margin=1)
    around = cells + STEPS[:, None, None]  # (5, layers, M, 2)
    height = np.empty(around.shape[:-1])
    for index, layer in enumerate(layers):
        height[:, index] = gather(
            layer.maps, layer.channel[channel], around[:, index, :, 1], around[:, index, :, 0]
        )
    shift, weight = _parabola(np.maximum(height, SMALLEST))
    weight *= np.array([layer.factor**2 for layer in layers])[:, None]
    place = points_of(
        layers, cells + shift + np.array([layer.peak_shift for layer in layers])[:, None, None]
    )
    weights = weight.sum(axis=0)
    known = weights > 0
    shift = (
        np.where(known, (weight * place).sum(axis=0) / np.where(known, weights, 1), points) - points
    )
    return points + np.minimum(np.maximum(shift, -limit), limit)


def _parabola(height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maximum less the cell (..., M, 2) x, y, and its weight, 0 where there is none, from heights (5, ..., M) in the order of STEPS."""
    logarithm = np.log(height)
    plus, minus = np.moveaxis(logarithm[1:3], 0, -1), np.moveaxis(logarithm[3:], 0, -1)
    curvature = 2 * logarithm[0, ..., None] - plus - minus
    usable = curvature > SMALLEST
    shift = (plus - minus) / np.where(usable, 2 * curvature, np.inf)
    return np.minimum(np.maximum(shift, -MAX_SHIFT), MAX_SHIFT), np.where(
        usable, curvature * height[0, ..., None] ** 2, 0.0
    )
