"""Peaks to people: which peak is whose, from all evidence at once.

A *person* is a tag, a centre and a size, at first those of a centre peak. Each joint type's peaks are assigned to the people
together, by the assignment that maximises the sum of log-likelihood ratios (`limbs`): tag against the person's tag, vote for the centre
against the person's centre, and the links to the peaks that the person already has (parent and children, both directions). Then
tags, centres and sizes are re-estimated from the members, and the assignment is done again: block-coordinate ascent of one
joint likelihood, every block solved optimally (`scipy.optimize.linear_sum_assignment`).

Peaks that nobody wants start people of their own (a person whose centre has no peak, or lies under another's); in the next
sweeps all people compete again. People are rows of an array, never a tag's value; ties go to the earlier row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from duopose.decode.evidence import (
    LOG_GAIN_OFFSET,
    LOG_GAIN_TAG,
    RatioTable,
    height_ratio,
    link_ratios,
    log_ratio,
    squared_distances,
)
from duopose.decode.people import NOBODY, People
from duopose.decode.settings import DecoderSettings
from duopose.skeletons import OffsetLayout, Skeleton
from duopose.types import Peaks

EXTENT = 2.0  # joints of one person lie about so many reaches (longest offsets) apart at most


@dataclass(frozen=True)
class Grouper:
    """Assigns peaks to people; one object per skeleton and settings."""

    skeleton: Skeleton
    layout: OffsetLayout
    settings: DecoderSettings

    def group(self, peaks: Peaks) -> People:
        """The people that have any joint."""
        scene = Scene(self.skeleton, self.layout, self.settings, peaks)
        people = scene.from_centres()
        scene.settle(people)
        before = len(people.seed)
        people, singles = scene.add_leftovers(people)
        if len(people.seed) > before:
            scene.settle(people)
        people = people.join(scene.still_free(people, singles))
        return people.only(np.flatnonzero(people.present.any(axis=1)))


class Scene:
    """The evidence of one image's peaks, worked out once."""

    def __init__(
        self, skeleton: Skeleton, layout: OffsetLayout, settings: DecoderSettings, peaks: Peaks
    ) -> None:
        self.settings, self.peaks, self.centre = settings, peaks, skeleton.centre
        self.bounds = np.searchsorted(peaks.joint, np.arange(skeleton.centre + 2)).tolist()
        self.precision = 1 / peaks.offset_sigma**2
        joints, share = slice(0, self.bounds[skeleton.centre]), settings.outlier_probability
        ones = np.ones(self.bounds[skeleton.centre])
        self.tag_table = RatioTable(peaks.tag[joints], ones, LOG_GAIN_TAG, share)
        self.vote_table = RatioTable(
            self.peaks.predicted_centre[joints], self.precision[joints], LOG_GAIN_OFFSET, share
        )
        self.place_table = RatioTable(peaks.position[joints], ones, 0.0, share)
        self.links = link_ratios(peaks, layout, settings.outlier_probability, skeleton.centre)
        self.neighbours = [
            [b for a, b in self.links if a == joint] for joint in range(skeleton.num_keypoints)
        ]
        self.chain = skeleton.parents_first
        others = [*skeleton.centre_only_indices, *skeleton.torso_indices]
        self.order, self.first_order = (
            [*others, *self.chain],
            [*self.chain[::-1], *others],
        )  # torso joints know no centre: limbs first
        toll = settings.join_threshold + settings.nms_suppressed_penalty * peaks.nms_suppressed
        toll -= height_ratio(peaks.score, settings.confident_score, settings.score_weight)
        self.toll = toll[joints].astype(np.float32)

    def from_centres(self) -> People:
        """One person a centre peak."""
        seed = np.arange(self.bounds[self.centre], self.bounds[self.centre + 1])
        seed = seed[~self.peaks.nms_suppressed[seed]]
        return People.start(seed, self.peaks.tag[seed], self.peaks.position[seed], self.centre)

    def settle(self, people: People) -> None:
        """Sweep until nothing changes, or the settings' number of sweeps is done."""
        if not len(people.seed) or not self.bounds[self.centre]:
            return
        starts = np.array(self.bounds[: self.centre])[:, None]
        chosen = np.where(people.present.T, people.member.T - starts, NOBODY)
        for sweep in range(self.settings.max_iterations):
            before = chosen.copy()
            unary = self._unary(people)
            self._assign_all(self.order if sweep else self.first_order, chosen, unary)
            undisputed = self._undisputed(
                np.where(chosen == NOBODY, NOBODY, chosen + starts), unary
            )
            if not (sweep or undisputed):
                self._assign_all(
                    self.chain, chosen, unary
                )  # once more, now that their torso joints are known
            people.member = np.where(chosen == NOBODY, NOBODY, chosen + starts).T
            if np.array_equal(before, chosen):
                break
            people.estimate(
                self.peaks,
                self.peaks.predicted_centre,
                self.precision,
                4 / self.settings.offset_sigma**2,
            )
            people.radius = np.maximum(people.radius, 2 * self.settings.offset_sigma)
            if undisputed:
                break

    def _undisputed(self, member: np.ndarray, unary: np.ndarray) -> bool:
        """Whether every peak belongs to the person whom its own evidence favours, so that going on would find nothing to change.

        member: (K, P) index of each person's peaks, NOBODY where there is none.
        """
        owner = np.full(unary.shape[1], NOBODY)
        joint, person = np.nonzero(member != NOBODY)
        owner[member[joint, person]] = person
        return np.array_equal(owner, unary.argmax(axis=0))

    def _assign_all(self, joints: Sequence[int], chosen: np.ndarray, unary: np.ndarray) -> None:
        for joint in joints:
            self._assign(joint, chosen, unary)

    def _unary(self, people: People) -> np.ndarray:
        """(P, M) log-likelihood ratios of tag, centre and distance, less what a peak needs to join; joints only."""
        tag_precision = 1 / (self.settings.tag_sigma**2 * (1 + 1 / people.evidence))
        ratio = self.tag_table.ratio(people.tag, tag_precision)
        ratio += self.vote_table.ratio(people.centre)
        ratio += self.place_table.ratio(people.centre, 1 / people.radius**2)
        ratio -= self.toll
        return ratio

    def _assign(self, joint: int, chosen: np.ndarray, unary: np.ndarray) -> None:
        """The best assignment of one joint type's peaks, everything else as it is.

        chosen: (K, P) each person's peak of each type, counted within the type, NOBODY where there is none; changed in place.
        """
        own = chosen[joint]
        own.fill(NOBODY)
        first, last = self.bounds[joint], self.bounds[joint + 1]
        if first == last:
            return
        worth = unary[:, first:last]
        for neighbour in self.neighbours[joint]:
            worth = worth + self.links[joint, neighbour].take(
                chosen[neighbour], axis=0
            )  # NOBODY is -1, the row of zeros
        worth = np.maximum(worth, 0.0)
        person, peak = linear_sum_assignment(worth, maximize=True)
        taken = worth[person, peak] > 0
        own[person[taken]] = peak[taken]

    # ---- people without a centre peak ----

    def add_leftovers(self, people: People) -> tuple[People, np.ndarray]:
        """More people from the peaks that belong to nobody: the strongest starts one, and takes along what fits to it.

        Returns all people, and the peaks that are left alone.
        """
        left = self._free(people)
        if not len(left):
            return people, left
        groups = _greedy_groups(self._affinity(left), self.peaks.joint[left])
        singles = np.array([left[group[0]] for group in groups if len(group) == 1], dtype=int)
        several = [left[group] for group in groups if len(group) > 1]
        if several:
            tag = np.array([self.peaks.tag[group].mean(axis=0) for group in several])
            centre = np.array(
                [_mean_or_nan(self.peaks.predicted_centre[group]) for group in several]
            )
            fresh = People.start(np.full(len(several), NOBODY), tag, centre, self.centre)
            fresh.evidence = np.array([float(len(group)) for group in several])
            people = people.join(fresh)
        return people, singles

    def _free(self, people: People) -> np.ndarray:
        """Peaks that belong to nobody and may start people, best first."""
        free = ~self.peaks.nms_suppressed[: self.bounds[self.centre]]
        free &= self.peaks.score[: len(free)] >= self.settings.start_threshold
        free[people.member[people.present]] = False
        left = np.flatnonzero(free)
        return left[np.argsort(-self.peaks.score[left], kind="stable")][: self.settings.max_people]

    def still_free(self, people: People, singles: np.ndarray) -> People:
        """People of one joint each, from the peaks of `singles` that nobody took in the end."""
        alone = np.setdiff1d(singles, people.member[people.present])
        fresh = People.start(
            np.full(len(alone), NOBODY),
            self.peaks.tag[alone],
            self.peaks.position[alone],
            self.centre,
        )
        fresh.member[np.arange(len(alone)), self.peaks.joint[alone]] = alone
        if len(alone):
            fresh.estimate(self.peaks, self.peaks.predicted_centre, self.precision, 0.0)
        return fresh

    def _affinity(self, left: np.ndarray) -> np.ndarray:
        """(L, L) log-likelihood ratios that two left-over peaks are one person's."""
        peaks, share = self.peaks, self.settings.outlier_probability
        tags, votes, variance = (
            peaks.tag[left],
            self.peaks.predicted_centre[left],
            self.peaks.offset_sigma[left] ** 2,
        )
        ratio = log_ratio(
            squared_distances(tags, tags) / (2 * self.settings.tag_sigma**2), LOG_GAIN_TAG, share
        )
        ratio += log_ratio(
            squared_distances(votes, votes) / np.add.outer(variance, variance),
            LOG_GAIN_OFFSET,
            share,
        )
        extent = (
            EXTENT * np.add.outer(peaks.max_offset_length[left], peaks.max_offset_length[left]) / 2
        )
        away = squared_distances(peaks.position[left], peaks.position[left])
        ratio += log_ratio(away / np.maximum(extent, self.settings.offset_sigma) ** 2, 0.0, share)
        places = [np.flatnonzero(peaks.joint[left] == joint) for joint in range(self.centre)]
        for (a, b), link in self.links.items():
            row, column = places[a], places[b]
            ratio[row[:, None], column] += link[
                left[column] - self.bounds[b], (left[row] - self.bounds[a])[:, None]
            ]
        return ratio


def _greedy_groups(fits: np.ndarray, joint: np.ndarray) -> list[np.ndarray]:
    """Groups of indices, at most one of a joint type each; each group is what fits the first free one with a ratio above 0."""
    free = np.ones(len(joint), dtype=bool)
    partners = (fits > 0) & np.not_equal.outer(joint, joint)
    social = partners.any(axis=1)
    groups = []
    for start in range(len(joint)):
        if not free[start]:
            continue
        if not social[start]:
            groups.append(np.array([start]))
            continue
        fitting = np.flatnonzero(free & partners[start])
        order = fitting[np.argsort(-fits[start, fitting], kind="stable")]
        _, first = np.unique(joint[order], return_index=True)
        group = np.append(start, order[first])
        free[group] = False
        groups.append(group)
    return groups


def _mean_or_nan(votes: np.ndarray) -> np.ndarray:
    known = votes[~np.isnan(votes[:, 0])]
    return known.mean(axis=0) if len(known) else np.full(2, np.nan)
