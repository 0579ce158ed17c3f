"""Joints that share a peak, and peaks that are somebody else's alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from duopose.decode.missing_joints import Search
from duopose.decode.people import NOBODY
from duopose.types import Poses

SIZE = (512, 384)
WRIST = 9  # left_wrist


def pair(world: Callable, wrist: np.ndarray, both: bool) -> tuple[np.ndarray, Poses]:
    """Two people 60 pixels apart, of whom the first has the left wrist at `wrist`, the second too or none; and who was found."""
    here = world("coco", input_size=384)
    people = np.repeat(here.people(1, (200, 384), seed=2, height=140), 2, axis=0)
    people[1, :, 0] += 60
    people[:, WRIST, :2] = wrist
    people[1, WRIST, 2] = 2 if both else 0
    poses = here.there_and_back(people, SIZE)
    back = here.merged.affine.inverse().apply(poses.keypoints)
    return people, Poses(back, poses.scores, poses.filled)


def found_as(poses: Poses, person: np.ndarray) -> int:
    """Row of the found person nearest to the given one, by the joints that are not the wrist."""
    others = np.arange(17) != WRIST
    return int(
        np.linalg.norm(poses.keypoints[:, others, :2] - person[others, :2], axis=2)
        .mean(axis=1)
        .argmin()
    )


def test_two_wrists_at_one_peak_are_found_twice(world: Callable) -> None:
    wrist = np.array([130.0, 190.0])  # between the two
    people, poses = pair(world, wrist, both=True)
    rows = [found_as(poses, person) for person in people]
    assert sorted(rows) == [0, 1]
    assert np.abs(poses.keypoints[rows, WRIST, :2] - wrist).max() < 1.0
    assert poses.filled[rows, WRIST].any()  # one peak is one person's at most in the grouping


def test_a_wrist_that_is_one_persons_alone_stays_so(world: Callable) -> None:
    """Its offsets point to its owner's own centre, not to the middle of the two."""
    people, poses = pair(world, np.array([130.0, 190.0]), both=False)
    second = found_as(poses, people[1])
    assert not poses.filled[second, WRIST] and poses.keypoints[second, WRIST, 2] == 0


def test_the_baselines_people_of_one_joint_own_their_peak(world: Callable) -> None:
    """Without centres nobody has a seed, so that having none says nothing against a person."""
    here = world("coco", ["MODEL.NAME", "pose_higher_hrnet"], input_size=384)
    people = here.people(2, SIZE, seed=2)
    people[1, :WRIST, 2] = people[1, WRIST + 1 :, 2] = 0
    peaks = here.decoder.find_peaks(here.maps(people, SIZE))
    found = here.decoder.grouper.group(peaks)
    assert sorted(found.present.sum(axis=1).tolist()) == [1, 17]
    assert (Search(peaks, found, here.layout, here.decoder.settings).owner != NOBODY).all()
