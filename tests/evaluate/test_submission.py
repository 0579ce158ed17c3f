"""The files that the benchmarks' servers take."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from duopose.datasets.prepare.mpii_mat import to_number, to_structs
from duopose.errors import UserError
from duopose.evaluate.submission import (
    write_coco_submission,
    write_crowdpose_submission,
    write_mpii_submission,
)
from duopose.mat_files import read_mat
from duopose.skeleton_tables import MPII_FILE_KEYPOINTS
from duopose.skeletons import COCO, CROWDPOSE, MPII

FOUND = {"image_id": 5, "category_id": 1, "keypoints": [1.0, 2.0, 0.5] * 17, "score": 0.5}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    path = tmp_path / "image_info_test-dev2017.json"
    path.write_text(json.dumps({"images": [{"id": 5}], "categories": []}))
    return path


def test_coco_name_and_content(tmp_path: Path, images: Path) -> None:
    path = write_coco_submission(
        tmp_path / "out", [FOUND | {"filled": [3]}], images, COCO, "test-dev2017", "duopose_w32"
    )
    assert path.name == "person_keypoints_test-dev2017_duopose_w32_results.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["person_keypoints_test-dev2017_duopose_w32_results.json"]
        assert json.loads(archive.read(archive.namelist()[0])) == [FOUND], (
            "the server's fields and no other"
        )
    before = path.read_bytes()
    assert (
        write_coco_submission(
            tmp_path / "out", [FOUND], images, COCO, "test-dev2017", "duopose_w32"
        ).read_bytes()
        == before
    )


@pytest.mark.parametrize(
    ("found", "name", "message"),
    [
        (FOUND | {"image_id": 6}, "a", "image 6"),
        (
            FOUND | {"keypoints": [1.0] * 42},
            "a",
            "42 .* 17",
        ),
        (FOUND | {"score": float("nan")}, "a", "person 0 .*image 5"),
        (FOUND, "a/b", "a/b"),
    ],
)
def test_files_that_the_server_rejects(
    tmp_path: Path, images: Path, found: dict, name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write_coco_submission(tmp_path, [found], images, COCO, "test-dev2017", name)
    assert not list(tmp_path.glob("*.zip"))


def test_mpii_nesting_ids_and_coordinates(tmp_path: Path) -> None:
    images = [
        {"id": 11, "file_name": "a.jpg"},
        {"id": 12, "file_name": "b.jpg"},
        {"id": 13, "file_name": "c.jpg"},
    ]
    path = tmp_path / "mpii_test.json"
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    keypoints = np.column_stack(
        [np.arange(16) * 10.0, np.arange(16) * 5.0, np.linspace(0.1, 0.9, 16)]
    )
    keypoints[3] = 0  # not found
    found = [
        {
            "image_id": image,
            "category_id": 1,
            "keypoints": keypoints.reshape(-1).tolist(),
            "score": 0.5,
        }
        for image in (11, 11, 13)
    ]
    written = write_mpii_submission(tmp_path, found, path, MPII, "test")
    written_images = to_structs(read_mat(written, "pred"))
    file_names = [to_structs(image["image"])[0]["name"] for image in written_images]
    assert file_names == ["a.jpg", "b.jpg", "c.jpg"]
    assert [len(to_structs(image["annorect"])) for image in written_images] == [2, 0, 1]
    person = to_structs(written_images[0]["annorect"])[0]
    assert to_number(person["score"]) == 0.5
    points = to_structs(to_structs(person["annopoints"])[0]["point"])
    assert len(points) == 15
    for point in points:
        name = MPII_FILE_KEYPOINTS[int(to_number(point["id"]) or 0)]
        expected = keypoints[MPII.index(name)] + [1, 1, 0]
        assert [to_number(point[key]) for key in ("x", "y", "score")] == expected.tolist(), name


def test_mpii_needs_its_joints(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'coco'.*upper_neck"):
        write_mpii_submission(tmp_path, [], tmp_path / "absent.json", COCO, "test")


def test_crowdpose_takes_the_results_file(tmp_path: Path, images: Path) -> None:
    found = [FOUND | {"keypoints": [1.0, 2.0, 0.5] * 14}]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(found))
    assert write_crowdpose_submission(tmp_path, path, images, CROWDPOSE, "test") == path
    written = write_crowdpose_submission(tmp_path, found, images, CROWDPOSE, "test")
    assert json.loads(written.read_text()) == found
    with pytest.raises(UserError, match=r"42 .* 17"):
        write_crowdpose_submission(tmp_path, path, images, COCO, "test")
