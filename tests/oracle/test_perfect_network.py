"""The perfect-network test on a few synthetic people: every network, every noise model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from duopose.config import load_config
from duopose.evaluate.ground_truth import open_annotations
from duopose.oracle.annotated_images import annotated_images
from duopose.oracle.perfect_network import PerfectNetworkTest
from duopose.profiling.synthetic_data import synthetic_people
from duopose.skeletons import COCO


@pytest.fixture
def annotation_file(tmp_path: Path) -> str:
    """Two images with five people each."""
    people: list[dict[str, object]] = []
    for image_id in (1, 2):
        for keypoints in synthetic_people(5, 640, 480, COCO, seed=image_id):
            low = keypoints[:, :2].min(axis=0)
            width, height = keypoints[:, :2].max(axis=0) - low
            person = {
                "id": len(people) + 1,
                "image_id": image_id,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [*low.tolist(), width, height],
                "area": 0.53 * width * height,
                "keypoints": keypoints.reshape(-1).tolist(),
                "num_keypoints": 17,
            }
            people.append(person)

    images = [{"id": image_id, "width": 640, "height": 480} for image_id in (1, 2)]
    categories = [{"id": 1, "name": "person"}]
    content = {"images": images, "annotations": people, "categories": categories}
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.parametrize("name", ["pose_higher_hrnet_de", "pose_higher_hrnet"])
def test_every_noise_model_gives_a_row(annotation_file: str, name: str) -> None:
    cfg = load_config(None, ["MODEL.NAME", name])
    noise_names = ["none", "maps", "displaced", "misses", "learned"]
    rows = list(PerfectNetworkTest(cfg, annotation_file).rows(noise_names))
    assert [row["noise"] for row in rows] == noise_names
    none, maps, displaced, *_ = rows
    assert none["AP"] > 0.99
    assert none["people"] == 10
    assert displaced["AP"] < none["AP"]
    assert maps["settings"]["model"] == name


def test_area_follows_the_box_where_it_is_missing_and_crowds_are_left_out(
    annotation_file: str,
) -> None:
    content = json.loads(Path(annotation_file).read_text())
    first, second = content["annotations"][:2]
    area = first.pop("area")
    second["iscrowd"] = 1
    Path(annotation_file).write_text(json.dumps(content))

    image, other = annotated_images(open_annotations(annotation_file), COCO)
    assert image.area[0] == pytest.approx(area)
    assert image.keypoints.shape == (4, 17, 3)
    assert other.keypoints.shape == (5, 17, 3)
    assert len(annotated_images(open_annotations(annotation_file), COCO, limit=1)) == 1
