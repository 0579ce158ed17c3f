"""What went wrong at each joint: the taxonomy of Ronchi and Perona.

Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation", ICCV 2017,
section 3. With ks the keypoint similarity (the term of one joint in the OKS), a joint i that was
predicted for person p is

    good       ks(i of p) >= .85
    jitter     .5 <= ks(i of p) < .85
    inversion  else, and close (ks >= .5) to the mirror joint of i of the same person
    swap       else, and close to i or its mirror joint of another person
    miss       else: close to no body part of its kind

The similarity to a part of another person is measured in the size of that person. Where both an
inversion and a swap are possible, the closer part decides. Two kinds are ours, since bottom-up
methods leave out joints: `no position` (the person was found without this joint) and `no person`
(nobody was found there, at OKS .1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duopose.report.matching import NONE, Matching, similarity
from duopose.skeletons import Skeleton

GOOD_SIMILARITY = 0.85
CLOSE_SIMILARITY = 0.5

KINDS = ("good", "jitter", "inversion", "swap", "miss", "no position", "no person")
GOOD, JITTER, INVERSION, SWAP, MISS, NO_POSITION, NO_PERSON = range(len(KINDS))
NOT_LABELLED = -1


@dataclass(frozen=True)
class JointErrors:
    """The kind of each joint of each person, and of each joint of each detection."""

    of_person: np.ndarray  # (P, K) index into KINDS, NOT_LABELLED where nothing is to be found
    of_detection: np.ndarray  # (D, K) the same; NOT_LABELLED where nobody matches
    # (D, K) largest similarity to a wrong part, see the module
    wrong_similarity: np.ndarray

    def shares(self) -> np.ndarray:
        """(K, kinds) fraction of the labelled joints; the rows sum to 1, NaN without labels."""
        counts = np.stack([(self.of_person == kind).sum(axis=0) for kind in range(len(KINDS))])
        with np.errstate(invalid="ignore"):
            return (counts / counts.sum(axis=0)).T

    def shares_of_all(self) -> np.ndarray:
        """(kinds,) fraction of all labelled joints; NaN without labels."""
        counts = np.array([(self.of_person == kind).sum() for kind in range(len(KINDS))])
        with np.errstate(invalid="ignore"):
            return counts / counts.sum()

    def labelled(self) -> np.ndarray:
        """(K,) number of labelled joints."""
        return (self.of_person != NOT_LABELLED).sum(axis=0)


def detection_rate(shares: np.ndarray) -> np.ndarray:
    """Fraction of the labelled joints for which a matched person has a position. (..., kinds)."""
    return shares[..., [GOOD, JITTER, INVERSION, SWAP, MISS]].sum(axis=-1)


def find_joint_errors(matching: Matching, skeleton: Skeleton) -> JointErrors:
    """Sort every labelled joint into its kind."""
    truth = matching.truth
    found = matching.detections
    sigmas = np.array(skeleton.sigmas)

    rows = np.flatnonzero(found.person != NONE)
    person = found.person[rows]
    points = found.keypoints[rows, :, :2]
    own = similarity(points, truth.keypoints[person, :, :2], truth.area[person], sigmas)
    inverted = _inverted_similarity(points, matching, person, skeleton)
    swapped = _swapped_similarity(points, matching, person, skeleton)

    kinds = np.full(own.shape, MISS)
    wrong = np.maximum(inverted, swapped)
    kinds[wrong >= CLOSE_SIMILARITY] = SWAP
    kinds[(inverted >= CLOSE_SIMILARITY) & (inverted >= swapped)] = INVERSION
    kinds[own >= CLOSE_SIMILARITY] = JITTER
    kinds[own >= GOOD_SIMILARITY] = GOOD
    kinds[~found.has_position[rows]] = NO_POSITION
    kinds[~truth.labelled[person]] = NOT_LABELLED

    of_person = np.where(truth.labelled, NO_PERSON, NOT_LABELLED)
    of_person[person] = kinds
    of_detection = np.full(found.keypoints.shape[:2], NOT_LABELLED)
    of_detection[rows] = kinds
    wrong_similarity = np.zeros(of_detection.shape)
    wrong_similarity[rows] = wrong
    return JointErrors(of_person, of_detection, wrong_similarity)


def _inverted_similarity(
    points: np.ndarray, matching: Matching, person: np.ndarray, skeleton: Skeleton
) -> np.ndarray:
    """(M, K) similarity to the person's mirror joint; 0 for joints without one or not labelled."""
    truth = matching.truth
    flip = skeleton.flip_index
    mirrored = truth.keypoints[person][:, flip]
    close = similarity(points, mirrored[..., :2], truth.area[person], np.array(skeleton.sigmas))
    has_mirror = flip != np.arange(len(flip))
    return close * (mirrored[..., 2] > 0) * has_mirror


def _swapped_similarity(
    points: np.ndarray, matching: Matching, person: np.ndarray, skeleton: Skeleton
) -> np.ndarray:
    """(M, K) largest similarity to the joint, or its mirror joint, of other people of the image."""
    truth = matching.truth
    sigmas = np.array(skeleton.sigmas)
    first = np.searchsorted(truth.image, np.arange(matching.num_images + 1))
    image = truth.image[person]
    count = np.diff(first)[image]

    # All pairs (detection, person of its image), one after the other.
    detection = np.repeat(np.arange(len(person)), count)
    position = np.arange(len(detection)) - np.repeat(np.cumsum(count) - count, count)
    other = np.repeat(first[image], count) + position
    is_other = (other != person[detection]) & truth.counts[other]
    detection = detection[is_other]
    other = other[is_other]

    largest = np.zeros(points.shape[:2])
    for order in (np.arange(len(sigmas)), skeleton.flip_index):
        keypoints = truth.keypoints[other][:, order]
        close = similarity(points[detection], keypoints[..., :2], truth.area[other], sigmas)
        np.maximum.at(largest, detection, close * (keypoints[..., 2] > 0))
    return largest
