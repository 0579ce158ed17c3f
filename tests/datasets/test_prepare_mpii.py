"""MPII's .mat with the official nesting, written here, and the real groups file."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.io

from duopose.datasets.annotations import collect_people, read_annotation_file
from duopose.datasets.mpii_file import read_groups, read_release
from duopose.datasets.prepare_mpii import picture_sizes, split_pictures, to_coco
from duopose.errors import UserError
from duopose.evaluate.mpii import evaluate_mpii
from duopose.skeletons import MPII, MPII_FILE_KEYPOINTS

PROJECT = Path(__file__).resolve().parents[2]
EMPTY = np.zeros((0, 0))


def struct_array(items: list[dict[str, Any]]) -> np.ndarray:
    """(1, n) MATLAB struct array; all elements have all fields, empty where one lacks it."""
    fields = list(dict.fromkeys(name for item in items for name in item))
    array = np.empty((1, len(items)), dtype=[(name, object) for name in fields])
    for place, item in zip(array[0], items, strict=True):
        for name in fields:
            place[name] = item.get(name, EMPTY)
    return array


def cells(items: list[Any]) -> np.ndarray:
    """(1, n) MATLAB cell array."""
    array = np.empty((1, len(items)), dtype=object)
    for index, item in enumerate(items):
        array[0, index] = item
    return array


def point(joint: int, x: float, y: float, visible: Any = 1) -> dict[str, Any]:
    return {"id": joint, "x": x, "y": y, "is_visible": visible}


def person(x: float, joints: int = 16, **changes: Any) -> dict[str, Any]:
    """Joint j at (x + j, 2 j) in MATLAB's counting; j % 3 == 0 hidden, upper neck and head top without is_visible."""
    visible = [EMPTY if j in (8, 9) else ("0" if j % 3 == 0 else "1") for j in range(joints)]
    points = struct_array([point(j, x + j, 2.0 * j, visible[j]) for j in range(joints)])
    whole = {
        "x1": x, "y1": 10.0, "x2": x + 30, "y2": 50.0, "scale": 1.5, "objpos": {"x": x + 5, "y": 20.0},
        "annopoints": {"point": points},
    }  # fmt: skip
    return {**whole, **changes}


def write_mat(path: Path, pictures: list[dict[str, Any]], train: list[int]) -> Path:
    release = {"annolist": struct_array(pictures), "img_train": np.array([train], dtype=np.uint8), "version": "12"}
    scipy.io.savemat(path, {"RELEASE": release})
    return path


def picture(name: str, people: Any, video: Any = 7) -> dict[str, Any]:
    return {"image": {"name": name}, "annorect": people, "frame_sec": EMPTY, "vididx": video}


@pytest.fixture
def mat(tmp_path: Path) -> Path:
    without_points = {key: value for key, value in person(300).items() if key != "annopoints"}
    pictures = [
        picture("many.jpg", struct_array([person(100), person(200, joints=1), without_points])),
        picture("one.jpg", person(50), 8),  # a single struct, not in an array
        picture("one_point.jpg", struct_array([person(50, annopoints={"point": point(9, 7.0, 9.0)})]), EMPTY),
        picture("nobody.jpg", EMPTY),
        picture("test.jpg", struct_array([{"scale": 2.0, "objpos": {"x": 301.0, "y": 401.0}}, {"scale": EMPTY, "objpos": EMPTY}])),
        picture("empty_points.jpg", struct_array([person(80, annopoints=EMPTY, x1=EMPTY, objpos=EMPTY)])),
    ]
    return write_mat(tmp_path / "mpii.mat", pictures, [1, 1, 1, 1, 0, 1])


def test_pictures_and_people(mat: Path) -> None:
    pictures = read_release(mat)
    assert [p.name for p in pictures] == ["many.jpg", "one.jpg", "one_point.jpg", "nobody.jpg", "test.jpg", "empty_points.jpg"]
    assert [p.train for p in pictures] == [True, True, True, True, False, True]
    assert [p.video for p in pictures] == [7, 8, None, 7, 7, 7]
    assert [len(p.people) for p in pictures] == [3, 1, 1, 0, 2, 1]


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


SIZES = dict.fromkeys(("many.jpg", "one.jpg", "one_point.jpg", "test.jpg", "empty_points.jpg"), (640, 480))
GROUPS = [[[0, 2], [1]], [[0]], [[0]], [], [[0, 1]], [[0]]]


