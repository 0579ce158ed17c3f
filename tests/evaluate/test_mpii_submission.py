"""The prediction file for MPII's own evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from duopose.datasets.prepare.mpii_mat import field, number, structs
from duopose.errors import UserError
from duopose.evaluate.mpii_submission import write_mpii_predictions
from duopose.skeleton_tables import MPII_FILE_KEYPOINTS
from duopose.skeletons import COCO, MPII


def test_nesting_ids_and_coordinates(tmp_path: Path) -> None:
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
    write_mpii_predictions(tmp_path / "pred.mat", found, path, MPII)
    images = structs(scipy.io.loadmat(tmp_path / "pred.mat")["pred"])
    assert [str(field(structs(field(image, "image"))[0], "name")[0]) for image in images] == [
        "a.jpg",
        "b.jpg",
        "c.jpg",
    ]
    assert [len(structs(field(image, "annorect"))) for image in images] == [2, 0, 1]
    person = structs(field(images[0], "annorect"))[0]
    assert number(field(person, "score")) == 0.5
    points = structs(field(structs(field(person, "annopoints"))[0], "point"))
    assert len(points) == 15
    for point in points:
        name = MPII_FILE_KEYPOINTS[int(number(field(point, "id")) or 0)]
        expected = keypoints[MPII.index(name)] + [1, 1, 0]
        assert [number(field(point, key)) for key in ("x", "y", "score")] == expected.tolist(), name


def test_another_skeleton_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a skeleton with MPII's keypoints"):
        write_mpii_predictions(tmp_path / "pred.mat", [], tmp_path / "absent.json", COCO)
