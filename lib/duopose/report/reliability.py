"""Whether scores and standard deviations mean what they say.

A score is calibrated if, of the detections with that score, as many are right as it states. The
expected calibration error is the mean difference over bins, weighted by their size (Guo et al.,
"On Calibration of Modern Neural Networks", ICML 2017, equation 3). A standard deviation is
calibrated if the errors of the joints for which it is stated are as large.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from duopose.report.matching import NONE, Matching, similarity

SCORE_BINS = 10
# Heatmaps may exceed 1 a little. Scores further outside 0 .. 1 are no probabilities.
TOLERANCE = 0.1
SIGMA_BINS = 10
MIN_IN_BIN = 20  # joints, on average; with fewer joints there are fewer bins
# Joints further away, in roots of the area, are of another person or place: the sigma states the
# error of a joint that belongs to this person (docs/calibration.md).
MAX_ERROR = 0.2
COVERAGES = (0.5, 0.9, 0.95)
CLOSE_SIMILARITY = 0.5


@dataclass(frozen=True)
class Reliability:
    """Stated against observed values in bins."""

    stated: np.ndarray  # (bins,) mean score
    observed: np.ndarray  # (bins,) mean of what the score should be
    count: np.ndarray  # (bins,)
    # Expected calibration error; None where the scores are no probabilities (beyond 0 .. 1)
    error: float | None

    @property
    def varies(self) -> bool:
        """Whether there are different scores; some results have 1 for every joint."""
        return len(self.stated) > 1


@dataclass(frozen=True)
class SigmaReliability:
    """Stated against observed standard deviations, in bins of equal size."""

    stated: np.ndarray  # (bins,) pixels
    observed: np.ndarray  # (bins,) pixels, root mean square of the errors of x and y
    count: np.ndarray  # (bins,)
    joints: int
    rank_correlation: float  # Spearman's, of the stated value and the distance
    # Fraction of joints inside the circle that should hold each of COVERAGES
    coverage: tuple[float, ...]


def score_reliability(score: np.ndarray, truth: np.ndarray) -> Reliability:
    """Scores (n,) against what they should state (n,), e.g. 1 where right.

    Ten bins of equal width from 0 to 1; of equal size where scores lie outside.
    """
    if not len(score):
        nothing = np.zeros(0)
        return Reliability(nothing, nothing, nothing, None)

    is_probability = bool(score.min() >= -TOLERANCE and score.max() <= 1 + TOLERANCE)
    if is_probability:
        bins = np.clip((SCORE_BINS * score).astype(int), 0, SCORE_BINS - 1)
    else:
        ranks = np.argsort(np.argsort(score, kind="stable"), kind="stable")
        bins = SCORE_BINS * ranks // len(score)

    used = np.unique(bins)
    stated = np.array([score[bins == index].mean() for index in used])
    observed = np.array([truth[bins == index].mean() for index in used])
    count = np.array([(bins == index).sum() for index in used])
    error = float((np.abs(stated - observed) * count).sum() / count.sum())
    return Reliability(stated, observed, count, error if is_probability else None)


def person_reliability(matching: Matching) -> dict[str, Reliability]:
    """Scores of people against the OKS, and against being right at OKS .5.

    Detections that match an annotation that does not count are left out.
    """
    found = matching.detections
    used = ~found.ignored & ~found.ignored_at[0]
    score = found.score[used]
    is_right = (found.person_at[0] != NONE)[used]
    return {
        "mean OKS": score_reliability(score, found.oks[used]),
        "right at OKS .50": score_reliability(score, is_right.astype(float)),
    }


def joint_reliability(matching: Matching, sigmas: np.ndarray) -> Reliability:
    """Scores of the joints of matched people against being close (similarity .5) to the truth."""
    found = matching.detections
    close, usable = _close_joints(matching, sigmas)
    return score_reliability(found.keypoints[..., 2][usable], close[usable].astype(float))


def sigma_reliability(matching: Matching) -> SigmaReliability | None:
    """Stated standard deviations against errors; None where none are stated."""
    found = matching.detections
    truth = matching.truth
    rows = np.flatnonzero(found.person != NONE)
    person = found.person[rows]
    difference = found.keypoints[rows, :, :2] - truth.keypoints[person, :, :2]
    distance = np.linalg.norm(difference, axis=2)

    limit = MAX_ERROR * np.sqrt(truth.area[person])[:, None]
    stated = found.sigma[rows]
    usable = (stated > 0) & truth.labelled[person] & found.has_position[rows] & (distance <= limit)
    if usable.sum() < 2:
        return None
    return _sigma_bins(stated[usable], distance[usable])


def _sigma_bins(stated: np.ndarray, distance: np.ndarray) -> SigmaReliability:
    number_of_bins = int(np.clip(len(stated) // MIN_IN_BIN, 1, SIGMA_BINS))
    parts = np.array_split(np.argsort(stated, kind="stable"), number_of_bins)

    def root_mean_square(values: np.ndarray) -> float:
        return float(np.sqrt(np.mean(values**2)))

    # Of a circular Gaussian, the fraction 1 - exp(-r^2 / 2 sigma^2) lies within r.
    within = 1 - np.exp(-(distance**2) / (2 * stated**2))
    correlation = np.nan
    if np.ptp(stated) > 0 and np.ptp(distance) > 0:
        correlation = float(spearmanr(stated, distance).statistic)
    return SigmaReliability(
        stated=np.array([root_mean_square(stated[part]) for part in parts]),
        # The squared distance is the sum of two squared errors, x and y.
        observed=np.array([root_mean_square(distance[part]) / np.sqrt(2) for part in parts]),
        count=np.array([len(part) for part in parts]),
        joints=len(stated),
        rank_correlation=correlation,
        coverage=tuple(float((within <= fraction).mean()) for fraction in COVERAGES),
    )


def _close_joints(matching: Matching, sigmas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(D, K) bool: the joint is close to the truth; and it is found, matched and labelled."""
    found = matching.detections
    truth = matching.truth
    close = np.zeros(found.keypoints.shape[:2], dtype=bool)
    usable = np.zeros_like(close)

    rows = np.flatnonzero(found.person != NONE)
    person = found.person[rows]
    true_points = truth.keypoints[person, :, :2]
    own = similarity(found.keypoints[rows, :, :2], true_points, truth.area[person], sigmas)
    close[rows] = own >= CLOSE_SIMILARITY
    usable[rows] = truth.labelled[person] & found.has_position[rows]
    return close, usable