def test_the_projects_annotations(mat: Path) -> None:
    content = to_coco(read_release(mat), range(6), GROUPS, SIZES)
    assert [image["id"] for image in content["images"]] == [1, 2, 3, 5, 6], "nobody.jpg has no size here"
    assert [image["groups"] for image in content["images"]] == [[[1, 3], [2]], [[4]], [[5]], [[6]], [[]]]
    assert [annotation["id"] for annotation in content["annotations"]] == [1, 2, 3, 4, 5, 6]
    first = content["annotations"][0]
    keypoints = np.array(first["keypoints"]).reshape(16, 3)
    for k, name in enumerate(MPII.keypoints):
        joint = MPII_FILE_KEYPOINTS.index(name)
        assert keypoints[k].tolist() == [99 + joint, 2 * joint - 1, 1 if joint % 3 == 0 and joint != 9 else 2], name
    assert first["bbox"] == [99, -1, 15, 30] and first["area"] == pytest.approx(15 * 30 * 0.53)
    assert first["head_box"] == (99, 9, 129, 49)
    alone = content["annotations"][1]
    assert alone["num_keypoints"] == 1 and alone["bbox"] == [204 - 150, 19 - 150, 300, 300], "one point spans no box: objpos and scale do"
    assert content["annotations"][2]["num_keypoints"] == 0
    assert "head_box" not in content["annotations"][5]


def test_the_data_set_class_takes_them(mat: Path, tmp_path: Path) -> None:
    path = tmp_path / "mpii_train.json"
    path.write_text(json.dumps(to_coco(read_release(mat), range(6), GROUPS, SIZES)))
    people = collect_people(read_annotation_file(path), MPII)
    assert np.diff(people.first).tolist() == [2, 1, 1, 0, 0]
    assert people.regions[0] and people.regions[3], "people without keypoints are left out of the loss"


def test_splits_keep_videos_together_and_are_the_same_for_everybody(mat: Path) -> None:
    pictures = read_release(mat)
    splits = split_pictures(pictures, 0.5)
    assert splits["trainval"] == [0, 1, 2, 5] and splits["test"] == [4]
    assert sorted(splits["train"] + splits["val"]) == splits["trainval"]
    assert (0 in splits["val"]) == (5 in splits["val"]), "both are of video 7"
    assert split_pictures(pictures, 0.0)["val"] == [] and split_pictures(pictures, 1.0)["train"] == []
    assert split_pictures(pictures, 0.5, ["one.jpg"])["val"] == [1]
    with pytest.raises(UserError, match=r"1 validation pictures are not among MPII's training pictures, first \['test.jpg'\]"):
        split_pictures(pictures, 0.5, ["test.jpg", "one.jpg"])


def test_groups_written_and_real(tmp_path: Path, real_data: Path) -> None:
    path = tmp_path / "groups.mat"
    column = np.empty((3, 1), dtype=object)
    column[0, 0], column[1, 0], column[2, 0] = cells([np.array([[1], [3]]), np.array([[2]])]), np.zeros((1, 0)), cells([np.array([[1]])])
    scipy.io.savemat(path, {"groups": column})
    assert read_groups(path, 3) == [[[0, 2], [1]], [], [[0]]]
    with pytest.raises(UserError, match="has groups of 3 pictures, the annotation file has 4"):
        read_groups(path, 4)
    real = read_groups(real_data / "mpii" / "annot" / "groups_v12.mat", 24987)
    assert real[4] == [[0], [1]] and real[5] == [[2], [0, 1]]
    assert sum(not groups for groups in real) == 960
    people = [index for groups in real for group in groups for index in group]
    assert min(people) == 0 and len(people) > 35000
    assert sum(len(group) > 1 for groups in real for group in groups) > 5000


