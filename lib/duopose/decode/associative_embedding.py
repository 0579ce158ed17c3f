"""The baseline's grouping by tags alone: associative embedding.

Newell, Huang and Deng, "Associative Embedding: End-to-End Learning for Joint Detection and
Grouping", NeurIPS 2017, in the version of HigherHRNet (Cheng et al., CVPR 2020,
`lib/core/group.py`):

    for every joint type, torso and face first:
        cost[i, p] = 100 * round(|tag of peak i - mean tag of person p|, 1) - score of peak i
        assign the peaks to the people so that the total cost is smallest    (linear_sum_assignment)
        a peak without a person nearer than TAG_THRESHOLD starts a new person

Rounding makes people of nearly equal distance compete by the score of the peak. HigherHRNet
keys people by the value of their first tag, so that people of equal tags become one; here
people are rows of an array.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from duopose.decode.decoder_settings import DecoderSettings
from duopose.decode.people import NONE, GroupedPeople, mean_tag
from duopose.skeletons import Skeleton
from duopose.types import Peaks

FORBIDDEN_COST = 1e6  # of pairs farther apart than the threshold; above any sum of allowed costs
DISTANCE_WEIGHT = 100  # HigherHRNet's: one step of the rounded distance outweighs any score


@dataclass(frozen=True)
class TagGrouper:
    """Assigns peaks to people by their tags."""

    skeleton: Skeleton
    settings: DecoderSettings

    def group(self, peaks: Peaks) -> GroupedPeople:
        """The people found; none has a centre peak."""
        skeleton = self.skeleton
        people = self._new_people(peaks, np.zeros(0, dtype=int))

        others = (*skeleton.centre_only_indices, *skeleton.torso_indices)
        for joint in (*others, *skeleton.parents_first):
            found = np.flatnonzero((peaks.joint == joint) & ~peaks.nms_suppressed)
            person = self._assign(peaks, found, people.tag)

            unmatched = np.flatnonzero(person == NONE)
            if len(unmatched):
                person[unmatched] = len(people) + np.arange(len(unmatched))
                people = people.concatenate(self._new_people(peaks, found[unmatched]))
            people.peak_index[person, joint] = found
            people.tag = mean_tag(peaks, people.peak_index, people.tag)

        people.update_from_peaks(peaks, self.settings.offset_sigma)
        return people

    def _new_people(self, peaks: Peaks, found: np.ndarray) -> GroupedPeople:
        """A person without joints for each of the peaks."""
        no_centre_peak = np.full(len(found), NONE)
        num_joints = self.skeleton.num_keypoints
        position = peaks.position[found]
        return GroupedPeople.without_joints(no_centre_peak, peaks.tag[found], position, num_joints)

    def _assign(self, peaks: Peaks, found: np.ndarray, tag: np.ndarray) -> np.ndarray:
        """(N,) person of each peak of `found` (N,), NONE where no tag (P, T) is near enough."""
        person = np.full(len(found), NONE)
        if not len(found) or not len(tag):
            return person

        difference = peaks.tag[found][:, None] - tag[None]
        distance = np.sqrt((difference**2).mean(axis=2))
        allowed = distance < self.settings.tag_threshold
        cost = DISTANCE_WEIGHT * np.round(distance, 1) - peaks.score[found][:, None]

        row, column = linear_sum_assignment(np.where(allowed, cost, FORBIDDEN_COST))
        matched = allowed[row, column]
        person[row[matched]] = column[matched]
        return person
