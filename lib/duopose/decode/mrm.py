"""Mutual Refine Machine: uncertain joints are moved towards what their neighbours' offsets say about them.

**precision** (default). The estimates of joint j's position are its own peak and, for every offset whose target is j and whose source n
was found, the vote n's offset map casts. The map holds target - pixel, so the vote does not depend on where exactly n's
peak is; its variance is the offset's alone. Estimates are averaged with weights 1 / variance:

    peak: (p (1 - height) person size)^2 + floor^2,      vote: o^2,      vote where windows overlap: (MIXED_SHARE reach)^2 more.

p and o are PEAK_SIGMA and OFFSET_SIGMA times factors that fit the image: votes minus peaks have variance peak + vote, so
the factors of the highest likelihood of all its residuals are taken (a small grid). A network whose low peaks are in
the right place shows it by residuals that do not grow with (1 - height) size, and they are left where they are.

**paper**. x_j' = (s_j x_j + sum s_n x_{j<-n}) / (s_j + sum s_n) over parent and children with s_n > 0.75 and s_n > s_j;
x_{j<-child} is the child's vote, x_{j<-parent} the parent's vote where there are reverse offsets, else x_parent - d_j as
published, which is the joint's own peak again (the joint's offset map is read at that peak) plus the parent's error.
"""

from __future__ import annotations

import numpy as np

from duopose.decode.evidence import MIXED_SHARE
from duopose.decode.settings import DecoderSettings
from duopose.skeletons import OffsetLayout
from duopose.types import Peaks

CERTAIN = 0.75  # the paper's threshold for a neighbour worth listening to
SIZE_OF_RADIUS = 1.75  # person size (square root of the area) over root mean square distance of joints from their mean
PEAK_FACTORS = np.array([0.01, 0.1, 0.25, 0.5, 1.0, 2.0])  # tried on the variance of peaks
VOTE_FACTORS = np.array(
    [0.5, 1.0, 2.0, 4.0]
)  # and on that of votes; never trusted much more than stated, for the hidden overlaps
BELIEVED = 9.0  # variances, as stated by the settings, that a vote may lie away from the peak; further is a wrong grouping more than an error
PEAK_FLOOR = 0.5  # standard deviation in pixels of the best peak


def person_size(position: np.ndarray, present: np.ndarray) -> np.ndarray:
    """(P,) square root of the person's area, as its joints (P, K, 2) suggest; factor measured on COCO and CrowdPose."""
    count = np.maximum(present.sum(axis=1), 1)
    weight = present / count[:, None]
    mean = (weight[..., None] * position).sum(axis=1)
    squared = ((position - mean[:, None]) ** 2).sum(axis=2)
    return SIZE_OF_RADIUS * np.sqrt((weight * squared).sum(axis=1))


def refine(
    peaks: Peaks, member: np.ndarray, layout: OffsetLayout, settings: DecoderSettings
) -> np.ndarray:
    """(P, K, 2) refined positions of the peaks `member` (P, K; -1 where absent)."""
    present = member >= 0
    index = np.where(present, member, 0)
    position = np.where(present[..., None], peaks.position[index], 0.0)
    score = np.where(present, peaks.score[index], 0.0)
    if settings.mrm == "off" or not layout.num_edges or not len(member):
        return position
    if settings.mrm == "paper":
        return _paper(peaks, layout, index, position, score)
    return _precision(peaks, layout, settings, index, position, score)


def _precision(
    peaks: Peaks,
    layout: OffsetLayout,
    settings: DecoderSettings,
    index: np.ndarray,
    position: np.ndarray,
    score: np.ndarray,
) -> np.ndarray:
    present, joints = score > 0, position.shape[1]
    between = np.flatnonzero(layout.target < joints)
    source, target = layout.source[between], layout.target[between]
    both = present[:, source] & present[:, target]
    vote = np.where(both[..., None], peaks.predicted_target[index[:, source], between], 0.0)
    windows_overlap = (
        np.where(peaks.windows_overlap, MIXED_SHARE * peaks.max_offset_length, 0.0)[
            index[:, source]
        ]
        ** 2
    )
    doubt = (np.maximum(1 - score, 0) * person_size(position, present)[:, None]) ** 2
    residual = ((vote - position[:, target]) ** 2).sum(axis=2) / 2
    stated = settings.peak_sigma**2 * doubt[:, target] + settings.offset_sigma**2 + windows_overlap
    both &= residual < BELIEVED * stated
    peak_factor, vote_factor = _fitting_factors(
        residual[both], doubt[:, target][both], windows_overlap[both], settings
    )
    weight = np.where(
        present, 1 / (peak_factor * settings.peak_sigma**2 * doubt + PEAK_FLOOR**2), 0.0
    )
    vote_weight = np.where(
        both, 1 / (vote_factor * settings.offset_sigma**2 + windows_overlap), 0.0
    )
    onto = (target[:, None] == np.arange(joints)).astype(np.float64)  # sums the votes of each joint
    weights = weight + vote_weight @ onto
    total = weight[..., None] * position + np.stack(
        [(vote_weight * vote[..., axis]) @ onto for axis in (0, 1)], axis=2
    )
    return np.where(present[..., None], total / np.where(present, weights, 1)[..., None], 0.0)


def _fitting_factors(
    residual: np.ndarray, doubt: np.ndarray, windows_overlap: np.ndarray, settings: DecoderSettings
) -> tuple[float, float]:
    """Factors on the variances of peaks and votes that make the residuals (N,), mean square per axis, most likely."""
    peak, vote = (grid.reshape(-1, 1) for grid in np.meshgrid(PEAK_FACTORS, VOTE_FACTORS))
    variance = (
        peak * settings.peak_sigma**2 * doubt
        + vote * settings.offset_sigma**2
        + windows_overlap
        + PEAK_FLOOR**2
    )
    variance = variance.astype(np.float32)
    best = (np.log(variance) + residual.astype(np.float32) / variance).sum(axis=1).argmin()
    return float(peak[best, 0]), float(vote[best, 0])


def _paper(
    peaks: Peaks, layout: OffsetLayout, index: np.ndarray, position: np.ndarray, score: np.ndarray
) -> np.ndarray:
    total, weights = score[..., None] * position, score.copy()
    reverse = layout.num_edges > layout.num_forward
    for edge, (source, target) in enumerate(zip(layout.source.tolist(), layout.target.tolist())):
        if target == position.shape[1]:
            continue
        vote = peaks.predicted_target[index[:, source], edge]
        listen(total, weights, score, source, target, vote)
        if not reverse:
            listen(
                total,
                weights,
                score,
                target,
                source,
                position[:, target] - (vote - position[:, source]),
            )
    return np.where(score[..., None] > 0, total / np.where(score > 0, weights, 1)[..., None], 0.0)


def listen(
    total: np.ndarray,
    weights: np.ndarray,
    score: np.ndarray,
    from_: int,
    to: int,
    estimate: np.ndarray,
) -> None:
    """Add the estimate (P, 2) of joint `to` by joint `from_` where the paper's conditions hold; sums are changed in place."""
    heard = (score[:, from_] > CERTAIN) & (score[:, from_] > score[:, to]) & (score[:, to] > 0)
    weight = np.where(heard, score[:, from_], 0.0)
    total[:, to] += weight[:, None] * np.where(heard[:, None], estimate, 0.0)
    weights[:, to] += weight
