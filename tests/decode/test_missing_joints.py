"""Joints of two people that share a peak, and peaks of one person only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from duopose.decode.missing_joints import (
    PREDICTED_SCORE,
    Candidates,
    best_of_each_joint,
    peak_owners,
)
from duopose.decode.people import NONE
from duopose.types import Poses

SIZE = (512, 384)
WRIST = 9  # left_wrist


def pair(ideal_decoding: Callable, wrist: np.ndarray, both: bool) -> tuple[np.ndarray, Poses]:
    """Two people 60 pixels apart and the poses found.

    The first has the left wrist at `wrist`; the second too (`both`), or it has none.
    """
    ideal = ideal_decoding("coco", input_size=384)
    people = np.repeat(ideal.people(1, (200, 384), seed=2, height=140), 2, axis=0)
    people[1, :, 0] += 60
    people[:, WRIST, :2] = wrist
    people[1, WRIST, 2] = 2 if both else 0
    poses = ideal.encode_and_decode(people, SIZE)
    back = ideal.merged.affine.inverse().apply(poses.keypoints)
    return people, Poses(back, poses.scores, poses.filled)


def found_as(poses: Poses, person: np.ndarray) -> int:
    """Row of the found person nearest to the given one, by the joints that are not the wrist."""
    others = np.arange(17) != WRIST
    return int(
        np.linalg.norm(poses.keypoints[:, others, :2] - person[others, :2], axis=2)
        .mean(axis=1)
        .argmin()
    )


def test_two_wrists_at_one_peak_are_found_twice(ideal_decoding: Callable) -> None:
    wrist = np.array([130.0, 190.0])  # between them
    people, poses = pair(ideal_decoding, wrist, both=True)
    rows = [found_as(poses, person) for person in people]
    assert sorted(rows) == [0, 1]
    assert np.abs(poses.keypoints[rows, WRIST, :2] - wrist).max() < 1.0
    assert poses.filled[rows, WRIST].any()  # the grouping gives a peak to one person at most


def test_a_wrist_of_one_person_alone_is_not_shared(ideal_decoding: Callable) -> None:
    """Its offsets point to the owner's centre, not to the middle of the two centres."""
    people, poses = pair(ideal_decoding, np.array([130.0, 190.0]), both=False)
    second = found_as(poses, people[1])
    assert not poses.filled[second, WRIST] and poses.keypoints[second, WRIST, 2] == 0


def test_people_of_one_joint_own_their_peak_in_the_baseline(ideal_decoding: Callable) -> None:
    """The baseline has no centre peaks, so a person without one is no sign of a shared peak."""
    ideal = ideal_decoding("coco", ["MODEL.NAME", "pose_higher_hrnet"], input_size=384)
    people = ideal.people(2, SIZE, seed=2)
    people[1, :WRIST, 2] = people[1, WRIST + 1 :, 2] = 0
    peaks = ideal.decoder.find_peaks(ideal.maps(people, SIZE))
    found = ideal.decoder.grouper.group(peaks)
    assert sorted(found.present.sum(axis=1).tolist()) == [1, 17]
    assert (peak_owners(peaks, found, ideal.layout) != NONE).all()


def test_best_candidate_of_each_missing_joint() -> None:
    candidates = Candidates(
        person=np.array([0, 0, 0, 1, 1]),
        peak=np.array([3, 4, 8, 3, 4]),
        joint=np.array([2, 2, 5, 2, 2]),
    )
    log_likelihood = np.array([1.0, 2.0, -9.0, 4.0, 4.0])
    best = best_of_each_joint(candidates, log_likelihood, num_joints=17)
    assert candidates.peak[best].tolist() == [4, 8, 3]  # ties go to the first peak


def test_a_joint_without_a_peak_is_filled_by_offsets_alone(ideal_decoding: Callable) -> None:
    ideal = ideal_decoding("coco", ["MODEL.REVERSE_OFFSETS", True], input_size=384)
    people = ideal.people(1, SIZE, seed=2, height=150)
    maps = ideal.maps(people, SIZE)
    maps.heatmaps[WRIST] = 0
    poses = ideal.decoder.decode(maps)
    truth = ideal.merged.affine.apply(people)[0, WRIST, :2]
    assert poses.filled[0].nonzero()[0].tolist() == [WRIST]
    assert np.linalg.norm(poses.keypoints[0, WRIST, :2] - truth) < 1.0
    assert poses.keypoints[0, WRIST, 2] == PREDICTED_SCORE
