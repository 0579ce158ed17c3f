"""The CrowdPose authors' numbers, and the rules that make them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from duopose.coco_annotations import AnnotationFile, Record, read_annotation_file
from duopose.errors import UserError
from duopose.evaluate.crowdpose import evaluate_crowdpose, images_by_crowd_level, with_areas
from duopose.skeletons import CROWDPOSE


def file_of(images: Sequence[Record] = (), annotations: Sequence[Record] = ()) -> AnnotationFile:
    return AnnotationFile(Path("x.json"), list(images), list(annotations), [])


REFERENCE = "0.78772 0.98812 0.73144 0.82222 1.00000 0.77778 1.00000 0.98020 0.41160"


@pytest.mark.parametrize("evaluator", ["hotcoco", "pycocotools"])
def test_reference_numbers(real_data: Path, evaluator: str) -> None:
    folder = real_data / "evaluation"
    metrics = evaluate_crowdpose(
        folder / "example_crowdpose_val.json",
        folder / "example_crowdpose_preds.json",
        CROWDPOSE,
        None,
        evaluator,
    )
    assert list(metrics.values) == [
        "AP",
        "AP50",
        "AP75",
        "AR",
        "AR50",
        "AR75",
        "AP_easy",
        "AP_medium",
        "AP_hard",
    ]
    assert " ".join(f"{value:.5f}" for value in metrics.values.values()) == REFERENCE


def test_both_libraries_to_the_last_bit(real_data: Path) -> None:
    folder = real_data / "evaluation"
    annotations = folder / "example_crowdpose_val.json"
    results = folder / "example_crowdpose_preds.json"
    fast = evaluate_crowdpose(annotations, results, CROWDPOSE)
    reference = evaluate_crowdpose(annotations, results, CROWDPOSE, None, "pycocotools")
    assert fast.values == reference.values


def test_annotations_found_as_they_are(real_data: Path) -> None:
    """1400 real images scored against themselves: everybody with a labelled keypoint is found."""
    file = read_annotation_file(
        real_data / "annotations_only" / "crowdpose_keypoints_1400_images.json"
    )
    found = [
        {
            "image_id": a["image_id"],
            "category_id": 1,
            "keypoints": a["keypoints"],
            "score": 1 - a["id"] * 1e-9,
        }
        for a in file.annotations
        if a["num_keypoints"]
    ]
    metrics = evaluate_crowdpose(file, found, CROWDPOSE)
    for name in ("AP", "AP_easy"):
        value = metrics.values[name]
        assert value is not None and value > 0.995, name
    assert metrics.facts["images"] == 1400


def test_levels() -> None:
    images = [
        {"id": i, "crowdIndex": index} for i, index in enumerate([0, 0.19, 0.2, 0.79, 0.8, 1.0])
    ]
    levels = images_by_crowd_level(file_of(images=images), [0, 1, 2, 3, 4, 5])
    assert levels == {"AP_easy": [0, 1], "AP_medium": [2, 3], "AP_hard": [4, 5]}


def test_a_level_without_images_is_not_a_number(real_data: Path) -> None:
    folder = real_data / "evaluation"
    file = read_annotation_file(folder / "example_crowdpose_val.json")
    easy = images_by_crowd_level(file, [image["id"] for image in file.images])["AP_easy"]
    metrics = evaluate_crowdpose(
        file, folder / "example_crowdpose_preds.json", CROWDPOSE, image_ids=easy
    )
    assert metrics.values["AP_hard"] is None and metrics.values["AP_medium"] is None
    average_precision = metrics.values["AP"]
    assert average_precision is not None
    assert metrics.values["AP_easy"] == round(average_precision, 4)


def test_area_is_a_fraction_of_the_box_and_the_input_stays() -> None:
    file = file_of(annotations=[{"id": 1, "bbox": [1, 2, 10, 20], "area": 7}])
    assert with_areas(file).annotations[0]["area"] == pytest.approx(106)
    assert file.annotations[0]["area"] == 7


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UserError, match=r"x\.json.*bbox.*\[4\]"):
        with_areas(file_of(annotations=[{"id": 4}]))
    with pytest.raises(UserError, match=r"x\.json.*crowdIndex.*\[3\]"):
        images_by_crowd_level(file_of(images=[{"id": 3}]), [3])
