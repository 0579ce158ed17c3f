"""What the offsets say about which peaks belong together.

Every evidence is a log-likelihood ratio, "same person" against "unrelated", of a residual r (what is said minus what is found):

    ratio(r) = max(log gain - |r|^2 / (2 sigma^2), log o),     |r|^2 summed over axes

gain is the ratio of the two densities at r = 0, o the share of outliers: a wrong offset must not outweigh everything else
(the truncated quadratic, a cheap stand-in for log(gain exp(...) + o)).
Ratios of independent evidence add up. The error of an offset grows with the length it bridges, and has a
floor: sigma^2 = floor^2 + (relative * reach)^2, reach being the longest forward offset of the peak (a foreshortened limb is no
surer than the person is small).
"""

from __future__ import annotations

import numpy as np

from duopose.skeletons import OffsetLayout
from duopose.types import Peaks

MIXED_SHARE = 0.5
LOG_GAIN_TAG = 1.5
LOG_GAIN_OFFSET = (
    3.0  # an unrelated joint's vote falls into the same few sigma about once in twenty times
)


def log_ratio(squared: np.ndarray, log_gain: float, outlier_share: float) -> np.ndarray:
    """The formula above; squared: |r|^2 / sigma^2. NaN (nothing is said) gives 0."""
    ratio = squared * -0.5
    ratio += log_gain
    np.maximum(ratio, np.log(outlier_share), out=ratio)
    ratio[np.isnan(ratio)] = 0.0
    return ratio


def height_ratio(height: np.ndarray, sure: float, weight: float) -> np.ndarray:
    """(M,) log-likelihood ratios "somebody's" against "nobody's" of peaks of that height: weight * log(height / sure), 0 from `sure` on.

    False peaks of a network get rarer with height by a power law; what is high enough is not told apart by its height any more.
    """
    return weight * np.log(np.clip(height / sure, 1e-6, 1.0))


def squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, M) float32 of points (N, D) and (M, D)."""
    first, second = first.astype(np.float32), second.astype(np.float32)
    total = np.zeros((len(first), len(second)), np.float32)
    for axis in range(first.shape[1]):
        apart = np.subtract.outer(first[:, axis], second[:, axis])
        apart *= apart
        total += apart
    return total


class RatioTable:
    """`log_ratio` of any points against M fixed ones (M, D), of which each has a precision 1 / sigma^2.

    One matrix product, -|a - b|^2 / 2 = a b - |a|^2 / 2 - |b|^2 / 2, and a maximum; the mean of the fixed points is taken off first,
    for float32's sake.
    """

    def __init__(
        self, points: np.ndarray, precision: np.ndarray, log_gain: float, outlier_share: float
    ) -> None:
        known = points[~np.isnan(points[:, 0])]
        self.middle = known.mean(axis=0) if len(known) else np.zeros(points.shape[1])
        moved = points.T - self.middle[:, None]
        half = 0.5 * (moved**2).sum(axis=0)
        columns = np.vstack(
            [moved * precision, precision, -half * precision, np.full(len(points), log_gain)]
        )
        columns[:, np.isnan(half)] = 0
        self.columns = columns.astype(np.float32)
        self.lowest = np.float32(np.log(outlier_share))

    def ratio(self, points: np.ndarray, precision: np.ndarray | float = 1.0) -> np.ndarray:
        """(N, M) float32 for points (N, D) with a factor (N,) on the fixed points' precisions; where a point or its factor is NaN, 0."""
        moved = points.T - self.middle[:, None]
        factor = precision + 0 * moved[0]  # NaN where the point is
        half = 0.5 * (moved**2).sum(axis=0)
        rows = np.vstack([moved * factor, -half * factor, factor, np.ones(len(points))])
        rows[:, np.isnan(factor)] = 0
        ratio = rows.T.astype(np.float32) @ self.columns
        return np.maximum(ratio, self.lowest, out=ratio)


def reach_of(position: np.ndarray, vote: np.ndarray, num_forward: int) -> np.ndarray:
    """(M,) length of each peak's longest forward offset in pixels; peaks without any get the mean of the others."""
    squared = ((vote[:, :num_forward] - position[:, None]) ** 2).sum(axis=2)
    reach = np.sqrt(np.where(np.isnan(squared), 0.0, squared).max(axis=1, initial=0))
    some = reach > 0
    return np.where(some, reach, reach[some].mean() if some.any() else 0.0)


def offset_sigma(
    reach: np.ndarray, windows_overlap: np.ndarray, floor: float, relative: float
) -> np.ndarray:
    """(M,) standard deviation per axis, in pixels, of what each peak's offsets say."""
    return np.hypot(floor, np.where(windows_overlap, MIXED_SHARE, relative) * reach)


def link_ratios(
    peaks: Peaks, layout: OffsetLayout, outlier_share: float, centre: int
) -> dict[tuple[int, int], np.ndarray]:
    """For each pair of linked joints (a, b) the (N_b + 1, N_a) log-likelihood ratios that a peak of b and one of a are one person's.

    Both directions of a link add up. The last row is 0: a joint that is not there says nothing.
    """
    bounds = np.searchsorted(peaks.joint, np.arange(centre + 2))
    weight, lowest = (
        (-0.5 / peaks.offset_sigma**2).astype(np.float32),
        np.float32(np.log(outlier_share)),
    )
    links: dict[tuple[int, int], np.ndarray] = {}
    for edge, (source, target) in enumerate(zip(layout.source.tolist(), layout.target.tolist())):
        if target == centre:
            continue
        from_ = slice(bounds[source], bounds[source + 1])
        to = slice(bounds[target], bounds[target + 1])
        ratio = squared_distances(peaks.position[to], peaks.predicted_target[from_, edge])
        ratio *= weight[from_]
        ratio += LOG_GAIN_OFFSET
        np.maximum(ratio, lowest, out=ratio)  # `log_ratio`; a joint's own offsets are never NaN
        for pair, matrix in (((source, target), ratio), ((target, source), ratio.T)):
            if pair not in links:
                links[pair] = np.zeros((matrix.shape[0] + 1, matrix.shape[1]), np.float32)
            links[pair][:-1] += matrix
    return links


def centre_votes(
    joint: np.ndarray, position: np.ndarray, vote: np.ndarray, layout: OffsetLayout, centre: int
) -> np.ndarray:
    """(M, 2) where each peak says its person's centre is; NaN for torso joints, a centre's own place for centres."""
    votes = np.full((len(joint), 2), np.nan)
    edge_of = np.full(centre + 1, -1)
    to_centre = np.flatnonzero(layout.target == centre)
    edge_of[layout.source[to_centre]] = to_centre
    edge = edge_of[joint]
    some = edge >= 0
    votes[some] = vote[some, edge[some]]
    own = joint == centre
    votes[own] = position[own]
    return votes
