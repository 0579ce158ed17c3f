"""Mutual Refine Machine: uncertain joints are moved towards what their neighbours' offsets say about them.

**precision** (default). The estimates of joint j's position are its own peak and, for every offset whose target is j and whose source n
was found, the vote n's offset map casts. The map holds target - pixel, so the vote does not depend on where exactly n's
peak is; its variance is the offset's alone. Estimates are averaged with weights 1 / variance.

**paper**. x_j' = (s_j x_j + sum s_n x_{j<-n}) / (s_j + sum s_n) over parent and children with s_n > 0.75 and s_n > s_j;
x_{j<-child} is the child's vote, x_{j<-parent} the parent's vote where there are reverse offsets, else x_parent - d_j as
published, which is the joint's own peak again (the joint's offset map is read at that peak) plus the parent's error.
"""

from __future__ import annotations

import numpy as np

from duopose.decode.limbs import offset_sigma
from duopose.decode.settings import DecoderSettings
from duopose.skeletons import OffsetLayout
from duopose.types import Peaks

CERTAIN = 0.75  # the paper's threshold for a neighbour worth listening to
SIZE_OF_RADIUS = 1.75  # person size (square root of the area) over root mean square distance of joints from their mean
PEAK_FLOOR = 0.5  # standard deviation in pixels of the best peak


def person_size(position: np.ndarray, present: np.ndarray) -> np.ndarray:
    """(P,) square root of the person's area, as its joints (P, K, 2) suggest; factor measured on COCO and CrowdPose."""
    count = np.maximum(present.sum(axis=1), 1)
    weight = present / count[:, None]
    mean = (weight[..., None] * position).sum(axis=1)
    squared = ((position - mean[:, None]) ** 2).sum(axis=2)
    return SIZE_OF_RADIUS * np.sqrt((weight * squared).sum(axis=1))


def refine(peaks: Peaks, member: np.ndarray, layout: OffsetLayout, settings: DecoderSettings) -> np.ndarray:
    """(P, K, 2) refined positions of the peaks `member` (P, K; -1 where absent)."""
    present = member >= 0
    index = np.where(present, member, 0)
    position = np.where(present[..., None], peaks.position[index], 0.0)
    score = np.where(present, peaks.score[index], 0.0)
    if settings.mrm == "off" or not layout.num_entries or not len(member):
        return position
    if settings.mrm == "paper":
        return _paper(peaks, layout, index, position, score)
    return _precision(peaks, layout, settings, index, position, score)


def _precision(
    peaks: Peaks, layout: OffsetLayout, settings: DecoderSettings, index: np.ndarray, position: np.ndarray, score: np.ndarray
) -> np.ndarray:
    present = score > 0
    size = person_size(position, present)[:, None]
    own = (settings.peak_sigma * np.maximum(1 - score, 0) * size) ** 2 + PEAK_FLOOR**2
    weight = np.where(present, 1 / own, 0.0)
    total, weights = weight[..., None] * position, weight.copy()
    sigma = offset_sigma(peaks, settings.offset_sigma, 0.0)
    for entry, (source, target) in enumerate(zip(layout.source, layout.target)):
        if target == position.shape[1]:
            continue
        both = present[:, source] & present[:, target]
        vote_weight = np.where(both, 1 / sigma[index[:, source]] ** 2, 0.0)
        vote = np.where(both[:, None], peaks.vote[index[:, source], entry], 0.0)
        total[:, target] += vote_weight[:, None] * vote
        weights[:, target] += vote_weight
    return np.where(present[..., None], total / np.where(present, weights, 1)[..., None], 0.0)


def _paper(peaks: Peaks, layout: OffsetLayout, index: np.ndarray, position: np.ndarray, score: np.ndarray) -> np.ndarray:
    total, weights = score[..., None] * position, score.copy()
    reverse = layout.num_entries > layout.num_forward
    for entry, (source, target) in enumerate(zip(layout.source.tolist(), layout.target.tolist())):
        if target == position.shape[1]:
            continue
        vote = peaks.vote[index[:, source], entry]
        listen(total, weights, score, source, target, vote)
        if not reverse:
            listen(total, weights, score, target, source, position[:, target] - (vote - position[:, source]))
    return np.where(score[..., None] > 0, total / np.where(score > 0, weights, 1)[..., None], 0.0)


def listen(total: np.ndarray, weights: np.ndarray, score: np.ndarray, from_: int, to: int, estimate: np.ndarray) -> None:
    """Add the estimate (P, 2) of joint `to` by joint `from_` where the paper's conditions hold; sums are changed in place."""
    heard = (score[:, from_] > CERTAIN) & (score[:, from_] > score[:, to]) & (score[:, to] > 0)
    weight = np.where(heard, score[:, from_], 0.0)
    total[:, to] += weight[:, None] * np.where(heard[:, None], estimate, 0.0)
    weights[:, to] += weight
