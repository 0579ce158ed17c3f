"""Which annotations are people; files that are not in COCO format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from duopose.coco_annotations import (
    is_person,
    person_category,
    read_all_fields,
    read_annotation_file,
)
from duopose.errors import UserError
from duopose.json_files import read_json

PERSON = {"id": 1, "name": "person"}


@pytest.mark.parametrize(
    ("categories", "expected"),
    [
        ([PERSON], 1),
        ([{"id": 4, "name": "dog"}, {"id": 9, "name": "person"}], 9),
        ([{"id": 7, "name": "athlete"}], 7),
        ([{"id": 7, "name": "athlete", "keypoints": ["a"] * 5}], 7),
        (
            [{"id": "cat", "name": "cat", "keypoints": ["a"] * 6}, {"id": "box", "name": "box"}],
            "cat",
        ),
        (
            [PERSON | {"keypoints": ["a"] * 17}, {"id": 2, "name": "hand", "keypoints": ["a"] * 6}],
            1,
        ),
        ([PERSON | {"keypoints": ["a"] * 17}, PERSON | {"id": 2, "keypoints": ["a"] * 6}], 2),
        ([], None),
    ],
)
def test_the_category_of_people(categories: list[dict[str, Any]], expected: int | str) -> None:
    assert person_category(categories, 6, "file.json") == expected


@pytest.mark.parametrize(
    ("categories", "names"),
    [
        ([PERSON, PERSON | {"id": 2}], ["file.json", "person"]),
        ([{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}], ["cat", "dog", "6"]),
        ([{"id": [1], "name": "person"}], ["person", r"\[1\]"]),
        ([{"name": "person"}], ["person", "None"]),
    ],
)
def test_candidates_are_named(categories: list[dict[str, Any]], names: list[str]) -> None:
    with pytest.raises(UserError, match=".*".join(names)):
        person_category(categories, 6, "file.json")


def test_annotations_without_a_category_are_people() -> None:
    assert is_person({}, 3) and is_person({"category_id": 3}, 3)
    assert not is_person({"category_id": 4}, 3) and not is_person({"category_id": [3]}, 3)
    assert is_person({"category_id": 4}, None)


@pytest.mark.parametrize(
    "name", ["coco/annotations/person_keypoints_val2017.json", "crowdpose/json/crowdpose_test.json"]
)
def test_real_files(real_data: Path, name: str) -> None:
    file = read_annotation_file(real_data / name)
    content = read_json(real_data / name, "annotation file")
    category = person_category(file.categories, 17 if "coco/" in name else 14, name)
    assert read_all_fields(real_data / name).annotations == content["annotations"]
    for annotation, whole in zip(file.annotations, content["annotations"], strict=True):
        read = {key: value for key, value in annotation.items() if key != "segmentation"}
        assert read.items() <= whole.items() and annotation["keypoints"] == whole["keypoints"]
    assert all(is_person(annotation, category) for annotation in file.annotations)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[]", "list"),
        ('{"annotations": []}', "'images'"),
        ('{"images": [], "annotations": ["a"]}', "'annotations'"),
        ('{"images": [], "categories": {}}', "'categories'"),
    ],
)
def test_not_coco_format(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "annotations.json"
    path.write_text(text)
    with pytest.raises(UserError, match=f"annotations.json.*{key}"):
        read_annotation_file(path)


def test_a_split_without_ground_truth(tmp_path: Path) -> None:
    path = tmp_path / "image_info.json"
    path.write_text('{"images": [{"id": 1}]}')
    file = read_annotation_file(path)
    assert file.images == [{"id": 1}] and file.annotations == [] and file.categories == []
