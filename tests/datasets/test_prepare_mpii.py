"""MPII's .mat with the official nesting, written here, and the real groups file."""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
from tests.datasets.mpii_mat import (
    EMPTY,
    cells,
    image,
    person,
    point,
    real_person,
    struct_array,
    write_mat,
)

from duopose.coco_annotations import read_annotation_file
from duopose.datasets.annotations import collect_people
from duopose.datasets.prepare.mpii_mat import read_groups, read_release
from duopose.datasets.prepare.mpii_to_coco import image_sizes, split_images, to_coco
from duopose.errors import UserError
from duopose.evaluate.mpii import evaluate_mpii
from duopose.skeleton_tables import MPII_FILE_KEYPOINTS
from duopose.skeletons import MPII

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def mat(tmp_path: Path) -> Path:
    without_points = {key: value for key, value in person(300).items() if key != "annopoints"}
    images = [
        image("many.jpg", struct_array([person(100), person(200, joints=1), without_points])),
        image("one.jpg", person(50), 8),  # a single struct, not in an array
        image(
            "one_point.jpg",
            struct_array([person(50, annopoints={"point": point(9, 7.0, 9.0)})]),
            EMPTY,
        ),
        image("nobody.jpg", EMPTY),
        image(
            "test.jpg",
            struct_array(
                [
                    {"scale": 2.0, "objpos": {"x": 301.0, "y": 401.0}},
                    {"scale": EMPTY, "objpos": EMPTY},
                ]
            ),
        ),
        image(
            "empty_points.jpg", struct_array([person(80, annopoints=EMPTY, x1=EMPTY, objpos=EMPTY)])
        ),
    ]
    return write_mat(tmp_path / "mpii.mat", images, [1, 1, 1, 1, 0, 1])


def test_images_and_people(mat: Path) -> None:
    images = read_release(mat)
    assert [p.name for p in images] == [
        "many.jpg",
        "one.jpg",
        "one_point.jpg",
        "nobody.jpg",
        "test.jpg",
        "empty_points.jpg",
    ]
    assert [p.train for p in images] == [True, True, True, True, False, True]
    assert [p.video for p in images] == [7, 8, None, 7, 7, 7]
    assert [len(p.people) for p in images] == [3, 1, 1, 0, 2, 1]


def test_a_person_counts_from_pixel_zero(mat: Path) -> None:
    many, one, one_point, _, test, empty = (p.people for p in read_release(mat))
    first = many[0]
    assert len(first.joints) == 16
    assert first.joints[0] == (99, -1, 1) and first.joints[1] == (100, 1, 2)
    assert first.joints[9] == (108, 17, 2), "not stated is visible"
    assert first.head_box == (99, 9, 129, 49)
    assert first.position == (104, 19) and first.scale == 1.5
    assert len(many[1].joints) == 1 and not many[2].joints
    assert len(one[0].joints) == 16
    assert dict(one_point[0].joints) == {9: (6, 8, 2)}
    assert test[0].head_box is None and test[0].position == (300, 400) and test[1].position is None
    assert not empty[0].joints and empty[0].head_box is None


SIZES = dict.fromkeys(
    ("many.jpg", "one.jpg", "one_point.jpg", "test.jpg", "empty_points.jpg"), (640, 480)
)
GROUPS = [[[0, 2], [1]], [[0]], [[0]], [], [[0, 1]], [[0]]]


