"""The MPII metric: the reference's numbers, real annotations against themselves, groups."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duopose.errors import UserError
from duopose.evaluate.ground_truth import open_annotations
from duopose.evaluate.metrics import Metrics
from duopose.evaluate.mpii import JOINT_GROUPS, evaluate_mpii, mean_average_precision
from duopose.evaluate.mpii_groups import (
    SCORED_JOINTS,
    AnnotatedPerson,
    MetricImage,
    MpiiScoring,
    PredictedPerson,
    group_of_prediction,
    group_region,
)
from duopose.skeleton_tables import MPII_FILE_KEYPOINTS
from duopose.skeletons import COCO, MPII


@pytest.mark.parametrize("case", [0, 1])
def test_reference_numbers(real_data: Path, case: int) -> None:
    content = json.loads((real_data / "evaluation" / "mpii_metric_cases.json").read_text())[
        "cases"
    ][case]
    scores = mean_average_precision(content["images"], content["n_joints"])
    for key in ("ap", "precision", "recall"):
        np.testing.assert_allclose(scores[key], content["expected"][key], atol=1e-9)
    assert scores["mean"] == pytest.approx(content["expected"]["ap_mean"], abs=1e-9)


def test_reference_numbers_of_joint_groups(real_data: Path) -> None:
    content = json.loads((real_data / "evaluation" / "mpii_metric_cases.json").read_text())[
        "cases"
    ][0]
    names = [{"neck": "upper_neck"}.get(name, name) for name in content["joint_names"]]
    assert tuple(names) == SCORED_JOINTS
    by_joint = dict(zip(names, mean_average_precision(content["images"], 14)["ap"], strict=True))
    for group, joints in JOINT_GROUPS.items():
        assert np.mean([by_joint[joint] for joint in joints]) == pytest.approx(
            content["expected"]["ap_groups"][group.lower()]
        )


HEAD = [0.0, 0.0, 30.0, 40.0]  # head size 30: right within 15 pixels


# People, their joints, and the values of each: joint, x, y, and the score of a prediction.
People = Sequence[Sequence[Sequence[float]]]


def image(people: People, predictions: People, head: Sequence[float] = HEAD) -> MetricImage:
    annotated: list[AnnotatedPerson] = [
        {"head_rect": list(head), "joints": as_floats(person)} for person in people
    ]
    predicted: list[PredictedPerson] = [{"joints": as_floats(person)} for person in predictions]
    return {"gt": annotated, "pred": predicted}


def as_floats(person: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[float(value) for value in joint] for joint in person]


def test_the_distance_limit_is_half_a_head_and_counts() -> None:
    for distance, expected in ((15.0, 100), (15.001, 0)):
        assert (
            mean_average_precision([image([[[0, 50, 50]]], [[[0, 50 + distance, 50, 0.9]]])], 1)[
                "mean"
            ]
            == expected
        )


def test_area_under_the_envelope_by_hand() -> None:
    """Correct, wrong, correct out of 2 people: AP = 1/2 + 1/2 * 2/3.

    Precision is 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
    """
    people = [[[0, 0, 0]], [[0, 500, 0]]]
    predictions = [[[0, 0, 0, 0.9]], [[0, 900, 0, 0.8]], [[0, 500, 0, 0.7]]]
    scores = mean_average_precision([image(people, predictions)], 1)
    assert scores["ap"][0] == pytest.approx(100 * (1 / 2 + 1 / 2 * 2 / 3))
    assert scores["precision"][0] == pytest.approx(200 / 3)
    assert scores["recall"][0] == 100


def test_one_prediction_a_person_and_one_person_a_prediction() -> None:
    person = [[0, 100, 100], [1, 200, 200]]
    whole, half = [[0, 100, 100, 0.5], [1, 200, 200, 0.5]], [[0, 100, 100, 0.9]]
    scores = mean_average_precision([image([person], [half, whole])], 2)
    assert scores["ap"] == [50, 100], (
        "the prediction with more joints right owns the person, the other's joint is wrong"
    )
    twice = mean_average_precision(
        [image([person, [[0, 100, 101]]], [[[0, 100, 100, 0.9]]])], 1 + 1
    )
    assert twice["recall"][0] == 50, "a prediction between two people counts for one of them"


def test_joints_never_annotated_or_never_predicted() -> None:
    """Joint 0 is both, 1 only annotated, 2 only predicted, 3 neither.

    As in the reference, never predicted is 0 and counts, predicted but never annotated is NaN.
    """
    images = [image([[[0, 0, 0], [1, 9, 9]]], [[[0, 0, 0, 0.5], [2, 5, 5, 0.5]]])]
    scores = mean_average_precision(images, 4)
    for key in ("ap", "precision", "recall"):
        np.testing.assert_array_equal(scores[key], [100, 0, np.nan, 0])
    assert scores["mean"] == pytest.approx(100 / 3)


def test_a_joint_that_is_never_predicted_lowers_the_total_and_its_group() -> None:
    """Wrists are never predicted: 0 of the group, and 12 of 14 joints in the Total."""
    content = two_and_one()
    found = [found_at(0, 0), found_at(40, 0)]
    for person in [*content["annotations"], *found]:
        for joint in ("left_wrist", "right_wrist"):
            person["keypoints"][3 * MPII.index(joint) + 2] = 0
    values = evaluate_mpii(content, found, MPII, region="groups").values
    assert values["Wrist"] == 0 and values["Elbow"] == 1
    assert values["Total"] == pytest.approx(12 / 14)


def test_a_joint_the_person_lacks_is_wrong() -> None:
    people, predictions = (
        [[[0, 0, 0]], [[1, 500, 500]]],
        [[[0, 0, 0, 0.5], [1, 9, 9, 0.9]], [[1, 500, 500, 0.8]]],
    )
    assert mean_average_precision([image(people, predictions)], 2)["ap"] == [100, 50]


def test_an_image_without_people_is_dropped() -> None:
    good = image([[[0, 0, 0]]], [[[0, 0, 0, 0.5]]])
    assert mean_average_precision([good, image([], [[[0, 0, 0, 0.9]]])], 1)["mean"] == 100
    for images in ([], [image([], [])]):
        scores = mean_average_precision(images, 1)
        assert np.isnan(scores["mean"]) and np.isnan(scores["ap"]).all()


def test_ties_keep_the_listed_order() -> None:
    people = [[[0, 0, 0]]]
    right, wrong = [[0, 0, 0, 0.5]], [[0, 900, 0, 0.5]]
    assert mean_average_precision([image(people, [right, wrong])], 1)["mean"] == 100
    assert mean_average_precision([image(people, [wrong, right])], 1)["mean"] == 50


def test_scale_and_shift_change_nothing() -> None:
    rng = np.random.default_rng(1)
    images, moved = [], []
    for _ in range(20):
        people = [
            [[j, *rng.uniform(0, 200, 2)] for j in range(5) if rng.random() < 0.8] for _ in range(3)
        ]
        predictions = [
            [[j, x + rng.normal(0, 8), y + rng.normal(0, 8), rng.random()] for j, x, y in person]
            for person in people
        ]
        images.append(image(people, predictions))
        moved.append(
            image(
                [[[j, 4 * x + 64, 4 * y - 32] for j, x, y in person] for person in people],
                [
                    [[j, 4 * x + 64, 4 * y - 32, s] for j, x, y, s in person]
                    for person in predictions
                ],
                [4 * value for value in HEAD],
            )
        )
    scores = mean_average_precision(images, 5)
    assert 20 < scores["mean"] < 95
    assert mean_average_precision(moved, 5) == scores


# ---- real annotations ----


def real_people(real_data: Path) -> dict[str, Any]:
    """The 690 images as annotations of ours; people without any head are left out."""
    raw = json.loads(
        (real_data / "annotations_only" / "mpii_multi_person_690_images.json").read_text()
    )
    order = [MPII_FILE_KEYPOINTS.index(name) for name in MPII.keypoints]
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(raw["images"]):
        for person in image["persons"]:
            keypoints = np.column_stack(
                [person["joints"], np.multiply(person["joints_labelled"], 2)]
            )[order]
            head = keypoints[[MPII.index("upper_neck"), MPII.index("head_top")]]
            if (head[:, 2] > 0).all():
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": 1,
                        "keypoints": keypoints.reshape(-1),
                    }
                )
    return {
        "images": [{"id": n} for n in range(690)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }


def as_found(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    found = []
    for annotation in annotations:
        keypoints = annotation["keypoints"].reshape(-1, 3).astype(float)
        keypoints[:, 2] = (keypoints[:, 2] > 0) * rng.uniform(0.1, 1, len(keypoints))
        found.append(
            {
                "image_id": annotation["image_id"],
                "category_id": 1,
                "keypoints": keypoints.reshape(-1).tolist(),
                "score": 1.0,
            }
        )
    return found


def score(metrics: Metrics, group: str) -> float:
    value = metrics.values[group]
    assert value is not None
    return value


def with_joints(people: list[dict[str, Any]], order: np.ndarray) -> list[dict[str, Any]]:
    return [
        {**person, "keypoints": np.reshape(person["keypoints"], (-1, 3))[order].reshape(-1)}
        for person in people
    ]


def test_real_annotations_found_as_they_are_are_perfect(real_data: Path) -> None:
    content = real_people(real_data)
    assert len(content["annotations"]) > 1300
    metrics = evaluate_mpii(content, as_found(content["annotations"]), MPII, region="images")
    assert list(metrics.values) == [
        "Head",
        "Shoulder",
        "Elbow",
        "Wrist",
        "Hip",
        "Knee",
        "Ankle",
        "Total",
    ]
    assert set(metrics.values.values()) == {1.0}
    assert metrics.main == 1.0


def test_mirrored_left_and_right(real_data: Path) -> None:
    """Names swapped in both: still perfect. In the predictions only: heads stay, others drop.

    A swapped pair matches where its joints are within half a head.
    """
    content = real_people(real_data)
    swapped = content | {"annotations": with_joints(content["annotations"], MPII.flip_index)}
    found = as_found(content["annotations"])
    wrong = with_joints(found, MPII.flip_index)
    assert set(evaluate_mpii(swapped, wrong, MPII, region="images").values.values()) == {1.0}
    metrics = evaluate_mpii(content, wrong, MPII, region="images")
    assert 0.95 < score(metrics, "Head") < 1, (
        "a swapped person may fit a neighbour better than itself"
    )
    for group in ("Shoulder", "Elbow", "Wrist", "Knee", "Ankle"):
        assert score(metrics, group) < 0.35
    images = MpiiScoring.prepare(open_annotations(content), wrong, MPII, None, "images").images
    recall = dict(zip(SCORED_JOINTS, mean_average_precision(images, 14)["recall"], strict=True))
    for joint in ("wrist", "knee", "shoulder"):
        percentage = pairs_within_half_a_head(
            content["annotations"], MPII.index(f"left_{joint}"), MPII.index(f"right_{joint}")
        )
        assert recall[f"left_{joint}"] == pytest.approx(percentage, abs=3)


def pairs_within_half_a_head(annotations: list[dict[str, Any]], left: int, right: int) -> float:
    """Percentage of labelled left joints with a right one at most half a head size away."""
    people = np.stack(
        [annotation["keypoints"].reshape(-1, 3) for annotation in annotations]
    ).astype(float)
    neck, top = people[:, MPII.index("upper_neck"), :2], people[:, MPII.index("head_top"), :2]
    near = np.linalg.norm(
        people[:, left, :2] - people[:, right, :2], axis=1
    ) <= 0.5 * 0.6 * np.linalg.norm(neck - top, axis=1)
    return (
        100
        * (near & (people[:, left, 2] > 0) & (people[:, right, 2] > 0)).sum()
        / (people[:, left, 2] > 0).sum()
    )


# ---- groups ----


def person_at(number: int, x: float, y: float, visible: int = 2) -> dict[str, Any]:
    """A person 60 pixels tall: joint k is at (x + k, y + 4 k)."""
    keypoints = np.column_stack([x + np.arange(16), y + 4 * np.arange(16), np.full(16, visible)])
    return {
        "id": number,
        "image_id": 1,
        "category_id": 1,
        "keypoints": keypoints.reshape(-1).tolist(),
        "bbox": [x, y, 15, 60],
        "head_box": [x, y, x + 12, y + 16],
        "objpos": [x + 7.5, y + 30],
        "scale": 0.3,
    }


def found_at(x: float, y: float) -> dict[str, Any]:
    return {
        "image_id": 1,
        "category_id": 1,
        "keypoints": person_at(0, x, y, visible=1)["keypoints"],
        "score": 1.0,
    }


def two_and_one() -> dict[str, Any]:
    """A group of two at the left, one person far away."""
    people = [person_at(1, 0, 0), person_at(2, 40, 0), person_at(3, 500, 0)]
    image = {"id": 1, "groups": [[1, 2], [3]]}
    return {"images": [image], "annotations": people, "categories": [{"id": 1, "name": "person"}]}


def test_the_region_of_a_group() -> None:
    people = two_and_one()["annotations"]
    np.testing.assert_allclose(group_region(people[:2]), [7.5 - 30, 0, 47.5 + 30, 60])
    by_box = [
        {key: value for key, value in person.items() if key != "scale"} for person in people[:2]
    ]
    np.testing.assert_allclose(group_region(by_box), [0, 0, 55, 60])


def test_only_the_groups_region_is_scored() -> None:
    content = two_and_one()
    found = [found_at(0, 0), found_at(40, 0), found_at(500, 0), found_at(900, 0)]
    groups = evaluate_mpii(content, found, MPII, region="groups")
    assert groups.values["Total"] == 1
    assert groups.facts["groups"] == 1 and groups.facts["people"] == 2
    images = evaluate_mpii(content, found, MPII, region="images")
    assert images.facts["people"] == 3

    wrong_person_first = [found[3], *found[:3]]
    images = evaluate_mpii(content, wrong_person_first, MPII, region="images")
    assert score(images, "Total") < 1, "a person that is not annotated"
    wrong_person_in_region = [found_at(20, 0), *found]
    groups = evaluate_mpii(content, wrong_person_in_region, MPII, region="groups")
    assert score(groups, "Total") < 1, "within the region it counts"


def test_to_which_group_a_prediction_belongs() -> None:
    people = two_and_one()["annotations"]
    groups = [people[:2], people[2:]]
    assert group_of_prediction(found_at(35, 5), groups) == 0
    assert group_of_prediction(found_at(495, 5), groups) == 1
    assert group_of_prediction(found_at(250, 0), groups) == -1
    assert group_of_prediction(found_at(0, 0), []) == -1
    nothing = found_at(0, 0) | {"keypoints": [0.0] * 48}
    assert group_of_prediction(nothing, groups) == -1


def test_errors_name_what_is_missing() -> None:
    content = two_and_one()
    del content["images"][0]["groups"]
    with pytest.raises(UserError, match=r"image 1 .*groups"):
        evaluate_mpii(content, [], MPII)
    content["images"][0]["groups"] = [1, 2]
    with pytest.raises(UserError, match=r"image 1 .*groups"):
        evaluate_mpii(content, [], MPII)
    content["annotations"][1]["keypoints"] = [1] * 42
    with pytest.raises(UserError, match=r"16 keypoints .*'mpii'.*\[2\]"):
        evaluate_mpii(content, [], MPII)
    content = two_and_one()
    with pytest.raises(UserError, match=r"TEST.MPII_REGION 'boxes'.*groups, images"):
        evaluate_mpii(content, [], MPII, region="boxes")
    with pytest.raises(UserError, match=r"'coco'.*upper_neck, head_top"):
        evaluate_mpii(content, [], COCO)
    with pytest.raises(UserError, match=r"51 .* 16"):
        evaluate_mpii(content, [found_at(0, 0) | {"keypoints": [1.0] * 51}], MPII, region="images")


def test_notes_and_numbers_where_there_is_nothing() -> None:
    content = two_and_one()
    empty = evaluate_mpii(content, [], MPII)
    assert empty.values["Total"] == 0 and len(empty.notes) == 1
    for person in content["annotations"]:
        del person["head_box"]
        person["keypoints"][3 * MPII.index("head_top") + 2] = 0
    headless = evaluate_mpii(content, [found_at(0, 0)], MPII, region="images")
    assert headless.values["Total"] is None and headless.main == 0
    assert headless.facts["people_without_head"] == 3 and len(headless.notes) == 2
