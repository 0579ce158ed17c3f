"""Joints that were not found are looked for among the peaks of their type, other people's too, never by scanning maps per person.

Two people's joints can share one peak, or a peak was given to the wrong one. For every person p that lacks joint k and every
peak i of k, log-likelihood ratios (`limbs`) add up:
- the tag: the person's tag against the nearest one in a small window round the peak (where two joints share a peak, each leaves its
  tag on its own side of it);
- what the found neighbours' offsets say about k's place against the peak's;
- the distance from the person's centre, in units of the person's radius;
- a penalty where somebody else has the peak.
The best peak is taken where the sum is high enough; else the neighbours' word alone is. All people of a joint are
worked out at once.
"""

from __future__ import annotations

import numpy as np

from duopose.decode.limbs import LOG_GAIN_OFFSET, LOG_GAIN_TAG, log_ratio, offset_sigma
from duopose.decode.people import NOBODY, People
from duopose.decode.sample import cells_of, gather, read_tags
from duopose.decode.settings import DecoderSettings
from duopose.geometry import Affine
from duopose.skeletons import OffsetLayout
from duopose.types import MapLayer, Peaks, PoseMaps

LOWEST_SCORE = 0.01  # of a filled joint, so that it counts as there
CLAIMED_PENALTY = 1.0
_IDENTITY = Affine(np.eye(2, 3))


def fill(
    peaks: Peaks, maps: PoseMaps, people: People, position: np.ndarray, score: np.ndarray, layout: OffsetLayout, settings: DecoderSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (P, K, 2), scores (P, K) with missing joints put in where something is known of them, and which (P, K) were."""
    position, score = position.copy(), score.copy()
    missing = ~people.present
    filled = np.zeros_like(missing)
    sigma = offset_sigma(peaks, layout, settings.offset_sigma, settings.offset_sigma_relative)
    claimed = np.zeros(len(peaks.joint), dtype=bool)
    claimed[people.member[people.present]] = True
    for joint in np.flatnonzero(missing.any(axis=0)).tolist():
        who = np.flatnonzero(missing[:, joint])
        guess, guess_sigma = _predicted(peaks, people.member[who], layout, joint, sigma)
        place, found = _best_peaks(peaks, maps, people.only(who), joint, guess, guess_sigma, claimed, settings)
        place = np.where(found[:, None], place, guess)
        known = ~np.isnan(place[:, 0])
        position[who[known], joint] = place[known]
        score[who[known], joint] = _heights(maps, joint, place[known])
        filled[who[known], joint] = True
    return position, score, filled


def _predicted(peaks: Peaks, member: np.ndarray, layout: OffsetLayout, joint: int, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the found neighbours' offsets say that a joint is, (P, 2), NaN where none says anything, and its deviation (P,)."""
    total, weights = np.zeros((len(member), 2)), np.zeros(len(member))
    for entry in np.flatnonzero(layout.target == joint):
        source = member[:, layout.source[entry]]
        there = source != NOBODY
        weight = 1 / sigma[source[there]] ** 2
        total[there] += weight[:, None] * peaks.vote[source[there], entry]
        weights[there] += weight
    known = weights > 0
    weights = np.where(known, weights, np.nan)
    return total / weights[:, None], 1 / np.sqrt(weights)


def _best_peaks(
    peaks: Peaks,
    maps: PoseMaps,
    people: People,
    joint: int,
    guess: np.ndarray,
    guess_sigma: np.ndarray,
    claimed: np.ndarray,
    settings: DecoderSettings,
) -> tuple[np.ndarray, np.ndarray]:
    """Place (P, 2) of each person's best peak of a joint, and whether (P,) it is good enough."""
    first, last = np.searchsorted(peaks.joint, [joint, joint + 1])
    if first == last or not len(people.seed):
        return np.zeros((len(people.seed), 2)), np.zeros(len(people.seed), dtype=bool)
    place, share = peaks.position[first:last], settings.outlier_share
    variance = settings.tag_sigma**2 * (1 + 1 / people.evidence)
    tags = _tags_around(maps, joint, place, settings.fill_radius)
    difference = ((people.tag[:, None, None] - tags[None]) ** 2).sum(axis=3).min(axis=2)
    ratio = log_ratio(difference / variance[:, None], LOG_GAIN_TAG, share)
    squared = ((guess[:, None] - place[None]) ** 2).sum(axis=2) / guess_sigma[:, None] ** 2
    ratio += np.nan_to_num(log_ratio(squared, LOG_GAIN_OFFSET, share), nan=0.0)
    distance = ((people.centre[:, None] - place[None]) ** 2).sum(axis=2) / people.radius[:, None] ** 2
    ratio += np.nan_to_num(log_ratio(distance, 0.0, share), nan=0.0)
    ratio -= CLAIMED_PENALTY * claimed[first:last]
    best = ratio.argmax(axis=1)
    return place[best], ratio.max(axis=1) > settings.fill_accept


def _tags_around(maps: PoseMaps, joint: int, place: np.ndarray, radius: int) -> np.ndarray:
    """(N, cells, T) tags in a square of cells of the tag maps round each of N places."""
    steps = np.argwhere(np.ones((2 * radius + 1, 2 * radius + 1))) - radius
    values = []
    for layer in maps.tags:
        pixels = steps * layer.frame.stride / layer.to_pass.scale
        around = (place[:, None] + pixels).reshape(-1, 2)
        values.append(read_tags([layer], np.full(len(around), joint), around).reshape(len(place), -1))
    return np.stack(values, axis=2)


def _heights(maps: PoseMaps, joint: int, points: np.ndarray) -> np.ndarray:
    """Heatmap values (N,) at points (N, 2), at least a trace, so that a filled joint counts as there."""
    cells = cells_of(MapLayer(maps.heatmaps, maps.frame, _IDENTITY, np.arange(len(maps.heatmaps))), points)
    channel = np.full(len(points), joint)
    return np.clip(gather(maps.heatmaps, channel, cells[:, 1], cells[:, 0]), LOWEST_SCORE, 1.0)
