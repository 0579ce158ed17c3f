"""The zip for the COCO server."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from duopose.errors import UserError
from duopose.evaluate.submission import write_submission
from duopose.skeletons import COCO

FOUND = {"image_id": 5, "category_id": 1, "keypoints": [1.0, 2.0, 0.5] * 17, "score": 0.5}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    path = tmp_path / "image_info_test-dev2017.json"
    path.write_text(json.dumps({"images": [{"id": 5}], "categories": []}))
    return path


def test_name_and_content(tmp_path: Path, images: Path) -> None:
    path = write_submission(
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
        write_submission(
            tmp_path / "out", [FOUND], images, COCO, "test-dev2017", "duopose_w32"
        ).read_bytes()
        == before
    )


@pytest.mark.parametrize(
    ("found", "name", "message"),
    [
        (FOUND | {"image_id": 6}, "a", "is in image 6, which the annotation file does not have"),
        (
            FOUND | {"keypoints": [1.0] * 42},
            "a",
            "has 42 keypoint numbers, but the skeleton has 17",
        ),
        (FOUND | {"score": float("nan")}, "a", "not finite"),
        (FOUND, "a/b", "letters, digits, dots, - and _, not 'a/b'"),
    ],
)
def test_what_the_server_would_refuse(
    tmp_path: Path, images: Path, found: dict, name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write_submission(tmp_path, [found], images, COCO, "test-dev2017", name)
    assert not list(tmp_path.glob("*.zip"))
