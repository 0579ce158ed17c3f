"""Mutual Refine Machine (MRM): joints move towards positions predicted by their neighbours.

An offset map holds target - pixel, so x_{j<-n} = (pixel of n) + offset, the position of joint
j predicted by its neighbour n, does not depend on where exactly the peak of n is. Every edge n
-> j of the offset layout between joints gives such a prediction: child -> parent, and with
reverse offsets parent -> child.

**precision** (TEST.MRM, default). The weighted mean of a joint's own peak and all predictions
of it,

    (1)  x_j' = (x_j / v_j + sum_n x_{j<-n} / u_n) / (1 / v_j + sum_n 1 / u_n)

    (2)  v_j = a (PEAK_SIGMA (1 - s_j) size)^2 + PEAK_FLOOR^2              (peak of score s_j)
    (3)  u_n = b OFFSET_SIGMA^2 + overlap_n                                (prediction)

with the size of the person in pixels, and overlap_n = (OVERLAP_SIGMA * max_offset_length)^2
where windows of several people overlap, else 0. A residual x_{j<-n} - x_j has variance v_j +
u_n per axis; the factors a, b are the pair of a small grid for which the residuals of the
image are most likely:

    (4)  (a, b) = argmin of the sum of log(v + u) + r^2 / (v + u),  r^2 = mean square per axis.

Where low peaks are accurate, the residuals do not grow with (1 - s_j) size: a gets small, and
the peaks stay.

**paper** (Xu et al., "A Global to Local Double Embedding Method for Multi-person Pose
Estimation", ACCV 2020).

    (5)  x_j' = (s_j x_j + sum_n s_n x_{j<-n}) / (s_j + sum_n s_n)

over parent and children n with s_n > MRM_MIN_SCORE and s_n > s_j. Without reverse offsets, the
prediction of a joint by its parent is, as published,

    (6)  x_{j<-parent} = x_parent - d_j,

with d_j the joint's own offset to the parent. Read at the peak of j this is x_j again plus the
parent's error.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from duopose.decode.decoder_settings import OVERLAP_SIGMA, DecoderSettings
from duopose.decode.people import NONE, gather
from duopose.skeletons import OffsetLayout
from duopose.types import Peaks

MRM_MIN_SCORE = 0.75  # the paper: only neighbours with a higher score are used

# Person size (square root of the area) over the root mean square distance of the joints from
# their mean. Measured on the COCO and CrowdPose annotations.
SIZE_OVER_RMS_DISTANCE = 1.75

# The grid of equation (4). Offsets are never trusted much more than OFFSET_SIGMA states,
# because overlaps of windows with people that were not found stay unnoticed.
PEAK_VARIANCE_FACTORS = np.array([0.01, 0.1, 0.25, 0.5, 1.0, 2.0])
OFFSET_VARIANCE_FACTORS = np.array([0.5, 1.0, 2.0, 4.0])

# Predictions whose squared residual is more than this many variances (three standard
# deviations, a = b = 1) are wrong groupings rather than errors, and are not used.
MAX_RESIDUAL_RATIO = 9.0

# Standard deviation in pixels of a peak of score 1. Chosen on COCO val annotations with the
# perfect-network test.
PEAK_FLOOR = 0.5


def refine_positions(
    peaks: Peaks, peak_index: np.ndarray, layout: OffsetLayout, settings: DecoderSettings
) -> np.ndarray:
    """(P, K, 2) positions of the peaks `peak_index` (P, K) after TEST.MRM; 0 where it is NONE."""
    position = gather(peaks.position, peak_index, 0.0)
    score = gather(peaks.score, peak_index, 0.0)
    if settings.mrm == "off" or not layout.num_edges or not len(peak_index):
        return position

    predictions = collect_predictions(peaks, peak_index, layout, settings.overlap_sigma)
    if settings.mrm == "paper":
        return refine_as_published(position, score, predictions, layout)
    return refine_by_precision(position, score, predictions, settings)


# ---- predictions of joints by their neighbours ----


class Predictions(NamedTuple):
    """Predicted joint positions, for P people and the E' edges between joints."""

    source: np.ndarray  # (E',) int joint that predicts
    target: np.ndarray  # (E',) int joint that is predicted
    position: np.ndarray  # (P, E', 2) peak + offset; 0 where the source has no peak
    sigma: np.ndarray  # (P, E') standard deviation used in grouping; infinite without a peak
    overlap_variance: np.ndarray  # (P, E') of the means where windows overlap, else 0
    has_source: np.ndarray  # (P, E') bool: the source has a peak
    one_hot_target: np.ndarray  # (E', K) float64: weights @ one_hot_target sums by target joint

    def sum_by_target(self, values: np.ndarray) -> np.ndarray:
        """(P, K) sums of values (P, E') over the predictions of each joint."""
        return values @ self.one_hot_target

    def weighted_sum(self, weight: np.ndarray) -> np.ndarray:
        """(P, K, 2) sums of weight (P, E') times position over the predictions of each joint."""
        axes = [self.sum_by_target(weight * self.position[..., axis]) for axis in (0, 1)]
        return np.stack(axes, axis=2)


