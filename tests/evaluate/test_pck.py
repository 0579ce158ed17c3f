"""PCK of made people: the counts follow from the distances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from duopose.errors import UserError
from duopose.evaluate.pck import pck, torso_diagonals
from duopose.skeletons import COCO, SKELETONS, skeleton_from_dict

SHOULDER = COCO.index("left_shoulder")
HIP = COCO.index("right_hip")
NOSE = COCO.index("nose")
NUM_JOINTS = 3  # labelled keypoints of a made person


def person(x: float = 0.0) -> np.ndarray:
    """(K, 3): shoulder, hip and nose; the torso diagonal is 100 pixels."""
    keypoints = np.zeros((COCO.num_keypoints, 3))
    keypoints[SHOULDER] = x, 0, 2
    keypoints[HIP] = x + 60, 80, 2
    keypoints[NOSE] = x, 300, 2
    return keypoints


def annotations(*people: np.ndarray) -> dict[str, Any]:
    records = [
        {
            "id": number,
            "image_id": 7,
            "category_id": 1,
            "keypoints": one.ravel().tolist(),
            "num_keypoints": int((one[:, 2] > 0).sum()),
        }
        for number, one in enumerate(people, start=1)
    ]
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}
    return {"images": [{"id": 7}], "annotations": records, "categories": [category]}


def entries(*people: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"image_id": 7, "category_id": 1, "keypoints": one.ravel().tolist(), "score": 0.5}
        for one in people
    ]


def test_a_keypoint_is_correct_within_the_threshold_times_the_torso() -> None:
    found = person()
    found[NOSE, 0] += 19.9
    assert pck(annotations(person()), entries(found), COCO, 0.2) == 1.0

    found[NOSE, 0] += 0.2
    assert pck(annotations(person()), entries(found), COCO, 0.2) == pytest.approx(2 / NUM_JOINTS)


def test_keypoints_that_were_not_found_are_wrong() -> None:
    found = person()
    found[NOSE] = 0
    assert pck(annotations(person()), entries(found), COCO, 0.2) == pytest.approx(2 / NUM_JOINTS)
    assert pck(annotations(person()), [], COCO, 0.2) == 0.0


def test_a_person_found_counts_for_one_annotated_person_only() -> None:
    truth = annotations(person(), person(x=5.0))
    assert pck(truth, entries(person()), COCO, 0.2) == 0.5
    assert pck(truth, entries(person(x=5.0), person()), COCO, 0.2) == 1.0


def test_the_other_diagonal_counts_where_the_first_is_not_labelled() -> None:
    mirrored = person()
    mirrored[COCO.index("right_shoulder")] = mirrored[SHOULDER]
    mirrored[COCO.index("left_hip")] = mirrored[HIP]
    mirrored[[SHOULDER, HIP]] = 0
    found = mirrored.copy()
    found[NOSE, 0] += 15
    assert pck(annotations(mirrored), entries(found), COCO, 0.2) == 1.0
    assert pck(annotations(mirrored), entries(found), COCO, 0.1) == pytest.approx(2 / NUM_JOINTS)


def test_people_without_a_torso_are_left_out() -> None:
    without = person()
    without[HIP] = 0
    assert pck(annotations(without), entries(without), COCO, 0.2) is None


def test_a_skeleton_without_a_torso_is_named() -> None:
    assert len(torso_diagonals(SKELETONS["crowdpose"])) == 2
    head = SKELETONS["coco"].keypoints[:5]
    content = {"name": "head", "keypoints": list(head), "flip_pairs": [], "torso": list(head)}
    skeleton = skeleton_from_dict({**content, "parents": {}, "centre_only": []}, "test")
    with pytest.raises(UserError, match="head"):
        torso_diagonals(skeleton)
