"""Grouping: which peak belongs to which person, from all evidence together (Double Embedding).

A person has a tag, a centre and a radius. `evidence` gives two sums of log-likelihood ratios:

    U[p, i]         peak i belongs to person p: tag, predicted centre, distance; - join_cost[i]
    pairwise[i, j]  peaks i and j belong to one person: offsets between child and parent

For joint type k they are combined to

    (1)  L[p, i] = U[p, i] + sum over neighbours n of k of pairwise[peak_index[p, n], i].

The algorithm:

    people = one for every centre peak
    run_assignment(people)
    people += groups of unassigned peaks                       (centre peak missing or shared)
    run_assignment(people), if there are such groups
    people += single joints that are still unassigned
    drop people without joints

    run_assignment(people):
        repeat at most max_iterations times:
            compute U
            for every joint type k, one after the other:
                assign the peaks of k to people so that the sum of L over the pairs is largest,
                with L > 0 for every pair                      (linear_sum_assignment)
            stop if no person has other peaks than before
            compute tag, centre and radius of the people from their peaks
            stop if every peak is with the person of its largest U

This is block-coordinate ascent on the joint log-likelihood: a step solves one joint type
optimally, with everything else fixed. People are rows of arrays, never identified by the value
of a tag; ties go to the earlier row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from duopose.decode.decoder_settings import DecoderSettings
from duopose.decode.evidence import GroupingEvidence
from duopose.decode.people import MIN_RADIUS, NONE, GroupedPeople
from duopose.skeletons import OffsetLayout, Skeleton
from duopose.types import Peaks


@dataclass(frozen=True)
class Grouper:
    """Assigns peaks to people; one object per skeleton and settings."""

    skeleton: Skeleton
    layout: OffsetLayout
    settings: DecoderSettings

    def group(self, peaks: Peaks) -> GroupedPeople:
        """The people that have any joint."""
        evidence = GroupingEvidence(peaks, self.skeleton, self.layout, self.settings)

        people = people_from_centre_peaks(peaks, self.skeleton)
        run_assignment(people, evidence, self.skeleton)

        new_people, lone_peaks = seed_from_unassigned(people, evidence)
        if len(new_people):
            people = people.concatenate(new_people)
            run_assignment(people, evidence, self.skeleton)

        singles = single_joint_people(lone_peaks, people, evidence)
        people = people.concatenate(singles)
        return people.select(np.flatnonzero(people.present.any(axis=1)))


def people_from_centre_peaks(peaks: Peaks, skeleton: Skeleton) -> GroupedPeople:
    """One person without joints for every centre peak that NMS did not suppress."""
    is_centre = peaks.joint == skeleton.centre
    rows = np.flatnonzero(is_centre & ~peaks.nms_suppressed)
    tag = peaks.tag[rows]
    return GroupedPeople.without_joints(rows, tag, peaks.position[rows], skeleton.num_keypoints)


# ---- assignment ----


def run_assignment(people: GroupedPeople, evidence: GroupingEvidence, skeleton: Skeleton) -> None:
    """Iterate assignments of all joint types; `people` are changed in place."""
    if not len(people) or not len(evidence.joint_peaks.joint):
        return

    settings = evidence.settings
    limbs = skeleton.parents_first
    others = (*skeleton.centre_only_indices, *skeleton.torso_indices)
    for iteration in range(settings.max_iterations):
        previous = people.peak_index.copy()
        unary = evidence.unary(people)
        size = evidence.person_sizes(people)

        if iteration == 0:
            # Torso joints have no centre offset, so limbs go first.
            assign_joints((*reversed(limbs), *others), people, unary, evidence, size)
        else:
            assign_joints((*others, *limbs), people, unary, evidence, size)

        converged = all_peaks_with_best_person(people.peak_index, unary)
        if iteration == 0 and not converged:
            # The limbs were assigned without their torso joints; now these have peaks.
            assign_joints(limbs, people, unary, evidence, size)

        if np.array_equal(previous, people.peak_index):
            break
        min_radius = MIN_RADIUS * settings.offset_sigma
        people.update_from_peaks(evidence.peaks, settings.offset_sigma, min_radius)
        if converged:
            break


def assign_joints(
    joints: Sequence[int],
    people: GroupedPeople,
    unary: np.ndarray,
    evidence: GroupingEvidence,
    size: np.ndarray | None = None,
) -> None:
    """Assign the peaks of these joint types, one type after the other."""
    for joint in joints:
        assign_joint(joint, people.peak_index, unary, evidence, size)


def assign_joint(
    joint: int,
    peak_index: np.ndarray,
    unary: np.ndarray,
    evidence: GroupingEvidence,
    size: np.ndarray | None = None,
) -> None:
    """The optimal assignment of one joint type's peaks by equation (1), everything else fixed.

    peak_index: (P, K), column `joint` is replaced. unary: (P, M). size: (P,) sizes of the people
    for the limb prior of a calibration, which is added to (1); None: no prior.
    """
    peak_index[:, joint] = NONE
    rows = evidence.rows[joint]
    if rows.start == rows.stop:
        return

    log_likelihood = unary[:, rows]
    for neighbour in evidence.neighbours[joint]:
        log_likelihood = log_likelihood + evidence.pairwise[peak_index[:, neighbour], rows]
    if size is not None:
        log_likelihood = log_likelihood + evidence.limb_prior(joint, peak_index, size)

    # To stay without a peak has log-likelihood 0, so pairs below 0 are never better than none.
    gain = np.maximum(log_likelihood, 0.0)
    person, column = linear_sum_assignment(gain, maximize=True)
    joins = gain[person, column] > 0
    peak_index[person[joins], joint] = rows.start + column[joins]


def all_peaks_with_best_person(peak_index: np.ndarray, unary: np.ndarray) -> bool:
    """Whether every peak belongs to the person of its largest unary log-likelihood ratio.

    Nobody competes for a peak then, and further iterations would change nothing.
    """
    owner = np.full(unary.shape[1], NONE)
    person, joint = np.nonzero(peak_index != NONE)
    owner[peak_index[person, joint]] = person
    return np.array_equal(owner, unary.argmax(axis=0))


# ---- people without a centre peak ----


def seed_from_unassigned(
    people: GroupedPeople, evidence: GroupingEvidence
) -> tuple[GroupedPeople, np.ndarray]:
    """New people from groups of unassigned peaks, without joints yet, and the lone peaks (N,)."""
    peaks = evidence.peaks
    unassigned = unassigned_peaks(people, evidence)
    affinity = evidence.affinity(unassigned)
    groups = greedy_groups(affinity, peaks.joint[unassigned])

    lone = [group[0] for group in groups if len(group) == 1]
    several = [unassigned[group] for group in groups if len(group) > 1]
    new_people = people_from_groups(several, peaks, people.peak_index.shape[1])
    return new_people, unassigned[np.array(lone, dtype=int)]


def unassigned_peaks(people: GroupedPeople, evidence: GroupingEvidence) -> np.ndarray:
    """(L,) unassigned joint peaks that may start people, highest score first."""
    peaks = evidence.joint_peaks
    settings = evidence.settings
    may_start = ~peaks.nms_suppressed & (peaks.score >= settings.start_threshold)
    may_start[people.peak_index[people.present]] = False

    rows = np.flatnonzero(may_start)
    highest_first = np.argsort(-peaks.score[rows], kind="stable")
    return rows[highest_first][: settings.max_people]


def greedy_groups(affinity: np.ndarray, joint: np.ndarray) -> list[np.ndarray]:
    """Groups of peaks that are likely one person's, as indices; every peak is in one group.

    The first free peak takes, of every other joint type, the free peak of the largest positive
    affinity to it. affinity: (L, L). joint: (L,) joint types.
    """
    groups = []
    free = np.ones(len(joint), dtype=bool)
    compatible = (affinity > 0) & np.not_equal.outer(joint, joint)
    has_partner = compatible.any(axis=1)

    for first in range(len(joint)):
        if not free[first]:
            continue
        group = np.array([first])
        if has_partner[first]:
            partners = np.flatnonzero(free & compatible[first])
            order = np.argsort(-affinity[first, partners], kind="stable")
            best_first = partners[order]
            _, best_of_type = np.unique(joint[best_first], return_index=True)
            group = np.append(group, best_first[best_of_type])

        free[group] = False
        groups.append(group)
    return groups


def people_from_groups(groups: list[np.ndarray], peaks: Peaks, num_joints: int) -> GroupedPeople:
    """A person without joints for each group, with its mean tag and mean predicted centre."""
    tag = np.zeros((len(groups), peaks.tag.shape[1]))
    centre = np.full((len(groups), 2), np.nan)
    for row, group in enumerate(groups):
        tag[row] = peaks.tag[group].mean(axis=0)
        predicted = peaks.predicted_centre[group]
        known = predicted[~np.isnan(predicted[:, 0])]
        if len(known):
            centre[row] = known.mean(axis=0)

    people = GroupedPeople.without_joints(np.full(len(groups), NONE), tag, centre, num_joints)
    people.num_tags = np.array([float(len(group)) for group in groups])
    return people


def single_joint_people(
    lone_peaks: np.ndarray, people: GroupedPeople, evidence: GroupingEvidence
) -> GroupedPeople:
    """People of one joint each, from the peaks of `lone_peaks` that are still unassigned."""
    peaks = evidence.peaks
    rows = np.setdiff1d(lone_peaks, people.peak_index[people.present])
    num_joints = people.peak_index.shape[1]
    no_centre_peak = np.full(len(rows), NONE)
    tag = peaks.tag[rows]

    singles = GroupedPeople.without_joints(no_centre_peak, tag, peaks.position[rows], num_joints)
    singles.peak_index[np.arange(len(rows)), peaks.joint[rows]] = rows
    singles.update_from_peaks(peaks, evidence.settings.offset_sigma)
    return singles