def collect_predictions(
    peaks: Peaks,
    peak_index: np.ndarray,
    layout: OffsetLayout,
    overlap_sigma: float = OVERLAP_SIGMA,
) -> Predictions:
    """All edges between joints, at the peak of the source: child -> parent and the reverse."""
    num_joints = peak_index.shape[1]
    edges = np.flatnonzero(layout.target < num_joints)
    source = layout.source[edges]
    target = layout.target[edges]
    source_peak = peak_index[:, source]
    has_source = source_peak != NONE

    # Not `gather`: column e takes edge e of its peaks.
    position = np.zeros((*source_peak.shape, 2))
    if len(peaks.joint):
        predicted = peaks.predicted_target[source_peak, edges]
        position = np.where(has_source[..., None], predicted, 0.0)

    overlap = np.where(peaks.windows_overlap, overlap_sigma * peaks.max_offset_length, 0.0)
    return Predictions(
        source=source,
        target=target,
        position=position,
        sigma=gather(peaks.offset_sigma, source_peak, np.inf),
        overlap_variance=gather(overlap, source_peak, 0.0) ** 2,
        has_source=has_source,
        one_hot_target=(target[:, None] == np.arange(num_joints)).astype(np.float64),
    )


# ---- equations (1) to (4) ----


def refine_by_precision(
    position: np.ndarray, score: np.ndarray, predictions: Predictions, settings: DecoderSettings
) -> np.ndarray:
    """Equation (1) with the fitted variances (2) and (3).

    position: (P, K, 2). score: (P, K), 0 where the joint is missing. Returns (P, K, 2).
    """
    present = score > 0
    size = person_size(position, present)[:, None]
    peak_sigma = settings.peak_sigma * np.maximum(1 - score, 0) * size
    peak_variance = peak_sigma**2
    offset_variance = settings.offset_sigma**2

    difference = predictions.position - position[:, predictions.target]
    residual = (difference**2).mean(axis=2)
    target_variance = peak_variance[:, predictions.target]
    expected = target_variance + offset_variance + predictions.overlap_variance
    used = predictions.has_source & present[:, predictions.target]
    used &= residual < MAX_RESIDUAL_RATIO * expected

    peak_factor, offset_factor = fit_variance_factors(
        residual[used], target_variance[used], predictions.overlap_variance[used], offset_variance
    )
    peak_variance = peak_factor * peak_variance + PEAK_FLOOR**2
    prediction_variance = offset_factor * offset_variance + predictions.overlap_variance
    return precision_weighted_mean(
        position,
        np.where(present, 1 / peak_variance, 0.0),
        predictions,
        np.where(used, 1 / prediction_variance, 0.0),
    )