def test_the_projects_annotations(mat: Path) -> None:
    content = to_coco(read_release(mat), range(6), GROUPS, SIZES)
    assert [image["id"] for image in content["images"]] == [1, 2, 3, 5, 6], (
        "nobody.jpg has no size here"
    )
    assert [image["groups"] for image in content["images"]] == [
        [[1, 3], [2]],
        [[4]],
        [[5]],
        [[6]],
        [[]],
    ]
    assert [annotation["id"] for annotation in content["annotations"]] == [1, 2, 3, 4, 5, 6]
    first = content["annotations"][0]
    keypoints = np.array(first["keypoints"]).reshape(16, 3)
    for k, name in enumerate(MPII.keypoints):
        joint = MPII_FILE_KEYPOINTS.index(name)
        assert keypoints[k].tolist() == [
            99 + joint,
            2 * joint - 1,
            1 if joint % 3 == 0 and joint != 9 else 2,
        ], name
    assert first["bbox"] == [99, -1, 15, 30] and first["area"] == pytest.approx(15 * 30 * 0.53)
    assert first["head_box"] == (99, 9, 129, 49)
    alone = content["annotations"][1]
    assert alone["num_keypoints"] == 1 and alone["bbox"] == [204 - 150, 19 - 150, 300, 300], (
        "one point spans no box: objpos and scale do"
    )
    assert content["annotations"][2]["num_keypoints"] == 0
    assert "head_box" not in content["annotations"][5]


def test_the_data_set_class_takes_them(mat: Path, tmp_path: Path) -> None:
    path = tmp_path / "mpii_train.json"
    path.write_text(json.dumps(to_coco(read_release(mat), range(6), GROUPS, SIZES)))
    people = collect_people(read_annotation_file(path), MPII)
    assert np.diff(people.first).tolist() == [2, 1, 1, 0, 0]
    assert people.ignored_regions[0] and people.ignored_regions[3], (
        "people without keypoints are left out of the loss"
    )


def test_splits_keep_videos_together_and_are_the_reproducible(mat: Path) -> None:
    images = read_release(mat)
    splits = split_images(images, 0.5)
    assert splits["trainval"] == [0, 1, 2, 5] and splits["test"] == [4]
    assert sorted(splits["train"] + splits["val"]) == splits["trainval"]
    assert (0 in splits["val"]) == (5 in splits["val"]), "both are of video 7"
    assert split_images(images, 0.0)["val"] == [] and split_images(images, 1.0)["train"] == []
    assert split_images(images, 0.5, ["one.jpg"])["val"] == [1]
    with pytest.raises(
        UserError,
        match=r"1 .*\['test.jpg'\]",
    ):
        split_images(images, 0.5, ["test.jpg", "one.jpg"])


def test_groups_are_read(tmp_path: Path) -> None:
    path = tmp_path / "groups.mat"
    column = np.empty((3, 1), dtype=object)
    column[0, 0] = cells([np.array([[1], [3]]), np.array([[2]])])
    column[1, 0] = np.zeros((1, 0))
    column[2, 0] = cells([np.array([[1]])])
    scipy.io.savemat(path, {"groups": column})
    assert read_groups(path, 3) == [[[0, 2], [1]], [], [[0]]]
    with pytest.raises(UserError, match=r"3 .* 4"):
        read_groups(path, 4)


def test_real_groups(real_data: Path) -> None:
    real = read_groups(real_data / "mpii" / "annot" / "groups_v12.mat", 24987)
    assert real[4] == [[0], [1]] and real[5] == [[2], [0, 1]]
    assert sum(not groups for groups in real) == 960
    people = [index for groups in real for group in groups for index in group]
    assert min(people) == 0 and len(people) > 35000
    assert sum(len(group) > 1 for groups in real for group in groups) > 5000


def test_real_annotations_through_the_mat_and_back_to_the_metric(
    tmp_path: Path, real_data: Path
) -> None:
    """40 real images written as MPII would and prepared: their own keypoints score 1 everywhere."""
    raw = json.loads(
        (real_data / "annotations_only" / "mpii_multi_person_690_images.json").read_text()
    )["images"][:40]
    images = [
        image(record["image"], struct_array([real_person(person) for person in record["persons"]]))
        for record in raw
    ]
    groups = [[list(range(len(image["persons"])))] for image in raw]
    sizes = {image["image"]: (1920, 1080) for image in raw}
    content = to_coco(
        read_release(write_mat(tmp_path / "real.mat", images, [1] * 40)), range(40), groups, sizes
    )
    rng = np.random.default_rng(0)
    found = []
    with_head = [annotation for annotation in content["annotations"] if "head_box" in annotation]
    for annotation in with_head:
        keypoints = np.reshape(annotation["keypoints"], (16, 3))
        keypoints[:, 2] = (keypoints[:, 2] > 0) * rng.uniform(0.1, 1, 16)
        found.append(
            {
                "image_id": annotation["image_id"],
                "category_id": 1,
                "keypoints": keypoints.reshape(-1).tolist(),
                "score": 1.0,
            }
        )
    metrics = evaluate_mpii(content, found, MPII, region="groups")
    assert metrics.facts["groups"] == 40
    assert metrics.facts["people"] == len(with_head) > 70
    assert set(metrics.values.values()) == {1.0}


