"""Evaluation mosaics: boxes overlap as asked, labels are where the pixels are, files repeat."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from duopose.benchmarks import BENCHMARKS
from duopose.datasets.check.splits import Rules, check_split
from duopose.datasets.prepare.mosaic_set import (
    SourceImage,
    _visible_box,
    inner_corners,
    make_mosaic_set,
    read_source,
)
from duopose.datasets.split_files import FolderImages
from duopose.errors import UserError
from duopose.skeletons import COCO

LAYOUT = BENCHMARKS["coco"].layout
SPLIT = "val2017"
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))  # RGB, of the images
BOX = (40, 30, 80, 60)  # x, y, width, height of every person; joints on a grid in it


def write_source(root: Path) -> Path:
    """Four images of one colour and person each, an ignored region in image 1; a fifth empty."""
    folder = root / "images" / SPLIT
    folder.mkdir(parents=True)
    x, y, _, _ = BOX
    grid = [(x + 6 + 17 * c, y + 4 + 17 * r) for r in range(4) for c in range(5)][:17]
    images, annotations = [], []
    for number in range(5):
        pixels = np.full((120, 160, 3), COLOURS[number % 4][::-1], np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
        images.append({"id": number + 1, "file_name": f"{number}.png", "width": 160, "height": 120})
        person = {"id": number + 1, "image_id": number + 1, "category_id": 1, "iscrowd": 0}
        flat = [value for px, py in grid for value in (px, py, 2)]
        if number < 4:
            annotations.append(
                person | {"keypoints": flat, "num_keypoints": 17, "bbox": list(BOX), "area": 2400.0}
            )
    crowd = [[0, 0, 30, 0, 30, 120, 0, 120]]
    annotations.append(
        {"id": 9, "image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 0}
        | {"keypoints": [0] * 51, "segmentation": crowd, "bbox": [0, 0, 30, 120], "area": 3600}
    )
    content = {"images": images, "annotations": annotations, "categories": []}
    (root / "annotations").mkdir()
    (root / "annotations" / f"person_keypoints_{SPLIT}.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def sources(tmp_path: Path) -> list[SourceImage]:
    return read_source(write_source(tmp_path / "source"), LAYOUT, SPLIT, "jpg", COCO)


def write_set(sources: list[SourceImage], out: Path, overlap: float, number: int = 8) -> dict:
    made = make_mosaic_set(sources, out, SPLIT, number=number, size=200, overlap=overlap, seed=5)
    path = out / "annotations" / f"person_keypoints_{SPLIT}.json"
    content = json.loads(path.read_text())
    assert made == number == len(content["images"])
    rules = Rules(COCO, BENCHMARKS["coco"].required, 30)
    report = check_split(SPLIT, path, FolderImages(out / "images" / SPLIT), rules)
    assert not report.findings.problems
    return content


def test_boxes_of_neighbours_overlap_by_the_fraction() -> None:
    sides = [np.array(side, float) for side in ((60, 80), (40, 90), (50, 20), (70, 100))]
    corners = inner_corners(sides, 200, 0.5)
    # Rows: 0.5 * 40 = 20 and 0.5 * 50 = 25 pixels. Columns: 0.5 * 20 = 10 and 0.5 * 90 = 45.
    assert (corners[0] - corners[1])[0] == 20 and (corners[2] - corners[3])[0] == 25
    assert (corners[0] - corners[2])[1] == 10 and (corners[1] - corners[3])[1] == 45
    assert (inner_corners(sides, 200, 0.0) == 100).all()


def test_sources_are_the_images_with_people(sources: list[SourceImage]) -> None:
    assert [source.dataset.image_ids[source.index] for source in sources] == [1, 2, 3, 4]
    assert [len(source.people) for source in sources] == [1, 1, 1, 1]


def test_visible_joints_show_their_image_and_hidden_ones_another(
    sources: list[SourceImage], tmp_path: Path
) -> None:
    content = write_set(sources, tmp_path / "out", overlap=0.4)
    flags = []
    for image in content["images"]:
        pixels = cv2.imread(str(tmp_path / "out" / "images" / SPLIT / image["file_name"]))
        assert pixels is not None
        own_colours: list[tuple[int, ...]] = []
        for person in content["annotations"]:
            keypoints = np.array(person["keypoints"]).reshape(-1, 3)
            if person["image_id"] != image["id"] or person["iscrowd"]:
                continue
            at_joint: dict[int, set[tuple[int, ...]]] = {1: set(), 2: set()}
            for x, y, flag in keypoints[keypoints[:, 2] > 0]:
                red_green_blue = pixels[round(y), round(x)][::-1]
                at_joint[int(flag)].add(tuple((255 * (red_green_blue > 127)).tolist()))
            flags += keypoints[:, 2].astype(int).tolist()
            assert len(at_joint[2]) == 1 and not at_joint[2] & at_joint[1]
            own_colours += at_joint[2]
            assert person["num_keypoints"] == (keypoints[:, 2] > 0).sum()
            x, y, width, height = person["bbox"]
            visible = keypoints[keypoints[:, 2] == 2, :2]
            assert (visible >= (x - 0.5, y - 0.5)).all()
            assert (visible <= (x + width, y + height)).all()
        assert sorted(own_colours) == sorted(COLOURS)
    assert set(flags) == {0, 1, 2}
    assert 0.05 < np.mean(np.array(flags) == 0) < 0.5


def test_without_overlap_everything_is_visible(sources: list[SourceImage], tmp_path: Path) -> None:
    content = write_set(sources, tmp_path / "out", overlap=0.0)
    people = [person for person in content["annotations"] if not person["iscrowd"]]
    assert len(people) == 32 and all(set(p["keypoints"][2::3]) == {2} for p in people)
    for person in people:  # half of the box was the area
        _, _, width, height = person["bbox"]
        assert person["area"] == pytest.approx(width * height / 2, rel=0.06)
    assert {image["crowdIndex"] for image in content["images"]} == {0.0}


def test_ignored_regions_move_along(sources: list[SourceImage], tmp_path: Path) -> None:
    """Image 1 is red and its 30 leftmost columns are ignored."""
    content = write_set(sources, tmp_path / "out", overlap=0.2)
    crowds = [annotation for annotation in content["annotations"] if annotation["iscrowd"]]
    assert crowds
    for crowd in crowds:
        name = f"{crowd['image_id']:012d}.jpg"
        pixels = cv2.imread(str(tmp_path / "out" / "images" / SPLIT / name))
        assert pixels is not None
        red = (pixels[..., 2] > 127) & (pixels[..., 1] < 128)
        code = crowd["segmentation"]
        region = coco_mask.decode({"size": code["size"], "counts": code["counts"].encode()}) > 0
        assert red[region].mean() > 0.98 and region.sum() == crowd["area"]


def test_the_same_seed_gives_the_same_files(sources: list[SourceImage], tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_set(sources, tmp_path / name, overlap=0.3, number=2)
    for path in (tmp_path / "one").rglob("*.*"):
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == other.read_bytes()


def test_visible_box_counted_by_hand() -> None:
    on_top = np.zeros((20, 20), bool)
    on_top[4:12, 5:20] = True  # rows 4 ... 11
    corners = np.array([[2.0, 8.0], [10.0, 16.0]])  # x 2 ... 10, y 8 ... 16
    box, fraction = _visible_box(corners, on_top)  # type: ignore[misc]
    assert box == [5, 8, 5, 4] and fraction == 20 / 64
    assert _visible_box(corners + 10, on_top) is None


def test_too_few_images(sources: list[SourceImage], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3"):
        make_mosaic_set(
            sources[:3], tmp_path / "out", SPLIT, number=1, size=200, overlap=0.1, seed=0
        )
