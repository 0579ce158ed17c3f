"""PCK of made people: the counts follow from the distances."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duopose.benchmarks import BENCHMARKS, build_evaluator
from duopose.config import default_config
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


def truth_of(*people: np.ndarray) -> dict[str, Any]:
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
    assert pck(truth_of(person()), entries(found), COCO, 0.2) == 1.0

    found[NOSE, 0] += 0.2
    assert pck(truth_of(person()), entries(found), COCO, 0.2) == pytest.approx(2 / NUM_JOINTS)


def test_keypoints_that_were_not_found_are_wrong() -> None:
    found = person()
    found[NOSE] = 0
    assert pck(truth_of(person()), entries(found), COCO, 0.2) == pytest.approx(2 / NUM_JOINTS)
    assert pck(truth_of(person()), [], COCO, 0.2) == 0.0


def test_a_person_found_counts_for_one_annotated_person_only() -> None:
    truth = truth_of(person(), person(x=5.0))
    assert pck(truth, entries(person()), COCO, 0.2) == 0.5
    assert pck(truth, entries(person(x=5.0), person()), COCO, 0.2) == 1.0


def test_the_other_diagonal_counts_where_the_first_is_not_labelled() -> None:
    mirrored = person()
    mirrored[COCO.index("right_shoulder")] = mirrored[SHOULDER]
    mirrored[COCO.index("left_hip")] = mirrored[HIP]
    mirrored[[SHOULDER, HIP]] = 0
    found = mirrored.copy()
    found[NOSE, 0] += 15
    assert pck(truth_of(mirrored), entries(found), COCO, 0.2) == 1.0
    assert pck(truth_of(mirrored), entries(found), COCO, 0.1) == pytest.approx(2 / NUM_JOINTS)


def test_people_without_a_torso_are_left_out() -> None:
    without = person()
    without[HIP] = 0
    assert pck(truth_of(without), entries(without), COCO, 0.2) is None


def test_a_skeleton_without_a_torso_is_named() -> None:
    assert len(torso_diagonals(SKELETONS["crowdpose"])) == 2
    head = SKELETONS["coco"].keypoints[:5]
    content = {"name": "head", "keypoints": list(head), "flip_pairs": [], "torso": list(head)}
    skeleton = skeleton_from_dict({**content, "parents": {}, "centre_only": []}, "test")
    with pytest.raises(UserError, match="head"):
        torso_diagonals(skeleton)


def test_the_setting_adds_it_to_the_metrics(tmp_path: Path) -> None:
    truth = truth_of(person())
    for annotation in truth["annotations"]:
        annotation |= {"area": 100.0**2, "bbox": [0, 0, 60, 300], "iscrowd": 0}
    cfg = default_config()
    found = person()
    found[NOSE, 0] += 21
    without = BENCHMARKS["coco"].evaluate(truth, entries(found), COCO)
    cfg.TEST.PCK = 0.2
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    metrics = build_evaluator(cfg, COCO)(entries(found), path)
    assert metrics.values == {**without.values, "PCK@0.2": pytest.approx(2 / NUM_JOINTS)}
