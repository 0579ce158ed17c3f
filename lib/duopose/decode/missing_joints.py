"""Joints that were not found are looked for among the peaks of their type, other people's too, never by scanning maps per person.

Two people's joints can share one peak, or a peak was given to the wrong one. For every person p that lacks joint k and every
peak i of k, log-likelihood ratios (`limbs`) add up:
- the tag: the person's tag against the nearest one in a small window round the peak (where two joints share a peak, each leaves its
  tag on its own side of it);
- what the found neighbours' offsets say about k's place against the peak's;
- the distance from the person's centre, in units of the person's radius;
- the peak's own word on the centre. Offsets of windows that overlap are taught as their mean, so a peak that p shares with its
  owner q points to the middle of both centres, one that is q's alone to q's centre: the ratio of these two, r(vote - (c_p + c_q) / 2) /
  r(vote - c_q). One that neither got in the grouping, alone or as a person of one joint without a centre, is nobody's, and says nothing;
- the peak's height, and a penalty where somebody else has the peak.
The best peak is taken where the sum is high enough; else the neighbours' word alone is. All people of a joint are
worked out at once.
"""

from __future__ import annotations

import numpy as np

from duopose.decode.evidence import (
    LOG_GAIN_OFFSET,
    LOG_GAIN_TAG,
    height_ratio,
    log_ratio,
    squared_distances,
)
from duopose.decode.people import NOBODY, People
from duopose.decode.settings import DecoderSettings
from duopose.skeletons import OffsetLayout
from duopose.types import Peaks

LOWEST_SCORE = 0.01  # of a joint filled in without a peak, so that it counts as there
CLAIMED_PENALTY = 1.0
FEWEST = 3  # joints of people without a centre peak whose missing ones are looked for; fewer are most often false peaks
REACH = 2.0  # radii from the centre within which a joint is looked for


