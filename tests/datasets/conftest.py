"""A small COCO-format data set: a crowd, an unlabelled person, an image without annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

WIDTH, HEIGHT = 80, 60


def keypoints_at(x: float, y: float, visibility: int = 2) -> list[float]:
    """17 keypoints on a diagonal from (x, y)."""
    return [value for k in range(17) for value in (x + k, y + k, visibility)]


def tiny_content() -> dict[str, Any]:
    """Images 10 (two people and a crowd), 20 (an unlabelled person), 30 (a crowd), 40 (nothing)."""
    images = [
        {"id": i, "file_name": f"p{i}.png", "width": WIDTH, "height": HEIGHT}
        for i in (10, 20, 30, 40)
    ]
    crowd = {
        "size": [HEIGHT, WIDTH],
        "counts": [0, HEIGHT * 20, HEIGHT * (WIDTH - 20)],
    }  # the 20 leftmost columns
    square = [[50, 10, 70, 10, 70, 30, 50, 30]]
    common = {"category_id": 1, "iscrowd": 0}
    annotations: list[dict[str, Any]] = [
        {
            "id": 1,
            "image_id": 10,
            "num_keypoints": 17,
            "keypoints": keypoints_at(30, 5),
            "bbox": [30, 5, 17, 17],
            "area": 100,
        }
        | common,
        {
            "id": 2,
            "image_id": 10,
            "num_keypoints": 17,
            "keypoints": keypoints_at(50, 20),
            "bbox": [50, 20, 17, 17],
            "area": 200,
        }
        | common,
        {
            "id": 3,
            "image_id": 10,
            "num_keypoints": 0,
            "keypoints": [0] * 51,
            "segmentation": crowd,
            "area": 1,
            "category_id": 1,
            "iscrowd": 1,
        },
        {
            "id": 4,
            "image_id": 20,
            "num_keypoints": 0,
            "keypoints": [0] * 51,
            "segmentation": square,
            "bbox": [50, 10, 20, 20],
        }
        | common,
        {
            "id": 5,
            "image_id": 30,
            "num_keypoints": 0,
            "keypoints": [0] * 51,
            "segmentation": crowd,
            "category_id": 1,
            "iscrowd": 1,
        },
    ]
    for annotation in annotations[:2]:
        x, y, w, h = annotation["bbox"]
        annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }


def write_tiny(root: Path, content: dict[str, Any], split: str = "train2017") -> Path:
    """The content in COCO's layout below `root`; images are noise, the same for a name."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"person_keypoints_{split}.json").write_text(json.dumps(content))
    folder = root / "images" / split
    folder.mkdir(parents=True, exist_ok=True)
    for image in content["images"]:
        pixels = np.random.default_rng(int(image["id"])).integers(
            0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8
        )
        cv2.imwrite(str(folder / image["file_name"]), pixels)
    return root


@pytest.fixture
def tiny_root(tmp_path: Path) -> Path:
    """The data set on disk, split train2017."""
    return write_tiny(tmp_path / "tiny", tiny_content())
