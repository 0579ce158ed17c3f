"""Generated data: reproducible, correct labels, and symmetric under horizontal flips."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO as CocoApi

from duopose.benchmarks import BENCHMARKS
from duopose.datasets.annotations import crowd_index
from duopose.datasets.check.splits import Rules, check_split
from duopose.datasets.sample_data.body import pose_body
from duopose.datasets.sample_data.crowd import CROWD_STYLE, place_crowd
from duopose.datasets.sample_data.figure import Canvas, draw_figure, is_visible, random_look
from duopose.datasets.sample_data.scene import DEFAULT_STYLE, Person, SceneStyle, annotate
from duopose.datasets.sample_data.write import FORMATS, PRESETS, make_sample_data
from duopose.datasets.split_files import find_annotations, find_images
from duopose.errors import UserError
from duopose.skeletons import COCO, CROWDPOSE, MPII, Skeleton

SPLIT = "train2017"


def _content(root: Path) -> dict:
    return json.loads((root / "annotations" / f"person_keypoints_{SPLIT}.json").read_text())


def _first_image(folder: Path) -> np.ndarray:
    image = cv2.imread(str(sorted(folder.iterdir())[0]))
    assert image is not None
    return image


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    make_sample_data(root, {"train": 120, "val": 5}, seed=3, size=96, skeleton=COCO, workers=1)
    return root


def test_same_seed_same_files_for_any_number_of_workers(drawn: Path, tmp_path: Path) -> None:
    make_sample_data(tmp_path, {"train": 120, "val": 5}, seed=3, size=96, skeleton=COCO, workers=2)
    for path in sorted(drawn.rglob("*.*")):
        other = tmp_path / path.relative_to(drawn)
        assert (
            hashlib.sha256(path.read_bytes()).digest()
            == hashlib.sha256(other.read_bytes()).digest()
        ), path.name


def test_splits_and_seeds_differ(drawn: Path, tmp_path: Path) -> None:
    make_sample_data(tmp_path, {"train": 2, "val": 0}, seed=4, size=96, skeleton=COCO, workers=1)
    first = _first_image(drawn / "images" / SPLIT)
    other_seed = _first_image(tmp_path / "images" / SPLIT)
    held_out = _first_image(drawn / "images" / "val2017")
    assert not np.array_equal(first, other_seed)
    assert not np.array_equal(first, held_out)


def test_annotations_are_in_coco_format(drawn: Path) -> None:
    api = CocoApi(str(drawn / "annotations" / f"person_keypoints_{SPLIT}.json"))
    assert len(api.imgs) == 120
    people = [len([a for a in anns if a["num_keypoints"]]) for anns in api.imgToAnns.values()]
    assert min(people) >= 1 and max(people) <= 5 and len(set(people)) >= 4
    for annotation in api.anns.values():
        region = api.annToMask(annotation)
        assert abs(region.sum() - annotation["area"]) < 0.12 * annotation["area"] + 25
        x, y, width, height = annotation["bbox"]
        assert (
            min(x, y) >= 0
            and x + width <= 96
            and y + height <= 96
            and width * height >= annotation["area"]
        )
        keypoints = np.array(annotation["keypoints"]).reshape(-1, 3)
        assert annotation["num_keypoints"] == (keypoints[:, 2] > 0).sum()
        assert (keypoints[keypoints[:, 2] == 0] == 0).all()
        inside = keypoints[keypoints[:, 2] > 0, :2]
        assert ((inside > -0.5) & (inside < 95.5)).all()


def test_visible_keypoints_lie_on_the_person(drawn: Path) -> None:
    api = CocoApi(str(drawn / "annotations" / f"person_keypoints_{SPLIT}.json"))
    on_person, total, flags = 0, 0, set()
    for annotation in api.anns.values():
        keypoints = np.array(annotation["keypoints"]).reshape(-1, 3)
        flags |= set(keypoints[:, 2].astype(int).tolist())
        region = cv2.dilate(api.annToMask(annotation), np.ones((3, 3)))
        for x, y, _ in keypoints[keypoints[:, 2] == 2]:
            on_person += int(region[int(np.clip(round(y), 0, 95)), int(np.clip(round(x), 0, 95))])
            total += 1
    assert flags == {0, 1, 2}
    assert on_person / total > 0.99


def test_mirrored_joints_draw_the_mirrored_figure() -> None:
    """Mirrored joints with left and right swapped draw the mirrored figure, but for rounding."""
    width, height = 160, 120.0
    swap = {"left": "right", "right": "left"}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        joints = {
            name: point * height + np.array([80.0, 70.0, 0.0])
            for name, point in pose_body(rng).items()
        }
        mirrored = {}
        for name, (x, y, z) in joints.items():
            side, _, kind = name.partition("_")
            mirrored[f"{swap[side]}_{kind}" if side in swap else name] = np.array(
                [width - 1 - x, y, z]
            )
        canvases = [
            Canvas(np.zeros((160, width, 3), np.uint8), np.zeros((160, width), np.uint8))
            for _ in range(2)
        ]
        look = random_look(rng)
        for canvas, points in zip(canvases, (joints, mirrored), strict=True):
            draw_figure(canvas, points, look, height, 0)
        differing = np.abs(canvases[0].image.astype(int) - canvases[1].image[:, ::-1]).max(2) > 60
        assert differing.mean() < 0.004
        for name in COCO.keypoints:
            inside = all(0 <= value < 159.5 for value in joints[name][:2])
            if inside and seed < 3:
                seen = is_visible(canvases[0], joints, height, 0, name)
                assert seen == is_visible(canvases[1], mirrored, height, 0, COCO.mirror[name]), name


def test_the_nose_is_hidden_from_behind() -> None:
    counts: dict[bool, list[bool]] = {True: [], False: []}
    for seed in range(60):
        joints = {
            name: point * 100 + np.array([80.0, 80.0, 0.0])
            for name, point in pose_body(np.random.default_rng(seed)).items()
        }
        canvas = Canvas(np.zeros((200, 200, 3), np.uint8), np.zeros((200, 200), np.uint8))
        draw_figure(canvas, joints, random_look(np.random.default_rng(seed)), 100.0, 0)
        faces_viewer = bool(joints["nose"][2] > joints["head_middle"][2])
        counts[faces_viewer].append(is_visible(canvas, joints, 100.0, 0, "nose"))
    assert not any(counts[False]) and np.mean(counts[True]) > 0.7


@pytest.mark.parametrize("skeleton", [CROWDPOSE, MPII], ids=lambda skeleton: skeleton.name)
def test_other_skeletons_are_drawn(skeleton: Skeleton, tmp_path: Path) -> None:
    make_sample_data(
        tmp_path, {"train": 2, "val": 1}, seed=0, size=64, skeleton=skeleton, workers=1
    )
    content = _content(tmp_path)
    assert content["categories"][0]["keypoints"] == list(skeleton.keypoints)
    assert len(content["annotations"][0]["keypoints"]) == 3 * skeleton.num_keypoints


def test_a_keypoint_that_cannot_be_drawn_is_named(tmp_path: Path) -> None:
    tail = Skeleton("cat", ("nose", "tail"), (), ("nose",), {}, ("tail",))
    with pytest.raises(UserError, match="tail"):
        make_sample_data(tmp_path, {"train": 1, "val": 1}, 0, 64, tail, workers=1)


# ---- crowds ----


def test_crowds_have_many_people_of_different_sizes() -> None:
    counts, ratios = [], []
    for seed in range(40):
        people = place_crowd(np.random.default_rng(seed), 320)
        heights = np.array([person.height for person in people]) / 320
        counts.append(len(people))
        ratios.append(heights.max() / heights.min())
        assert heights.min() > 0.149 and heights.max() < 0.951
    assert min(counts) >= 1 and max(counts) == 12 and np.mean(counts) > 5
    assert max(ratios) <= 5.001 and np.median(ratios) > 2.5


@pytest.mark.parametrize("file_format", ["coco", "crowdpose"])
def test_a_crowd_is_in_order_in_both_formats(file_format: str, tmp_path: Path) -> None:
    benchmark = BENCHMARKS[file_format]
    make_sample_data(
        tmp_path,
        {"train": 12, "test": 4},
        seed=0,
        size=96,
        skeleton=benchmark.skeleton,
        workers=1,
        preset=PRESETS["crowd"],
        file_format=FORMATS[file_format],
    )
    ids: list[set[int]] = []
    for split in ("train", "test"):
        name = f"{split}2017" if file_format == "coco" else split
        path = find_annotations(tmp_path, benchmark.layout, name)
        images = find_images(tmp_path, benchmark.layout, name, "jpg")
        rules = Rules(benchmark.skeleton, benchmark.required, 30)
        report = check_split(name, path, images, rules)
        assert not report.findings.problems
        content = json.loads(path.read_text())
        ids.append({image["id"] for image in content["images"]})
        for image in content["images"]:
            people = [a for a in content["annotations"] if a["image_id"] == image["id"]]
            assert image["crowdIndex"] == crowd_index(people)
        flags = {v for a in content["annotations"] for v in a["keypoints"][2::3]}
        assert flags == {0, 1, 2}
    assert len(ids[0]) == 12 and len(ids[1]) == 4 and not ids[0] & ids[1]


def _person_with_wrist_at(wrist: tuple[float, float]) -> Person:
    """A person 100 px high, of whom only the wrist matters."""
    joints = {
        "left_wrist": np.array([*wrist, 5.0]),
        "head_middle": np.zeros(3),
        "pelvis": np.zeros(3),
    }
    return Person(joints, 100.0, np.array([0.0, 0, 100, 100]))


def test_deeply_hidden_joints_and_people_are_not_labelled() -> None:
    """Columns 0 ... 39 belong to person 0, the rest to person 1; the limit is 0.08 * 100 px."""
    ids = np.full((100, 100), 20, np.uint8)
    ids[:, :40] = 6  # a part of person 0
    canvas = Canvas(np.zeros((100, 100, 3), np.uint8), ids)

    def wrist_flag(x: float, style: SceneStyle = CROWD_STYLE, drawn_area: int = 5000) -> int:
        person = _person_with_wrist_at((x, 50))
        record = annotate(canvas, person, 0, ("left_wrist",), style, drawn_area)
        assert record["num_keypoints"] == (record["keypoints"][2] > 0)
        return record["keypoints"][2]

    assert wrist_flag(45) == 1  # 6 pixels from the last own column
    assert wrist_flag(50) == 0  # 11 pixels
    assert wrist_flag(50, DEFAULT_STYLE) == 1
    assert wrist_flag(45, drawn_area=40 * 100 * 6) == 1  # a sixth is visible
    assert wrist_flag(45, drawn_area=40 * 100 * 7) == 0  # a seventh: below 0.15


def _record(points: list[tuple[float, float, int]], box: list[float]) -> dict:
    return {"keypoints": [value for point in points for value in point], "bbox": box}


def test_crowd_index_of_cases_counted_by_hand() -> None:
    one = _record([(1, 1, 2), (2, 2, 1), (8, 8, 2), (0, 0, 0)], [0, 0, 5, 5])  # 2 own joints in box
    two = _record([(4, 4, 2), (5, 5, 2), (9, 9, 1), (20, 20, 2)], [4, 4, 6, 6])  # 3 own
    # Box of one: joints (4, 4), (5, 5) of two -> 2/2. Box of two: (8, 8) of one -> 1/3.
    assert crowd_index([one, two]) == 0.67
    assert crowd_index([one]) == 0.0 and crowd_index([]) == 0.0
    unlabelled = _record([(0, 0, 0)] * 4, [0, 0, 30, 30])
    assert crowd_index([one, two, unlabelled]) == 0.67