def fill(
    peaks: Peaks,
    people: People,
    position: np.ndarray,
    score: np.ndarray,
    layout: OffsetLayout,
    settings: DecoderSettings,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (P, K, 2), scores (P, K) with missing joints put in where something is known of them, and which (P, K) were.

    A joint found at a peak has the peak's height as score.
    """
    position, score = position.copy(), score.copy()
    missing = ~people.present
    if layout.num_edges:  # the baseline has no centres at all
        missing[(people.seed == NOBODY) & (people.present.sum(axis=1) < FEWEST)] = False
    if not missing.any():
        return position, score, missing
    place, height = Search(peaks, people, layout, settings).places(missing)
    filled = missing & ~np.isnan(place[..., 0])
    position[filled], score[filled] = place[filled], height[filled]
    return position, score, filled


class Search:
    """The evidence on missing joints of one image."""

    def __init__(
        self, peaks: Peaks, people: People, layout: OffsetLayout, settings: DecoderSettings
    ) -> None:
        self.peaks, self.people, self.layout, self.settings = peaks, people, layout, settings
        self.height_ratio = height_ratio(
            peaks.score, settings.confident_score, settings.score_weight
        )
        self.owner = np.full(len(peaks.joint), NOBODY)
        lone = (people.seed == NOBODY) & (
            people.present.sum(axis=1) == 1
        )  # most often a peak that two people share
        lone &= layout.num_edges > 0  # the baseline's people have no centres
        person, joint = np.nonzero(people.present & ~lone[:, None])
        self.owner[people.member[person, joint]] = person

    def places(self, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the joints `missing` (P, K) are, (P, K, 2), NaN where nothing is known, and their scores (P, K)."""
        place, sigma = self._predicted()
        score = np.full(missing.shape, LOWEST_SCORE)
        bounds = np.searchsorted(self.peaks.joint, np.arange(missing.shape[1] + 1))
        worth = self._worth(missing, place, sigma, bounds[-1])
        for joint in np.flatnonzero(missing.any(axis=0) & (np.diff(bounds) > 0)).tolist():
            of_joint = worth[:, bounds[joint] : bounds[joint + 1]]
            best = bounds[joint] + of_joint.argmax(axis=1)
            good = of_joint.max(axis=1) > self.settings.fill_threshold
            place[good, joint], score[good, joint] = (
                self.peaks.position[best[good]],
                self.peaks.score[best[good]],
            )
        return place, score

    def _worth(
        self, missing: np.ndarray, guess: np.ndarray, guess_sigma: np.ndarray, joints: int
    ) -> np.ndarray:
        """(P, M) summed log-likelihood ratios that a peak is a person's missing joint, -inf where it is out of the question.

        joints: the first peaks, M of them, are joints and not centres. guess, guess_sigma: as `_predicted` gives them.
        """
        peaks, people, share = self.peaks, self.people, self.settings.outlier_probability
        away = (
            squared_distances(people.centre, peaks.position[:joints])
            / (people.radius**2).astype(np.float32)[:, None]
        )
        person, peak = np.nonzero(missing[:, peaks.joint[:joints]] & ~(away > REACH**2))
        ratio = (
            self._tag_ratio(person, peak)
            + self._centre_ratio(person, peak)
            + self.height_ratio[peak]
        )
        joint = peaks.joint[peak]
        squared = ((guess[person, joint] - peaks.position[peak]) ** 2).sum(axis=1) / guess_sigma[
            person, joint
        ] ** 2
        ratio += log_ratio(squared, LOG_GAIN_OFFSET, share) + log_ratio(
            away[person, peak], 0.0, share
        )
        worth = np.full(away.shape, -np.inf)
        worth[person, peak] = ratio - CLAIMED_PENALTY * (self.owner[peak] != NOBODY)
        return worth

    def _predicted(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the found neighbours' offsets say that joints are, (P, K, 2), NaN where none says anything, and the deviations (P, K)."""
        member, joints = self.people.member, self.people.member.shape[1]
        between = np.flatnonzero(self.layout.target < joints)
        source = member[:, self.layout.source[between]]
        there = source != NOBODY
        weight = (
            np.where(there, 1 / self.peaks.offset_sigma[source] ** 2, 0.0)
            if len(self.peaks.offset_sigma)
            else np.zeros(source.shape)
        )
        vote = np.where(there[..., None], self.peaks.predicted_target[source, between], 0.0)
        onto = (self.layout.target[between, None] == np.arange(joints)).astype(
            np.float64
        )  # sums the votes of each joint
        weights = weight @ onto
        weights = np.where(weights > 0, weights, np.nan)
        total = np.stack([(weight * vote[..., axis]) @ onto for axis in (0, 1)], axis=2)
        return total / weights[..., None], 1 / np.sqrt(weights)

    def _tag_ratio(self, person: np.ndarray, peak: np.ndarray) -> np.ndarray:
        """(N,) of the people's tags against the nearest ones round the peaks."""
        around = self.peaks.tags_around[peak]
        squared = sum(
            (self.people.tag[person, index, None] - around[..., index]) ** 2
            for index in range(around.shape[2])
        )
        variance = self.settings.tag_sigma**2 * (1 + 1 / self.people.evidence[person])
        return log_ratio(
            np.min(squared, axis=1) / variance, LOG_GAIN_TAG, self.settings.outlier_probability
        )

    def _centre_ratio(self, person: np.ndarray, peak: np.ndarray) -> np.ndarray:
        """(N,) of the peaks' words on the centre: shared with the owner against the owner's alone; 0 where nobody owns the peak.

        Each of the two may count half as much as other evidence: it rests on one and the same vote.
        """
        if not self.layout.num_edges:
            return np.zeros(len(peak))
        vote, owned = self.peaks.predicted_centre[peak], self.owner[peak] != NOBODY
        own, owners = self.people.centre[person], self.people.centre[self.owner[peak]]

        def ratio(centre: np.ndarray) -> np.ndarray:
            squared = ((vote - centre) ** 2).sum(axis=1) / self.peaks.offset_sigma[peak] ** 2
            return log_ratio(squared, 0.0, np.sqrt(self.settings.outlier_probability))

        return np.where(owned, ratio((own + owners) / 2) - ratio(owners), 0.0)
