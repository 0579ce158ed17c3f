"""Sub-pixel peak positions, after DARK (Zhang et al., "Distribution-Aware Coordinate Representation
for Human Pose Estimation", CVPR 2020), per layer and without DARK's smoothing of the heatmap.

The logarithm of a Gaussian is a parabola. Per axis, from three cells in a row with L = log(score):

    gradient   g = (L+ - L-) / 2
    curvature  q = 2 L0 - L+ - L-
    maximum    d = g / q               cells from the middle one

DARK does this on the mean heatmap. The mean over strides and scales is not a Gaussian, and its
maximum is biased to cells of the coarse grid. Each layer, as the network gave it, is one. So the
position x is where the weighted sum of the parabolas of all layers l has its maximum:

    x = sum_l w_l x_l / sum_l w_l,     w_l = score_l^2 f_l^2 q_l

x_l is the layer's maximum in pixels of the merged input and f_l its cells per pixel, which turns q
per cell^2 into q per pixel^2. The square of the score is the precision of L: var(log s) =
var(s) / s^2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from duopose.decode.map_reading import Cells, Reading, cells_to_points, points_to_cells
from duopose.types import MapLayer

# Scores are clipped here before the logarithm, and smaller curvatures count as flat. It is far
# below any detection threshold and far above float32 rounding of a score.
EPSILON = 1e-6
# Cells between a layer's maximum and its middle cell. A parabola through three neighbouring cells
# has its maximum within 0.5 cells if the middle one is the largest; a peak of the mean heatmap
# can be one cell away from the layer's own. Not critical: AP 55.68, 55.64, 55.64 with 0.5, 1.5, 3
# (demo network, 200 validation images).
MAX_SHIFT = 1.5
# x, y of the middle cell, of its neighbours after it in x and in y, and of those before it
NEIGHBOURHOOD = np.array([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]])


def subpixel_positions(
    layers: Sequence[MapLayer], joint: np.ndarray, points: np.ndarray, limit: float
) -> Reading:
    """Reads sub-pixel positions (M, 2) of peaks of joints (M,) found at `points` (M, 2).

    Merged input frame. limit: largest correction per axis, in pixels.
    """
    if not layers:
        return Reading([], lambda _: points)

    cells = points_to_cells(layers, points, margin=1)
    around = cells + NEIGHBOURHOOD[:, None, None]  # (5, layers, M, 2)
    wanted = []
    for index, layer in enumerate(layers):
        x = around[:, index, :, 0]
        y = around[:, index, :, 1]
        wanted.append(Cells(layer.maps, layer.channel[joint], y, x))

    def calculate(values: Sequence[np.ndarray]) -> np.ndarray:
        scores = np.stack(values, axis=1)  # (5, layers, M)
        return _refine(layers, cells, scores, points, limit)

    return Reading(wanted, calculate)


def _refine(
    layers: Sequence[MapLayer],
    cells: np.ndarray,
    scores: np.ndarray,
    points: np.ndarray,
    limit: float,
) -> np.ndarray:
    """The positions (M, 2), from the cells (layers, M, 2) and scores (5, layers, M) around them."""
    shift, weight = _fit_parabola(np.maximum(scores, EPSILON))
    peak_shift = np.array([layer.peak_shift for layer in layers])
    positions = cells_to_points(layers, cells + shift + peak_shift[:, None, None])
    cells_per_pixel = np.array([layer.factor for layer in layers])
    weight *= cells_per_pixel[:, None] ** 2

    weighted_sum = (weight * positions).sum(axis=0)
    total_weight = weight.sum(axis=0)
    usable = total_weight > 0
    refined = np.where(usable, weighted_sum / np.where(usable, total_weight, 1), points)
    correction = refined - points
    return points + np.clip(correction, -limit, limit)


def _fit_parabola(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shifts d and weights score^2 q, both (layers, M, 2) x, y, from scores (5, layers, M).

    The five cells are in the order of NEIGHBOURHOOD. The weight is 0 where there is no maximum.
    """
    log_scores = np.log(scores)
    middle = log_scores[0, ..., None]
    after = np.moveaxis(log_scores[1:3], 0, -1)
    before = np.moveaxis(log_scores[3:], 0, -1)

    curvature = 2 * middle - after - before
    usable = curvature > EPSILON
    shift = (after - before) / np.where(usable, 2 * curvature, np.inf)
    weight = np.where(usable, curvature * scores[0, ..., None] ** 2, 0.0)
    return np.clip(shift, -MAX_SHIFT, MAX_SHIFT), weight