def test_real_annotations_through_the_mat_and_back_to_the_metric(tmp_path: Path, real_data: Path) -> None:
    """40 real pictures written as MPII would, prepared, and found as they are: every group is perfect."""
    raw = json.loads((real_data / "annotations_only" / "mpii_multi_person_690_images.json").read_text())["images"][:40]
    pictures = [picture(image["image"], struct_array([real_person(person) for person in image["persons"]])) for image in raw]
    groups = [[list(range(len(image["persons"])))] for image in raw]
    sizes = {image["image"]: (1920, 1080) for image in raw}
    content = to_coco(read_release(write_mat(tmp_path / "real.mat", pictures, [1] * 40)), range(40), groups, sizes)
    rng = np.random.default_rng(0)
    found = []
    with_head = [annotation for annotation in content["annotations"] if "head_box" in annotation]
    for annotation in with_head:
        keypoints = np.reshape(annotation["keypoints"], (16, 3))
        keypoints[:, 2] = (keypoints[:, 2] > 0) * rng.uniform(0.1, 1, 16)
        found.append({"image_id": annotation["image_id"], "category_id": 1, "keypoints": keypoints.reshape(-1).tolist(), "score": 1.0})
    metrics = evaluate_mpii(content, found, MPII, region="groups")
    assert metrics.facts["groups"] == 40
    assert metrics.facts["people"] == len(with_head) > 70
    assert set(metrics.values.values()) == {1.0}


def real_person(raw: dict[str, Any]) -> dict[str, Any]:
    """A person of the annotations_only file as an annorect; the head rectangle is the box of upper neck and head top."""
    labelled = [joint for joint in range(16) if raw["joints_labelled"][joint]]
    points = struct_array([point(joint, *raw["joints"][joint]) for joint in labelled])
    rectangle = {"scale": raw["scale"], "annopoints": {"point": points}}
    if 8 in labelled and 9 in labelled:
        (x1, y1), (x2, y2) = np.sort([raw["joints"][8], raw["joints"][9]], axis=0)
        rectangle |= {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return rectangle


def test_groups_of_people_who_are_not_there(mat: Path) -> None:
    with pytest.raises(UserError, match=r"names annorect 2 of picture one.jpg, which has 1"):
        to_coco(read_release(mat), [1], [[], [[0, 1]]], SIZES)


def test_sizes(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((30, 40, 3), np.uint8))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    assert picture_sizes(["a.jpg", "absent.jpg", "broken.jpg"], tmp_path) == {"a.jpg": (40, 30)}
    with pytest.raises(UserError, match="none of the 1 pictures is in"):
        picture_sizes(["absent.jpg"], tmp_path)


def test_what_is_no_mpii_file(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    with pytest.raises(UserError, match="does not exist"):
        read_release(path)
    path.write_bytes(b"not a mat file at all, but long enough to look at" * 10)
    with pytest.raises(UserError, match="cannot be read as a MATLAB file"):
        read_release(path)
    scipy.io.savemat(path, {"other": 1})
    with pytest.raises(UserError, match=r"has no variable RELEASE; it has \['other'\]"):
        read_release(path)
    scipy.io.savemat(path, {"RELEASE": {"version": 1}})
    with pytest.raises(UserError, match="must hold annolist and img_train"):
        read_release(path)
    write_mat(path, [picture("a.jpg", EMPTY)], [1, 1])
    with pytest.raises(UserError, match="annolist has 1 pictures, but img_train has 2"):
        read_release(path)


def run_tool(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """The tool in this process: starting another costs seconds of imports."""
    monkeypatch.setattr(sys, "argv", ["prepare_mpii.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(PROJECT / "tools" / "prepare_mpii.py"), run_name="__main__")
    return int(ended.value.code or 0)


def test_the_tool(mat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("many.jpg", "one.jpg", "test.jpg"):
        cv2.imwrite(str(images / name), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "val.txt").write_text("one.jpg\n")
    assert run_tool(monkeypatch, mat, "--images", images, "--out", tmp_path, "--val-list", tmp_path / "val.txt") == 0
    told = capsys.readouterr().out
    assert "2 of 5 pictures are not in" in told
    assert "mpii_train.json: 1 pictures, 3 people (2 with keypoints), 0 groups" in told
    splits = {split: json.loads((tmp_path / "annotations" / f"mpii_{split}.json").read_text()) for split in ("val", "trainval", "test")}
    assert [image["file_name"] for image in splits["trainval"]["images"]] == ["many.jpg", "one.jpg"]
    assert splits["val"]["images"] == [{"id": 2, "file_name": "one.jpg", "width": 64, "height": 48}]
    assert splits["test"]["annotations"][0]["bbox"] == [100, 200, 400, 400]


def test_the_tool_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_tool(monkeypatch, tmp_path / "absent.mat") == 2
    assert "absent.mat' does not exist" in capsys.readouterr().err
