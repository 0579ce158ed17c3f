"""The baseline's grouping: by tags alone (Newell et al. 2017, "Associative Embedding"; HigherHRNet's version).

Joint types come one after the other, the surest first. The peaks of a type go to the people found so far by the assignment of least
total distance |tag - mean tag of the person|; among near-equal distances the higher peak wins (the family rounds the
distance and takes off the score). A peak further than the threshold from its person starts a new one. People are rows of
an array: the family keys them by the value of their first tag, so that two equal tags become one person.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from duopose.decode.people import NOBODY, People
from duopose.decode.settings import DecoderSettings
from duopose.skeletons import Skeleton
from duopose.types import Peaks

FORBIDDEN = 1e6


@dataclass(frozen=True)
class TagGrouper:
    """Assigns peaks to people by their tags."""

    skeleton: Skeleton
    settings: DecoderSettings

    def group(self, peaks: Peaks) -> People:
        """The people found."""
        skeleton = self.skeleton
        bounds = np.searchsorted(peaks.joint, np.arange(skeleton.num_keypoints + 1))
        member = np.full((0, skeleton.num_keypoints), NOBODY)
        total, count = np.zeros((0, peaks.tag.shape[1])), np.zeros(0)
        for joint in (
            *skeleton.centre_only_indices,
            *skeleton.torso_indices,
            *skeleton.parents_first,
        ):
            found = np.arange(bounds[joint], bounds[joint + 1])
            found = found[~peaks.nms_suppressed[found]]
            person = self._assign(peaks, found, total / np.maximum(count, 1)[:, None])
            fresh = np.flatnonzero(person == NOBODY)
            person[fresh] = len(member) + np.arange(len(fresh))
            member = np.concatenate([member, np.full((len(fresh), skeleton.num_keypoints), NOBODY)])
            total = np.concatenate([total, np.zeros((len(fresh), total.shape[1]))])
            count = np.concatenate([count, np.zeros(len(fresh))])
            member[person, joint] = found
            total[person] += peaks.tag[found]
            count[person] += 1
        people = People.start(
            np.full(len(member), NOBODY),
            total,
            np.full((len(member), 2), np.nan),
            skeleton.num_keypoints,
        )
        people.member = member
        people.estimate(
            peaks, np.full_like(peaks.position, np.nan), np.zeros(len(peaks.score)), 0.0
        )
        return people

    def _assign(self, peaks: Peaks, found: np.ndarray, tag: np.ndarray) -> np.ndarray:
        """(N,) row of the person of each found peak, NOBODY where none is near enough."""
        person = np.full(len(found), NOBODY)
        if not len(found) or not len(tag):
            return person
        distance = np.sqrt(((peaks.tag[found][:, None] - tag[None]) ** 2).mean(axis=2))
        allowed = distance < self.settings.tag_threshold
        cost = np.where(
            allowed, np.round(distance, 1) * 100 - peaks.score[found][:, None], FORBIDDEN
        )
        row, column = linear_sum_assignment(cost)
        taken = allowed[row, column]
        person[row[taken]] = column[taken]
        return person
