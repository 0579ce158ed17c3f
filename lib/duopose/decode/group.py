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

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from duopose.decode.limbs import LOG_GAIN_OFFSET, LOG_GAIN_TAG, centre_votes, link_ratios, log_ratio, offset_sigma
from duopose.decode.people import NOBODY, People
from duopose.decode.settings import DecoderSettings
from duopose.skeletons import OffsetLayout, Skeleton
from duopose.types import Peaks


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
        for _ in range(self.settings.sweeps):
            scene.sweep(people)
        people = scene.add_leftovers(people)
        for _ in range(self.settings.sweeps):
            scene.sweep(people)
        return people.only(np.flatnonzero(people.present.any(axis=1)))


class Scene:
    """The evidence of one picture's peaks, worked out once."""

    def __init__(self, skeleton: Skeleton, layout: OffsetLayout, settings: DecoderSettings, peaks: Peaks) -> None:
        self.settings, self.peaks, self.centre = settings, peaks, skeleton.centre
        self.bounds = np.searchsorted(peaks.joint, np.arange(skeleton.centre + 2))
        self.sigma = offset_sigma(peaks, layout, settings.offset_sigma, settings.offset_sigma_relative)
        self.votes = centre_votes(peaks, layout, skeleton.centre)
        self.links = link_ratios(peaks, layout, self.sigma, settings.outlier_share, skeleton.centre)
        self.neighbours = [[b for a, b in self.links if a == joint] for joint in range(skeleton.num_keypoints)]
        self.order = [*skeleton.centre_only_indices, *skeleton.chain_order[::-1], *skeleton.torso_indices, *skeleton.chain_order]
        self.penalty = settings.secondary_penalty * peaks.secondary

    def from_centres(self) -> People:
        """One person a centre peak."""
        seed = np.arange(self.bounds[self.centre], self.bounds[self.centre + 1])
        seed = seed[~self.peaks.secondary[seed]]
        return People.start(seed, self.peaks.tag[seed], self.peaks.position[seed], self.centre)

    def sweep(self, people: People) -> None:
        """Assign every joint type once, given the rest, and estimate the people anew."""
        if not len(people.seed) or not self.bounds[self.centre]:
            return
        unary = self._unary(people)
        for joint in self.order:
            self._assign(joint, people, unary)
        people.estimate(self.peaks, self.votes, 1 / self.sigma**2, 4 / self.settings.offset_sigma**2)
        people.radius = np.maximum(people.radius, 2 * self.settings.offset_sigma)

    def _unary(self, people: People) -> np.ndarray:
        """(M, P) log-likelihood ratios of tag, centre and distance, joints only."""
        joints = slice(0, self.bounds[self.centre])
        share, tag_variance = self.settings.outlier_share, self.settings.tag_sigma**2 * (1 + 1 / people.evidence)
        difference = ((self.peaks.tag[joints, None] - people.tag[None]) ** 2).sum(axis=2)
        ratio = log_ratio(difference / tag_variance, LOG_GAIN_TAG, share)
        ratio -= self.penalty[joints, None]
        votes = self.votes[joints]
        squared = ((votes[:, None] - people.centre[None]) ** 2).sum(axis=2) / self.sigma[joints, None] ** 2
        ratio += np.nan_to_num(log_ratio(squared, LOG_GAIN_OFFSET, share), nan=0.0)
        distance = ((self.peaks.position[joints, None] - people.centre[None]) ** 2).sum(axis=2) / people.radius**2
        ratio += np.nan_to_num(log_ratio(distance, 0.0, share), nan=0.0)
        return ratio

    def _assign(self, joint: int, people: People, unary: np.ndarray) -> None:
        """The best assignment of one joint type's peaks, everything else as it is."""
        first, last = self.bounds[joint], self.bounds[joint + 1]
        people.member[:, joint] = NOBODY
        if first == last:
            return
        ratio = unary[first:last].copy()
        for neighbour in self.neighbours[joint]:
            chosen = people.member[:, neighbour]
            place = np.where(chosen == NOBODY, -1, chosen - self.bounds[neighbour])
            ratio += self.links[joint, neighbour][:-1, place]
        worth = np.maximum(ratio - self.settings.accept, 0.0)
        peak, person = linear_sum_assignment(worth, maximize=True)
        taken = worth[peak, person] > 0
        people.member[person[taken], joint] = first + peak[taken]

    # ---- people without a centre peak ----

    def add_leftovers(self, people: People) -> People:
        """More people from the peaks that belong to nobody: the strongest starts one, and takes along what fits to it."""
        free = np.ones(self.bounds[self.centre], dtype=bool)
        free[people.member[people.member != NOBODY]] = False
        free &= ~self.peaks.secondary[: len(free)] & (self.peaks.score[: len(free)] >= self.settings.start_threshold)
        left = np.flatnonzero(free)
        if not len(left):
            return people
        left = left[np.argsort(-self.peaks.score[left], kind="stable")][: self.settings.max_people]
        fits = self._affinity(left)
        groups = _greedy_groups(fits, self.peaks.joint[left])
        tag = np.array([self.peaks.tag[left[group]].mean(axis=0) for group in groups])
        votes = self.votes[left]
        centre = np.array([_mean_or_nan(votes[group]) for group in groups])
        fresh = People.start(np.full(len(groups), NOBODY), tag, centre, self.centre)
        fresh.evidence = np.array([float(len(group)) for group in groups])
        return people.join(fresh)

    def _affinity(self, left: np.ndarray) -> np.ndarray:
        """(L, L) log-likelihood ratios that two left-over peaks are one person's."""
        peaks, share = self.peaks, self.settings.outlier_share
        difference = ((peaks.tag[left][:, None] - peaks.tag[left][None]) ** 2).sum(axis=2)
        ratio = log_ratio(difference / (2 * self.settings.tag_sigma**2), LOG_GAIN_TAG, share)
        votes, variance = self.votes[left], self.sigma[left] ** 2
        squared = ((votes[:, None] - votes[None]) ** 2).sum(axis=2) / (variance[:, None] + variance[None])
        ratio += np.nan_to_num(log_ratio(squared, LOG_GAIN_OFFSET, share), nan=0.0)
        for (a, b), link in self.links.items():
            row = np.flatnonzero(peaks.joint[left] == a)
            column = np.flatnonzero(peaks.joint[left] == b)
            ratio[np.ix_(row, column)] += link[np.ix_(left[row] - self.bounds[a], left[column] - self.bounds[b])]
        return ratio


def _greedy_groups(fits: np.ndarray, joint: np.ndarray) -> list[np.ndarray]:
    """Groups of indices, at most one of a joint type each; each group is what fits the first free one with a ratio above 0."""
    free = np.ones(len(joint), dtype=bool)
    groups = []
    for start in range(len(joint)):
        if not free[start]:
            continue
        order = np.argsort(-fits[start], kind="stable")
        order = order[free[order] & (fits[start, order] > 0) & (joint[order] != joint[start])]
        _, first = np.unique(joint[order], return_index=True)
        group = np.append(start, order[first])
        free[group] = False
        groups.append(group)
    return groups


def _mean_or_nan(votes: np.ndarray) -> np.ndarray:
    known = votes[~np.isnan(votes[:, 0])]
    return known.mean(axis=0) if len(known) else np.full(2, np.nan)
