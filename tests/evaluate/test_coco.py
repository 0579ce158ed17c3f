"""The ten metrics: the reference's numbers, by both libraries to the last bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duopose.errors import UserError
from duopose.evaluate.coco import METRIC_NAMES, evaluate_coco
from duopose.skeletons import COCO, CROWDPOSE, MPII, Skeleton
from duopose.types import ImageResult, Poses

SIX = Skeleton("six", tuple("abcdef"), (("a", "b"),), ("a", "b"), {}, ("c", "d", "e", "f"))
REFERENCE = {
    (
        "coco_250_gt.json",
        "coco_250_detections.json",
    ): "0.37855 0.59291 0.39465 0.32098 0.46472 0.42280 0.63222 0.44073 0.33797 0.53451",
    (
        "example_coco_val.json",
        "example_coco_preds.json",
    ): "0.86089 0.99315 0.91089 0.77558 0.93725 0.87500 1.00000 0.91667 0.78000 0.94286",
}


@pytest.mark.parametrize("evaluator", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("files", REFERENCE)
def test_reference_numbers(real_data: Path, files: tuple[str, str], evaluator: str) -> None:
    truth, found = (real_data / "evaluation" / file for file in files)
    metrics = evaluate_coco(truth, found, COCO, evaluator=evaluator)
    assert tuple(metrics.values) == METRIC_NAMES
    assert " ".join(f"{value:.5f}" for value in metrics.values.values()) == REFERENCE[files]


@pytest.mark.parametrize("files", REFERENCE)
def test_both_libraries_to_the_last_bit_on_real_files(
    real_data: Path, files: tuple[str, str]
) -> None:
    truth, found = (real_data / "evaluation" / file for file in files)
    assert (
        evaluate_coco(truth, found, COCO).values
        == evaluate_coco(truth, found, COCO, evaluator="pycocotools").values
    )


def random_case(
    seed: int, num_keypoints: int, tied: bool, detections: bool
) -> tuple[dict, list[dict]]:
    """A few images with people of all sizes, crowds, unlabelled people and annotation id 0.

    The people found are near them or anywhere.
    """
    rng = np.random.default_rng(seed)
    images = [{"id": int(i)} for i in rng.choice(1000, rng.integers(1, 6), replace=False)]
    annotations: list[dict] = []
    found: list[dict] = []
    for image in images:
        people = []
        for _ in range(rng.integers(0, 5)):
            x, y, w, h = rng.uniform([0, 0, 10, 10], 300)
            keypoints = np.stack(
                [
                    *(rng.uniform(0, 1, (2, num_keypoints)) * [[w], [h]] + [[x], [y]]),
                    rng.choice(3, num_keypoints),
                ],
                1,
            )
            keypoints[rng.random() < 0.15 :, 2] *= rng.random() > 0.15
            keypoints[keypoints[:, 2] == 0] = 0
            people.append(keypoints)
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": image["id"],
                    "category_id": 1,
                    "bbox": [float(v) for v in (x, y, w, h)],
                    "area": float(w * h / 2),
                    "iscrowd": int(rng.random() < 0.1),
                    "num_keypoints": int((keypoints[:, 2] > 0).sum()),
                    "keypoints": keypoints.reshape(-1).tolist(),
                }
            )
        for _ in range(detections * rng.choice([0, 3, 25], p=[0.2, 0.7, 0.1])):
            near = people and rng.random() < 0.8
            keypoints = (
                people[rng.integers(len(people))].copy()
                if near
                else rng.uniform(0, 300, (num_keypoints, 3))
            )
            keypoints[:, :2] += rng.normal(0, rng.choice([1, 5, 20]), (num_keypoints, 2))
            score = float(rng.choice([0.1, 0.9]) if tied else rng.uniform())
            found.append(
                {
                    "image_id": image["id"],
                    "category_id": 1,
                    "keypoints": keypoints.reshape(-1).tolist(),
                    "score": score,
                }
            )
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }, found


@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(
    seed=st.integers(0, 2**32),
    skeleton=st.sampled_from([COCO, CROWDPOSE, MPII, SIX]),
    tied=st.booleans(),
    detections=st.booleans(),
    some=st.booleans(),
)
def test_both_libraries_to_the_last_bit_on_random_cases(
    seed: int, skeleton: Skeleton, tied: bool, detections: bool, some: bool
) -> None:
    truth, found = random_case(seed, skeleton.num_keypoints, tied, detections)
    before = json.dumps([truth, found])
    ids = [image["id"] for image in truth["images"]][: 2 if some else None]
    fast = evaluate_coco(truth, found, skeleton, ids)
    assert fast.values == evaluate_coco(truth, found, skeleton, ids, "pycocotools").values
    assert json.dumps([truth, found]) == before, "the inputs stay as they are"


def test_random_cases_have_metrics_between_0_and_1() -> None:
    scores = [
        evaluate_coco(*random_case(seed, 17, False, True), COCO).values["AP"] for seed in range(30)
    ]
    assert sum(score is not None and 0.02 < score < 0.98 for score in scores) > 10


def one_person() -> tuple[dict, list[dict]]:
    keypoints = (
        np.column_stack([np.arange(17) * 10.0, np.arange(17) * 5.0, np.full(17, 2)])
        .reshape(-1)
        .tolist()
    )
    person = {
        "id": 5,
        "image_id": 1,
        "category_id": 1,
        "bbox": [0, 0, 160, 80],
        "area": 12800.0,
        "keypoints": keypoints,
    }
    truth = {
        "images": [{"id": 1}, {"id": 2}],
        "annotations": [person],
        "categories": [{"id": 1, "name": "person"}],
    }
    return truth, [{"image_id": 1, "category_id": 1, "keypoints": keypoints, "score": 0.9}]


@pytest.mark.parametrize("evaluator", ["hotcoco", "pycocotools"])
def test_nothing_found_is_zero_with_a_note(evaluator: str) -> None:
    metrics = evaluate_coco(one_person()[0], [], COCO, evaluator=evaluator)
    assert metrics.values["AP"] == 0 and metrics.main == 0
    assert metrics.values["APM"] is None, "there is no medium person"
    assert len(metrics.notes) == 1 and "detections" in metrics.notes[0]


def test_results_of_few_of_the_images_get_a_note() -> None:
    """One of two images with people has detections; none of the scored ones lacks them."""
    truth, found = one_person()
    truth["annotations"].append(truth["annotations"][0] | {"id": 2, "image_id": 2})
    partly = evaluate_coco(truth, found, COCO)
    assert len(partly.notes) == 1 and "1 of 2" in partly.notes[0]
    assert evaluate_coco(truth, found, COCO, image_ids=[1]).notes == ()


def test_metrics_without_people_are_not_a_number() -> None:
    truth, found = one_person()
    metrics = evaluate_coco(truth, found, COCO, image_ids=[2])
    assert set(metrics.values.values()) == {None}
    assert len(metrics.notes) == 1 and metrics.facts["people"] == 0
    assert metrics.main == 0


def test_only_the_chosen_images_count() -> None:
    truth, found = one_person()
    truth["annotations"].append(truth["annotations"][0] | {"id": 6, "image_id": 2})
    assert evaluate_coco(truth, found, COCO).values["AR"] == 0.5
    metrics = evaluate_coco(truth, found, COCO, image_ids=[1])
    assert (
        metrics.values["AR"] == 1 and metrics.facts["images"] == 1 and metrics.facts["people"] == 1
    )


def test_image_ids_may_be_text() -> None:
    truth, found = one_person()
    names = {1: "a.jpg", 2: "b.jpg"}
    truth["images"] = [{"id": name} for name in names.values()]
    for entry in (*truth["annotations"], *found):
        entry["image_id"] = names[entry["image_id"]]
    for evaluator in ("hotcoco", "pycocotools"):
        assert evaluate_coco(truth, found, COCO, ["a.jpg"], evaluator).values[
            "AP"
        ] == pytest.approx(1)


def test_image_results_score_like_their_file(tmp_path: Path) -> None:
    truth, found = one_person()
    keypoints = np.array(found[0]["keypoints"]).reshape(1, 17, 3) + np.random.default_rng(0).normal(
        0, 8, (1, 17, 3)
    )
    result = ImageResult(1, Poses(keypoints, np.array([0.7]), np.zeros((1, 17), bool)))
    path = tmp_path / "found.json"
    path.write_text(
        json.dumps(
            [{**found[0], "keypoints": np.round(keypoints, 3).reshape(-1).tolist(), "score": 0.7}]
        )
    )
    values = evaluate_coco(truth, [result], COCO).values
    average_precision = values["AP"]
    assert average_precision is not None and 0 < average_precision < 1
    assert values == evaluate_coco(truth, path, COCO).values


def test_default_sigmas_are_stated() -> None:
    truth = {"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    metrics = evaluate_coco(truth, [], SIX)
    assert any("'six'" in note and "0.05" in note for note in metrics.notes)
    assert metrics.facts["oks_sigmas"] == "default"


def test_oks_follows_the_skeletons_sigmas() -> None:
    """All keypoints off by 8: OKS = mean exp(-8^2 / (2 (2 sigma)^2 area)).

    AP is the fraction of thresholds below.
    """
    truth, found = one_person()
    found[0]["keypoints"] = [
        value + 8 * (index % 3 == 0) for index, value in enumerate(found[0]["keypoints"])
    ]
    similarity = np.mean(np.exp(-(8**2) / (2 * (2 * np.array(COCO.sigmas)) ** 2 * 12800.0)))
    expected = np.mean(similarity >= np.linspace(0.5, 0.95, 10))
    assert 0 < expected < 1
    assert evaluate_coco(truth, found, COCO).values["AP"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda truth: truth["annotations"][0].pop("area"),
            "annotation 5 .*area",
        ),
        (lambda truth: truth["annotations"][0].pop("bbox"), "annotation 5 .*bbox"),
        (
            lambda truth: truth["annotations"][0].update(keypoints=[1] * 18),
            "annotation 5 .*18 .*17",
        ),
        (
            lambda truth: truth["categories"].append({"id": 2, "name": "person"}),
            "person.*person",
        ),
        (lambda truth: truth["images"].clear(), "in memory"),
        (lambda truth: truth["annotations"][0].update(area="big"), "annotation 5 .*area 'big'"),
        (lambda truth: truth["annotations"][0].update(area=-5), "annotation 5 .*area '-5'"),
        (
            lambda truth: truth["annotations"][0].update(bbox=[1, 2, 3]),
            r"annotation 5 .*bbox '\[1, 2, 3\]'",
        ),
        (
            lambda truth: truth["annotations"][0].update(keypoints=["a"] * 51),
            "annotation 5 .*keypoints",
        ),
        (
            lambda truth: truth["annotations"][0].update(keypoints=7),
            "annotation 5 .*keypoints '7'",
        ),
        (
            lambda truth: truth["annotations"][0].update(image_id=[1]),
            r"annotation 5 .*image_id '\[1\]'",
        ),
        (
            lambda truth: truth["annotations"][0].update(iscrowd="no"),
            "annotation 5 .*iscrowd 'no'",
        ),
        (
            lambda truth: truth["annotations"][0].update(num_keypoints="no"),
            "annotation 5 .*num_keypoints 'no'",
        ),
    ],
)
@pytest.mark.parametrize("evaluator", ["hotcoco", "pycocotools"])
def test_unusable_annotations(
    change: Callable[[dict[str, Any]], object], message: str, evaluator: str
) -> None:
    truth, found = one_person()
    change(truth)
    with pytest.raises(UserError, match=message):
        evaluate_coco(truth, found, COCO, evaluator=evaluator)


def test_unknown_names() -> None:
    truth, found = one_person()
    with pytest.raises(UserError, match=r"TEST.EVALUATOR 'coco'.*hotcoco, pycocotools"):
        evaluate_coco(truth, found, COCO, evaluator="coco")
    with pytest.raises(UserError, match=r"\[77\]"):
        evaluate_coco(truth, found, COCO, image_ids=[77])


def test_the_person_category_may_have_any_number() -> None:
    truth, found = one_person()
    truth["categories"] = [{"id": 1, "name": "dog"}, {"id": 4, "name": "person"}]
    truth["annotations"][0]["category_id"] = 4
    truth["annotations"].append(truth["annotations"][0] | {"category_id": 1, "image_id": 2})
    assert evaluate_coco(truth, found, COCO).values["AR"] == 1


def test_ids_that_a_library_cannot_take_and_people_of_no_image() -> None:
    """Text, text beside numbers and negative numbers are valid ids.

    A person of an image that is not listed does not count.
    """
    for ids in (["a", "b"], ["a", 3], [-7, 3]):
        truth, found = one_person()
        truth["images"] = [{"id": one} for one in ids]
        truth["annotations"][0]["image_id"] = found[0]["image_id"] = ids[0]
        truth["annotations"].append(truth["annotations"][0] | {"image_id": "nowhere"})
        for evaluator in ("hotcoco", "pycocotools"):
            metrics = evaluate_coco(truth, found, COCO, evaluator=evaluator)
            assert metrics.values["AP"] == pytest.approx(1) and metrics.facts["people"] == 1


def test_images_without_id(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    path.write_text('{"images": [{"id": 1}, {}], "annotations": [], "categories": []}')
    with pytest.raises(UserError, match=r"annotations\.json.*'id'.*images\[1\]"):
        evaluate_coco(path, [], COCO)
    with pytest.raises(UserError, match=tmp_path.name):
        evaluate_coco(tmp_path, [], COCO)


@pytest.mark.parametrize(
    ("people", "message"),
    [
        (lambda one: [one | {"score": None}], "(person|entry) 0 .*score"),
        (lambda one: [one | {"score": True}], "entry 0 .*score"),
        (
            lambda one: [one | {"score": "high"}],
            "(person|entry) 0 .*score",
        ),
        (
            lambda one: [
                {"certainty": one["score"]} | {key: one[key] for key in one if key != "score"}
            ],
            r"person 0 .*\['score'\]",
        ),
        (
            lambda one: [
                one | {"keypoints": one["keypoints"][3:]},
                one | {"keypoints": [*one["keypoints"], 1, 1, 1]},
            ],
            "person 0 .* 48 keypoint",
        ),
        (
            lambda one: [one, one | {"image_id": "one"}],
            "person 1 .*image 'one'",
        ),
    ],
)
@pytest.mark.parametrize("evaluator", ["hotcoco", "pycocotools"])
def test_invalid_results_files(
    tmp_path: Path,
    people: Callable[[dict[str, Any]], list[dict[str, Any]]],
    message: str,
    evaluator: str,
) -> None:
    """hotcoco itself accepts several of these silently."""
    truth, found = one_person()
    path = tmp_path / "found.json"
    path.write_text(json.dumps(people(found[0])))
    with pytest.raises(UserError, match=message):
        evaluate_coco(truth, path, COCO, evaluator=evaluator)
