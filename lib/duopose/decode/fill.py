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

from duopose.decode.limbs import LOG_GAIN_OFFSET, LOG_GAIN_TAG, log_ratio, offset_sigma, squared_distances
from duopose.decode.people import NOBODY, People
from duopose.decode.settings import DecoderSettings
from duopose.skeletons import OffsetLayout
from duopose.types import Peaks

LOWEST_SCORE = 0.01  # of a joint filled in without a peak, so that it counts as there
CLAIMED_PENALTY = 1.0
FEWEST = 3  # joints of people without a centre peak whose missing ones are looked for; fewer are most often false peaks
REACH = 2.0  # radii from the centre within which a joint is looked for


def fill(
    peaks: Peaks, people: People, position: np.ndarray, score: np.ndarray, layout: OffsetLayout, settings: DecoderSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (P, K, 2), scores (P, K) with missing joints put in where something is known of them, and which (P, K) were.

    A joint found at a peak has the peak's height as score.
    """
    position, score = position.copy(), score.copy()
    missing = ~people.present
    if layout.num_entries:  # the baseline has no centres at all
        missing[(people.seed == NOBODY) & (people.present.sum(axis=1) < FEWEST)] = False
    filled = np.zeros_like(missing)
    sigma = offset_sigma(peaks, settings.offset_sigma, settings.offset_sigma_relative)
    claimed = np.zeros(len(peaks.joint), dtype=bool)
    claimed[people.member[people.present]] = True
    for joint in np.flatnonzero(missing.any(axis=0)).tolist():
        who = np.flatnonzero(missing[:, joint])
        guess, guess_sigma = _predicted(peaks, people.member[who], layout, joint, sigma)
        best, found = _best_peaks(peaks, people.only(who), joint, guess, guess_sigma, claimed, settings)
        place = np.where(found[:, None], peaks.position[best], guess)
        known = ~np.isnan(place[:, 0])
        position[who[known], joint] = place[known]
        score[who[known], joint] = np.where(found, peaks.score[best], LOWEST_SCORE)[known]
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
    people: People,
    joint: int,
    guess: np.ndarray,
    guess_sigma: np.ndarray,
    claimed: np.ndarray,
    settings: DecoderSettings,
) -> tuple[np.ndarray, np.ndarray]:
    """Index (P,) of each person's best peak of a joint, and whether (P,) it is good enough."""
    first, last = np.searchsorted(peaks.joint, [joint, joint + 1])
    if first == last or not len(people.seed):
        return np.zeros(len(people.seed), dtype=int), np.zeros(len(people.seed), dtype=bool)
    away = np.sqrt(squared_distances(people.centre, peaks.position[first:last])) / people.radius[:, None]
    person, peak = np.nonzero(~(away > REACH))
    share, around = settings.outlier_share, peaks.tag_around[first + peak]
    difference = np.zeros(around.shape[:2])
    for index in range(around.shape[2]):
        difference += (people.tag[person, index, None] - around[..., index]) ** 2
    difference = difference.min(axis=1)
    ratio = log_ratio(difference / (settings.tag_sigma**2 * (1 + 1 / people.evidence[person])), LOG_GAIN_TAG, share)
    squared = ((guess[person] - peaks.position[first + peak]) ** 2).sum(axis=1) / guess_sigma[person] ** 2
    ratio += log_ratio(squared, LOG_GAIN_OFFSET, share) + log_ratio(away[person, peak] ** 2, 0.0, share)
    table = np.full(away.shape, -np.inf)
    table[person, peak] = ratio - CLAIMED_PENALTY * claimed[first + peak]
    return first + table.argmax(axis=1), table.max(axis=1) > settings.fill_accept