def test_groups_of_people_who_are_not_there(mat: Path) -> None:
    with pytest.raises(UserError, match=r"annorect 2 .*one\.jpg.* 1"):
        to_coco(read_release(mat), [1], [[], [[0, 1]]], SIZES)


def test_sizes(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((30, 40, 3), np.uint8))
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    assert image_sizes(["a.jpg", "absent.jpg", "broken.jpg"], tmp_path) == {"a.jpg": (40, 30)}
    with pytest.raises(UserError, match=r"absent\.jpg"):
        image_sizes(["absent.jpg"], tmp_path)


def test_sizes_are_read_inside_the_folder_alone(tmp_path: Path) -> None:
    """Names that lead out, absolute names, links to elsewhere and FIFOs are left out."""
    folder = tmp_path / "images"
    folder.mkdir()
    outside = tmp_path / "outside.jpg"
    for path in (outside, folder / "a.jpg"):
        cv2.imwrite(str(path), np.zeros((30, 40, 3), np.uint8))
    (folder / "link.jpg").symlink_to(outside)
    os.mkfifo(folder / "fifo.jpg")

    names = ["a.jpg", "../outside.jpg", str(outside), "link.jpg", "fifo.jpg"]
    assert image_sizes(names, folder) == {"a.jpg": (40, 30)}


def test_what_is_no_mpii_file(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    with pytest.raises(UserError, match=r"x\.mat"):
        read_release(path)
    path.write_bytes(b"not a mat file at all, but long enough to look at" * 10)
    with pytest.raises(UserError, match=r"x\.mat"):
        read_release(path)
    scipy.io.savemat(path, {"other": 1})
    with pytest.raises(UserError, match=r"RELEASE.*\['other'\]"):
        read_release(path)
    scipy.io.savemat(path, {"RELEASE": {"version": 1}})
    with pytest.raises(UserError, match=r"x\.mat.*annolist.*img_train"):
        read_release(path)
    write_mat(path, [image("a.jpg", EMPTY)], [1, 1])
    with pytest.raises(UserError, match=r"annolist.* 1 .*img_train.* 2"):
        read_release(path)


def run_tool(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """The tool in this process: starting another costs seconds of imports."""
    monkeypatch.setattr(sys, "argv", ["prepare_mpii.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(PROJECT / "tools" / "prepare_mpii.py"), run_name="__main__")
    return int(ended.value.code or 0)


def test_the_tool(
    mat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("many.jpg", "one.jpg", "test.jpg"):
        cv2.imwrite(str(images / name), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "val.txt").write_text("one.jpg\n")
    assert (
        run_tool(
            monkeypatch,
            mat,
            "--images",
            images,
            "--out",
            tmp_path,
            "--val-list",
            tmp_path / "val.txt",
        )
        == 0
    )
    messages = capsys.readouterr().out
    assert "2 of 5 images" in messages
    assert "mpii_train.json: 1 image, 3 people (2 with keypoints), 0 groups" in messages
    splits = {
        split: json.loads((tmp_path / "annotations" / f"mpii_{split}.json").read_text())
        for split in ("val", "trainval", "test")
    }
    assert [image["file_name"] for image in splits["trainval"]["images"]] == ["many.jpg", "one.jpg"]
    assert splits["val"]["images"] == [{"id": 2, "file_name": "one.jpg", "width": 64, "height": 48}]
    assert splits["test"]["annotations"][0]["bbox"] == [100, 200, 400, 400]


def test_the_tool_names_a_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_tool(monkeypatch, tmp_path / "absent.mat") == 2
    assert "absent.mat" in capsys.readouterr().err
