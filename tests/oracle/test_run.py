"""tools/oracle.py's test as a whole, on a few drawn-up people: every network, every noise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from duopose.config import load_config
from duopose.oracle.oracle_test import OracleTest
from duopose.oracle.synthetic_people import crowd
from duopose.skeletons import COCO


@pytest.fixture
def annotations(tmp_path: Path) -> str:
    """Two images with five people each."""
    people = []
    for image in (1, 2):
        for keypoints in crowd(5, 640, 480, COCO, seed=image):
            low, high = keypoints[:, :2].min(axis=0), keypoints[:, :2].max(axis=0)
            box = [*low.tolist(), *(high - low).tolist()]
            flat = [float(value) for x, y in keypoints[:, :2] for value in (x, y, 2)]
            people.append(
                {
                    "id": len(people) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "iscrowd": 0,
                    "bbox": box,
                    "keypoints": flat,
                }
                | {"area": 0.53 * box[2] * box[3], "num_keypoints": 17}
            )
    images = [
        {"id": image, "file_name": f"{image}.jpg", "width": 640, "height": 480} for image in (1, 2)
    ]
    path = tmp_path / "annotations.json"
    path.write_text(
        json.dumps(
            {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}
        )
    )
    return str(path)


@pytest.mark.parametrize("name", ["pose_higher_hrnet_de", "pose_higher_hrnet"])
def test_every_noise_gives_a_row(annotations: str, name: str) -> None:
    cfg = load_config(None, ["MODEL.NAME", name])
    rows = {
        row["noise"]: row
        for row in OracleTest(cfg, annotations).rows(["none", "maps", "displaced", "misses"])
    }
    assert list(rows) == ["none", "maps", "displaced", "misses"]
    assert rows["none"]["AP"] > 0.99 and rows["none"]["people"] == 10
    assert rows["displaced"]["AP"] < rows["none"]["AP"]
    assert {"AP50", "AP75", "AR", "ms_per_image", "settings"} <= set(rows["maps"])