def person_size(position: np.ndarray, present: np.ndarray) -> np.ndarray:
    """(P,) square root of the person's area in pixels, estimated from its joints (P, K, 2)."""
    count = np.maximum(present.sum(axis=1), 1)
    weight = present / count[:, None]
    mean = (weight[..., None] * position).sum(axis=1)
    squared = ((position - mean[:, None]) ** 2).sum(axis=2)
    mean_squared = (weight * squared).sum(axis=1)
    return SIZE_OVER_RMS_DISTANCE * np.sqrt(mean_squared)


def fit_variance_factors(
    residual: np.ndarray,
    peak_variance: np.ndarray,
    overlap_variance: np.ndarray,
    offset_variance: float,
) -> tuple[float, float]:
    """Equation (4): the factors (a, b) of the highest likelihood.

    residual: (N,) mean square per axis. peak_variance: (N,) of equation (2) with a = 1, without the
    floor. overlap_variance: (N,). offset_variance: OFFSET_SIGMA^2.
    """
    grid = np.meshgrid(PEAK_VARIANCE_FACTORS, OFFSET_VARIANCE_FACTORS)
    peak_factor, offset_factor = (factors.reshape(-1, 1) for factors in grid)

    variance = peak_factor * peak_variance + PEAK_FLOOR**2
    variance = variance + offset_factor * offset_variance + overlap_variance
    variance = variance.astype(np.float32)
    cost = np.log(variance) + residual.astype(np.float32) / variance
    best = cost.sum(axis=1).argmin()
    return float(peak_factor[best, 0]), float(offset_factor[best, 0])


def precision_weighted_mean(
    position: np.ndarray,
    peak_precision: np.ndarray,
    predictions: Predictions,
    prediction_precision: np.ndarray,
) -> np.ndarray:
    """Equation (1) for precisions 1 / variance (P, K) and (P, E'); 0 where all of them are 0."""
    total = peak_precision[..., None] * position
    total += predictions.weighted_sum(prediction_precision)
    weight = peak_precision + predictions.sum_by_target(prediction_precision)

    has_peak = peak_precision > 0
    mean = total / np.where(has_peak, weight, 1.0)[..., None]
    return np.where(has_peak[..., None], mean, 0.0)


# ---- equations (5) and (6) ----


def refine_as_published(
    position: np.ndarray, score: np.ndarray, predictions: Predictions, layout: OffsetLayout
) -> np.ndarray:
    """Equation (5), with (6) where the layout has no reverse offsets. Shapes as in equation (1)."""
    mean = ScoreWeightedMean(position, score)
    has_reverse = layout.num_edges > layout.num_forward
    edges = zip(predictions.source.tolist(), predictions.target.tolist())
    for edge, (source, target) in enumerate(edges):
        predicted = predictions.position[:, edge]
        mean.add_prediction(source, target, predicted)
        if not has_reverse:
            offset = predicted - position[:, source]
            mean.add_prediction(target, source, position[:, target] - offset)
    return mean.result()


class ScoreWeightedMean:
    """The two sums of equation (5), which start with the joints' own peaks."""

    def __init__(self, position: np.ndarray, score: np.ndarray) -> None:
        self.score = score
        self.total = score[..., None] * position
        self.weight = score.copy()

    def add_prediction(self, source: int, target: int, predicted: np.ndarray) -> None:
        """Add the position (P, 2) of joint `target` predicted by joint `source`, where accepted."""
        source_score = self.score[:, source]
        target_score = self.score[:, target]
        accepted = (source_score > MRM_MIN_SCORE) & (source_score > target_score)
        accepted &= target_score > 0
        weight = np.where(accepted, source_score, 0.0)
        self.total[:, target] += weight[:, None] * predicted
        self.weight[:, target] += weight

    def result(self) -> np.ndarray:
        """(P, K, 2) refined positions, 0 for missing joints."""
        found = self.score > 0
        mean = self.total / np.where(found, self.weight, 1.0)[..., None]
        return np.where(found[..., None], mean, 0.0)
