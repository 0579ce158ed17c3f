"""What the offsets say about which peaks belong together.

Every evidence is a log-likelihood ratio, "same person" against "unrelated", of a residual r (what is said minus what is found):

    ratio(r) = log((1 - o) gain exp(-|r|^2 / (2 sigma^2)) + o),     |r|^2 summed over axes

o is the share of outliers (a wrong offset must not outweigh everything else), gain the ratio of the two densities at
r = 0. Ratios of independent evidence add up. The error of an offset grows with the length it bridges, and has a floor:
sigma^2 = floor^2 + (relative * reach)^2, reach being the longest forward offset of the peak (a foreshortened limb is no surer
than the person is small).
"""

from __future__ import annotations

import numpy as np

from duopose.skeletons import OffsetLayout
from duopose.types import Peaks

MIXED_SHARE = 0.5
LOG_GAIN_TAG = 1.5
LOG_GAIN_OFFSET = 3.0  # an unrelated joint's vote falls into the same few sigma about once in twenty times


def log_ratio(squared: np.ndarray, log_gain: float | np.ndarray, outlier_share: float) -> np.ndarray:
    """The formula above; squared: |r|^2 / sigma^2."""
    return np.log((1 - outlier_share) * np.exp(log_gain - 0.5 * squared) + outlier_share)


def offset_sigma(peaks: Peaks, layout: OffsetLayout, floor: float, relative: float) -> np.ndarray:
    """(M,) standard deviation per axis, in pixels, of what each peak's offsets say; peaks without forward offsets get the mean reach."""
    forward = peaks.vote[:, : layout.num_forward] - peaks.position[:, None]
    length = np.linalg.norm(forward, axis=2)
    known = ~np.isnan(length)
    reach = np.where(known, length, 0).max(axis=1, initial=0)
    some = known.any(axis=1)
    reach = np.where(some, reach, reach[some].mean() if some.any() else 0.0)
    return np.hypot(floor, np.where(peaks.mixed, MIXED_SHARE, relative) * reach)


def link_ratios(
    peaks: Peaks, layout: OffsetLayout, sigma: np.ndarray, outlier_share: float, centre: int
) -> dict[tuple[int, int], np.ndarray]:
    """For each pair of linked joints (a, b) the (N_a + 1, N_b + 1) log-likelihood ratios that a peak of a and one of b are one person's.

    Both directions of a link add up. The last row and column are 0: a joint that is not there says nothing.
    """
    bounds = np.searchsorted(peaks.joint, np.arange(centre + 2))
    links: dict[tuple[int, int], np.ndarray] = {}
    for entry, (source, target) in enumerate(zip(layout.source.tolist(), layout.target.tolist())):
        if target == centre:
            continue
        from_ = slice(bounds[source], bounds[source + 1])
        to = slice(bounds[target], bounds[target + 1])
        residual = peaks.vote[from_, entry][:, None] - peaks.position[to][None]
        squared = (residual**2).sum(axis=2) / sigma[from_, None] ** 2
        ratio = np.zeros((residual.shape[0] + 1, residual.shape[1] + 1))
        ratio[:-1, :-1] = log_ratio(squared, LOG_GAIN_OFFSET, outlier_share)
        for pair, matrix in (((source, target), ratio), ((target, source), ratio.T)):
            links[pair] = links[pair] + matrix if pair in links else matrix
    return links


def centre_votes(peaks: Peaks, layout: OffsetLayout, centre: int) -> np.ndarray:
    """(M, 2) where each peak says its person's centre is; NaN for torso joints, a centre's own place for centres."""
    votes = np.full((len(peaks.joint), 2), np.nan)
    entry_of = np.full(centre + 1, -1)
    to_centre = np.flatnonzero(layout.target == centre)
    entry_of[layout.source[to_centre]] = to_centre
    entry = entry_of[peaks.joint]
    some = entry >= 0
    votes[some] = peaks.vote[some, entry[some]]
    own = peaks.joint == centre
    votes[own] = peaks.position[own]
    return votes
