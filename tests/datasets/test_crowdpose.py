"""Joining CrowdPose's train and val; files that raise an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from duopose.datasets.prepare.crowdpose_trainval import prepare_crowdpose
from duopose.errors import UserError


def content(first: int, count: int = 2) -> dict[str, Any]:
    images = [
        {"id": i, "file_name": f"{i}.jpg", "width": 9, "height": 9, "crowdIndex": 0.3}
        for i in range(first, first + count)
    ]
    annotations = [
        {
            "id": n,
            "image_id": image["id"],
            "keypoints": [1, 2, 2] * 14,
            "num_keypoints": 0,
            "iscrowd": 0,
            "bbox": [0, 0, 5, 5],
            "category_id": 1,
        }
        for n, image in enumerate(images)
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "json").mkdir()
    (tmp_path / "images").mkdir()
    for split, first in (("train", 10), ("val", 20), ("test", 30)):
        write(tmp_path, split, content(first))
    (tmp_path / "images" / "10.jpg").touch()
    return tmp_path


def write(root: Path, split: str, what: dict[str, Any]) -> None:
    (root / "json" / f"crowdpose_{split}.json").write_text(json.dumps(what))


def test_trainval_has_both_and_new_ids(root: Path) -> None:
    prepared = prepare_crowdpose(root)
    written = json.loads(prepared.path.read_text())
    assert [image["id"] for image in written["images"]] == [10, 11, 20, 21]
    assert [(a["id"], a["image_id"], a["num_keypoints"]) for a in written["annotations"]] == [
        (1, 10, 0),
        (2, 11, 0),
        (3, 20, 0),
        (4, 21, 0),
    ]
    notices = "\n".join(prepared.notices)
    assert "3 of 4 images" in notices and "10000" in notices


def test_shared_images_are_refused(root: Path) -> None:
    write(root, "val", content(11))
    with pytest.raises(UserError, match=r" 1 .*\['11'\]"):
        prepare_crowdpose(root)
    write(root, "val", content(31))
    with pytest.raises(UserError, match=r" 1 .*\['31'\]"):
        prepare_crowdpose(root)


@pytest.mark.parametrize(
    ("damage", "fragments"),
    [
        (
            lambda c: c["annotations"][1].update(keypoints=[0] * 51),
            r"1 annotations .*'keypoints'.* \[1\]",
        ),
        (
            lambda c: c["annotations"][1].update(keypoints=5),
            r"1 annotations .*'keypoints'.* \[1\]",
        ),
        (
            lambda c: c["images"][0].pop("crowdIndex"),
            r"1 images .*'crowdIndex'.* \[20\]",
        ),
        (
            lambda c: c["images"][1].pop("file_name"),
            r"1 images .*'file_name'.* \[21\]",
        ),
        (lambda c: c["images"][0].update(id=[20]), r"1 images .*'id'.* \[\[20\]\]"),
        (
            lambda c: c["annotations"][0].update(image_id=99),
            r"1 annotations .*'image_id'.* \[0\]",
        ),
        (
            lambda c: c["annotations"][0].update(image_id=[20]),
            r"1 annotations .*'image_id'.* \[0\]",
        ),
    ],
)
def test_other_files_are_refused(
    root: Path, damage: Callable[[dict[str, Any]], object], fragments: str
) -> None:
    other = content(20)
    damage(other)
    write(root, "val", other)
    with pytest.raises(UserError, match=rf"crowdpose_val\.json.*{fragments}"):
        prepare_crowdpose(root)
    assert not (root / "json" / "crowdpose_trainval.json").exists()


def test_people_without_keypoints_stay(root: Path) -> None:
    other = content(20)
    other["annotations"][0]["keypoints"] = None
    write(root, "val", other)
    assert prepare_crowdpose(root).people == 4


def test_a_missing_file_is_named(root: Path) -> None:
    (root / "json" / "crowdpose_val.json").unlink()
    with pytest.raises(UserError, match=r"crowdpose_val\.json"):
        prepare_crowdpose(root)
    assert not (root / "json" / "crowdpose_trainval.json").exists()
