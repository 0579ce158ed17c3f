"""Ids of people who cross, are hidden for a while, or are new."""

from __future__ import annotations

import numpy as np
import pytest
from tests.predict.crossings import (
    crossing_video,
    match_to_truth,
    oks_tracker,
    score_tracker,
)

from duopose.inference.model import People
from duopose.predict.tracking import PoseTracker
from duopose.skeletons import COCO

STANDING = np.random.default_rng(1).uniform(-20, 20, (17, 2))


def people_at(*centres: float) -> np.ndarray:
    """(P, 17, 3) the same pose at several x."""
    keypoints = np.ones((len(centres), 17, 3))
    keypoints[..., :2] = STANDING
    keypoints[..., 0] += np.reshape(centres, (-1, 1))
    return keypoints


def test_two_cross_in_front_of_each_other() -> None:
    tracker = PoseTracker(COCO, max_missed=25)
    for frame in range(41):
        ids = tracker.update(people_at(10 + 4 * frame, 170 - 4 * frame))
    assert ids.tolist() == [1, 2]


def test_the_order_of_the_people_does_not_matter() -> None:
    tracker = PoseTracker(COCO, max_missed=25)
    assert tracker.update(people_at(0, 100, 200)).tolist() == [1, 2, 3]
    assert tracker.update(people_at(201, 1, 101)).tolist() == [3, 1, 2]


@pytest.mark.parametrize(("num_hidden", "expected"), [(10, [1, 2]), (11, [1, 3])])
def test_a_hidden_person_keeps_its_id_for_a_while(num_hidden: int, expected: list[int]) -> None:
    tracker = PoseTracker(COCO, max_missed=10)
    for frame in range(12):
        tracker.update(people_at(0, 100 + 2 * frame))
    for _ in range(num_hidden):
        assert tracker.update(people_at(0)).tolist() == [1]
    assert tracker.update(people_at(0, 100 + 2 * (12 + num_hidden))).tolist() == expected


def test_nobody_and_few_joints() -> None:
    tracker = PoseTracker(COCO, max_missed=5)
    assert tracker.update(np.zeros((0, 17, 3))).tolist() == []
    one_joint = np.zeros((1, 17, 3))
    one_joint[0, 3] = [5, 5, 0.9]
    assert tracker.update(one_joint).tolist() == [1]
    assert tracker.update(one_joint).tolist() == [2]  # too little to compare
    assert tracker.update(np.zeros((0, 17, 3))).tolist() == []


def test_drawn_people_with_noise_and_hidden_joints() -> None:
    """Three people pass each other; the network is replaced by the truth with errors."""
    rng = np.random.default_rng(0)
    frames = []
    for _, truth in crossing_video(7, num_frames=50):
        order = rng.permutation(len(truth))
        keypoints = np.ones((len(truth), 17, 3))
        keypoints[..., :2] = truth[order] + rng.normal(0, 1.5, (len(truth), 17, 2))
        keypoints[rng.random((len(truth), 17)) < 0.3] = 0
        seen = keypoints[rng.random(len(truth)) > 0.15]
        people = People(seen, np.ones(len(seen)), np.zeros(seen.shape[:2], dtype=bool), COCO)
        frames.append((people, truth))
    score = score_tracker(oks_tracker(), frames)
    assert score.switches == 0 and score.ids == 3 and score.idf1 > 0.9
    assert match_to_truth(frames[0][0].keypoints, frames[0][1]).max() >= 0

    def new_ids(people: People) -> np.ndarray:
        return rng.integers(1, 1000, len(people))

    assert score_tracker(new_ids, frames).switches > 80
