"""tools/check_data.py names the keys and ids of broken data, without a traceback."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson
import pytest
from tests.datasets.conftest import HEIGHT, WIDTH, keypoints_at, tiny_content, write_tiny

from duopose.datasets.sample_data.write import make_sample_data
from duopose.skeletons import COCO

PROJECT = Path(__file__).resolve().parents[2]
CONFIG = PROJECT / "experiments/coco/double_embedding/w32_512_adam_lr1e-3.yaml"
TRAIN, VAL = "train2017", "val2017"
Content = dict[str, Any]


def load_tool() -> Callable[[list[str]], int]:
    spec = importlib.util.spec_from_file_location(
        "check_data_tool", PROJECT / "tools" / "check_data.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


main = load_tool()


def val_content() -> Content:
    """As the training split, with other image ids and names."""
    content = tiny_content()
    for image in content["images"]:
        image["id"] += 100
        image["file_name"] = f"v{image['id']}.png"
    for annotation in content["annotations"]:
        annotation["image_id"] += 100
    return content


def write_both(root: Path, train: Content | None = None, val: Content | None = None) -> Path:
    write_tiny(root, train or tiny_content(), TRAIN)
    return write_tiny(root, val or val_content(), VAL)


def check(root: Path, capsys: pytest.CaptureFixture[str], *extra: str) -> tuple[int, str]:
    code = main(
        [
            "--cfg",
            str(CONFIG),
            *[e for e in extra if e.startswith("--")],
            "DATASET.ROOT",
            str(root),
            *[e for e in extra if e[:2] != "--"],
        ]
    )
    return code, capsys.readouterr().out


def test_clean_data_have_no_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = check(write_both(tmp_path), capsys)
    assert code == 0 and "PROBLEM" not in text
    assert "people with labelled keypoints 2" in text and "left_ankle" in text


def test_drawn_data_are_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_sample_data(tmp_path, {"train": 12, "val": 3}, seed=0, size=64, skeleton=COCO, workers=1)
    content = json.loads((tmp_path / "annotations" / f"person_keypoints_{TRAIN}.json").read_text())
    people = sum(annotation["num_keypoints"] > 0 for annotation in content["annotations"])
    code, text = check(tmp_path, capsys)
    assert code == 0 and f"people with labelled keypoints {people}" in text


# ---- annotation files, each with one thing wrong ----


def person(content: Content) -> dict[str, Any]:
    return content["annotations"][0]


def crowd(content: Content) -> dict[str, Any]:
    return content["annotations"][2]


def empty(content: Content) -> None:
    content["images"], content["annotations"] = [], []


def nobody_labelled(content: Content) -> None:
    content["annotations"] = content["annotations"][2:]


ONE = "(1 annotation: 1)"  # how the id of `person` is listed
CROWDS = "(2 annotations: 3, 5)"  # they share one segmentation
# What is broken, and the keys and ids that the line about it must contain.
BREAKS: dict[str, tuple[Callable[[Content], object], tuple[str, ...]]] = {
    "images empty": (empty, ("'images'",)),
    "image id twice": (
        lambda c: c["images"].append(dict(c["images"][0], file_name="p20.png")),
        ("images", "'id'", "(1 id: 10)"),
    ),
    "annotation id twice": (
        lambda c: person(c).update(id=2),
        ("annotations", "'id'", "(1 id: 2)"),
    ),
    "no id": (lambda c: person(c).pop("id"), ("1 annotation without", "'id'")),
    "orphan": (lambda c: person(c).update(image_id=999), ("'image_id'", ONE)),
    "strange image id": (lambda c: person(c).update(image_id=[1]), ("'image_id'", ONE)),
    "no size": (
        lambda c: c["images"][1].pop("width"),
        ("'width' and 'height'", "(1 image: 20)"),
    ),
    "no name": (lambda c: c["images"][1].pop("file_name"), ("'file_name'", "(1 image: 20)")),
    "name twice": (
        lambda c: c["images"][1].update(file_name="p10.png"),
        ("'file_name'", "(1 name: p10.png)"),
    ),
    "keypoint count": (
        lambda c: person(c).update(keypoints=keypoints_at(3, 3)[:42]),
        ("'keypoints' has 42", "51", ONE),
    ),
    "words as keypoints": (
        lambda c: person(c).update(keypoints=["a"] * 51),
        ("'keypoints'", "numbers", ONE),
    ),
    "nested keypoints": (
        lambda c: person(c).update(keypoints=[[1, 2, 2]] * 17),
        ("'keypoints'", "flat list", ONE),
    ),
    "visibility": (
        lambda c: person(c).update(keypoints=keypoints_at(3, 3, 3)),
        ("visibility", "0 (not labelled), 1 (hidden) or 2 (visible)", ONE),
    ),
    "outside": (
        lambda c: person(c).update(keypoints=keypoints_at(75, 3)),
        ("keypoints", "outside", ONE),
    ),
    "zero marked": (
        lambda c: person(c).update(keypoints=[0, 0, 2, *keypoints_at(5, 5)[3:]]),
        ("keypoints at 0, 0", ONE),
    ),
    "num_keypoints": (lambda c: person(c).pop("num_keypoints"), ("'num_keypoints'", ONE)),
    "area 0": (lambda c: person(c).update(area=0), ("'area'", "positive", ONE)),
    "no area": (lambda c: person(c).pop("area"), ("'area' is missing", ONE)),
    "box 0": (lambda c: person(c).update(bbox=[30, 5, 0, 17]), ("'bbox'", "width", ONE)),
    "box of three": (lambda c: person(c).update(bbox=[30, 5, 17]), ("'bbox'", "four", ONE)),
    "box outside": (
        lambda c: person(c).update(bbox=[300, 5, 17, 17]),
        ("'bbox'", "outside", ONE),
    ),
    "polygon": (
        lambda c: person(c).update(segmentation=[[1, 2, 3, 4]]),
        ("'segmentation'", "three points", ONE),
    ),
    "rle size": (
        lambda c: crowd(c)["segmentation"].update(size=[WIDTH, HEIGHT]),
        ("'segmentation'", "'size'", CROWDS),
    ),
    "rle sum": (
        lambda c: crowd(c)["segmentation"].update(counts=[5, 5]),
        ("'segmentation'", "height * width", CROWDS),
    ),
    "rle packed": (
        lambda c: crowd(c)["segmentation"].update(counts="!!nonsense"),
        ("'segmentation'", "decoded", CROWDS),
    ),
    "rle empty": (
        lambda c: crowd(c)["segmentation"].pop("counts"),
        ("'segmentation'", "'counts'", CROWDS),
    ),
    "segmentation word": (
        lambda c: crowd(c).update(segmentation="all"),
        ("'segmentation'", "polygons", "(1 annotation: 3)"),
    ),
    "category": (lambda c: person(c).update(category_id=7), ("'category_id'", ONE)),
    "nobody": (nobody_labelled, ("no person", "labelled keypoint")),
    "names reversed": (
        lambda c: c["categories"][0].update(keypoints=coco_names()[::-1]),
        ("'categories'", "order", "'coco'"),
    ),
    "names are a number": (
        lambda c: c["categories"][0].update(keypoints=17),
        ("'categories'", "'keypoints'"),
    ),
    "category id is a list": (
        lambda c: c["categories"][0].update(id=[1]),
        ("'categories'", "'id'"),
    ),
    "category of a person is a list": (
        lambda c: person(c).update(category_id=[1]),
        ("'category_id'", ONE),
    ),
    "size beyond belief": (
        lambda c: c["images"][0].update(width=10**30),
        ("'width' and 'height'", "(1 image: 10)"),
    ),
    "14 names": (
        lambda c: c["categories"][0].update(keypoints=coco_names()[:14]),
        ("'categories'", "'person' 14", "(17)"),
    ),
}


BREAKS |= {
    "fractions as keypoints": (
        lambda c: person(c).update(keypoints=keypoints_in_fractions()),
        ("keypoints", "fractions", ONE),
    ),
    "fractions as box": (
        lambda c: person(c).update(bbox=[0.25, 0.25, 0.5, 0.5]),
        ("'bbox'", "between 0 and 1", ONE),
    ),
    "corners as boxes": (
        lambda c: boxes_as_corners(c),  # noqa: PLW0108  (defined below)
        ("'bbox'", "x1, y1, x2, y2", "(1 annotation: 2)"),
    ),
    "no annotations to train on": (
        lambda c: c["annotations"].clear(),
        ("'annotations' is empty", "train"),
    ),
    "num_keypoints 0 everywhere": (
        lambda c: [a.update(num_keypoints=0) for a in c["annotations"]],
        ("'num_keypoints' is 0", "2 people"),
    ),
    "two names exchanged, one of them new": (
        lambda c: c["categories"][0].update(
            keypoints=["tip", *coco_names()[2:3], *coco_names()[1:2], *coco_names()[3:]]
        ),
        ("'categories'", "order", "right_eye instead of left_eye"),
    ),
}


def keypoints_in_fractions() -> list[float]:
    return [value for k in range(17) for value in (0.02 * k, 0.5, 2)]


def boxes_as_corners(content: Content) -> None:
    for annotation in content["annotations"][:2]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]


def coco_names() -> list[str]:
    return list(COCO.keypoints)


def test_boxes_that_only_reach_beyond_the_image_are_not_taken_for_corners(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = tiny_content()
    person(content)["bbox"] = [30, 5, 60, 17]
    code, text = check(write_both(tmp_path, content), capsys)
    assert code == 0 and "x1, y1" not in text


@pytest.mark.parametrize("name", BREAKS)
def test_broken_annotations_are_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, fragments = BREAKS[name]
    write_both(tmp_path)
    content = tiny_content()
    damage(content)
    (tmp_path / "annotations" / f"person_keypoints_{TRAIN}.json").write_text(json.dumps(content))
    code, text = check(tmp_path, capsys)
    assert code == 1 and "Traceback" not in text
    problems = [line for line in text.splitlines() if line.startswith("PROBLEM")]
    assert any(all(fragment in line for fragment in fragments) for line in problems), text


ODD = [None, "x", "", [], {}, -1, 1.5, True, [1], [[1]], {"a": 1}, 10**30, [None] * 51, ["a", 1, 2]]


def test_odd_values_anywhere_end_in_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_both(tmp_path)
    rng = random.Random(0)
    codes = []
    for _ in range(200):
        content = tiny_content()
        content["categories"][0]["keypoints"] = coco_names()
        record = rng.choice([one for records in content.values() for one in records])
        name = rng.choice(list(record))
        if isinstance(record[name], list) and rng.random() < 0.4:
            record[name][rng.randrange(len(record[name]))] = rng.choice(ODD)
        else:
            record[name] = rng.choice(ODD)
        (tmp_path / "annotations" / f"person_keypoints_{TRAIN}.json").write_text(
            json.dumps(content)
        )
        codes.append(check(tmp_path, capsys, "--skip-images")[0])
    assert set(codes) == {0, 1} and codes.count(1) > 120


# ---- files ----


def test_layout_paths_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = check(tmp_path, capsys)
    assert (
        code == 1
        and f"{tmp_path}/annotations/person_keypoints_{TRAIN}.json" in text
        and f"person_keypoints_{VAL}.json" in text
    )


@pytest.mark.parametrize(
    ("content", "fragment"),
    [("[1]", "COCO format"), ("{", "json"), ('{"a": 1}', "'images'")],
)
def test_files_that_are_not_coco(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, fragment: str
) -> None:
    (write_both(tmp_path) / "annotations" / f"person_keypoints_{VAL}.json").write_text(content)
    code, text = check(tmp_path, capsys)
    assert code == 1 and f"person_keypoints_{VAL}.json" in text and fragment in text


def test_images_missing_unreadable_truncated_resized_rotated_unused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = tiny_content()
    for image in content["images"]:
        image["file_name"] = image["file_name"].replace("png", "jpg")
    folder = write_both(tmp_path, content) / "images" / TRAIN
    whole = (folder / "p10.jpg").read_bytes()
    (folder / "p10.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "p20.jpg").write_bytes(b"no image")
    cv2.imwrite(str(folder / "p30.jpg"), np.zeros((WIDTH, HEIGHT, 3), np.uint8))
    cv2.imwrite(str(folder / "p40.jpg"), np.zeros((9, 9, 3), np.uint8))
    (folder / "extra.jpg").write_bytes(whole)
    (tmp_path / "images" / VAL / "v110.png").unlink()
    code, text = check(tmp_path, capsys)
    assert code == 1
    for fragments in (
        ("JPEG", "1 image: 10 (p10.jpg)"),
        ("cannot be read", "1 image: 20 (p20.jpg)"),
        ("width and height are swapped", "(1 image: 30 (p30.jpg))"),
        ("'width' and 'height'", "(1 image: 40 (p40.jpg))"),
        (f"{VAL}", "(1 image: 110 (v110.png))"),
        ("'images'", "(1 file: extra.jpg)"),
    ):
        assert any(all(part in line for part in fragments) for line in text.splitlines()), fragments
    code, text = check(tmp_path, capsys, "--skip-images")
    assert code == 1 and "p10.jpg" not in text and "v110.png" in text


def test_zip_missing_member_and_broken_zip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_both(tmp_path)
    for split, left_out in ((TRAIN, "p20.png"), (VAL, "")):
        folder = tmp_path / "images" / split
        with zipfile.ZipFile(tmp_path / "images" / f"{split}.zip", "w") as archive:
            for path in sorted(folder.iterdir()):
                if path.name != left_out:
                    archive.write(path, path.name)
    code, text = check(tmp_path, capsys, "DATASET.DATA_FORMAT", "zip")
    assert code == 1 and "(1 image: 20 (p20.png))" in text
    (tmp_path / "images" / f"{VAL}.zip").write_bytes(b"PK nonsense")
    code, text = check(tmp_path, capsys, "DATASET.DATA_FORMAT", "zip")
    assert code == 1 and f"{VAL}.zip" in text


def test_splits_that_share_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = check(write_both(tmp_path, val=tiny_content()), capsys)
    problems = [line for line in text.splitlines() if line.startswith("PROBLEM")]
    assert code == 1
    assert "'file_name'" in problems[0] and "(4 images: 10, 20, 30, 40)" in problems[0]


def test_same_split_twice_is_a_notice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = check(write_both(tmp_path), capsys, "DATASET.TEST", TRAIN)
    assert code == 0 and f"notice  train and test: both splits are the same file {tmp_path}" in text


def test_skeleton_with_forgotten_pair_and_sigmas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = tiny_content()
    for annotation in content["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][: 3 * 3]
        annotation["num_keypoints"] = min(annotation["num_keypoints"], 3)
    names = "[nose, left_hand, right_hand]"
    skeleton = tmp_path / "mine.yaml"
    skeleton.write_text(
        f"name: mine\nkeypoints: {names}\nflip_pairs: []\ntorso: [nose]\nparents: {{}}\n"
        "centre_only: [left_hand, right_hand]\n"
    )
    val = val_content()
    for annotation, other in zip(val["annotations"], content["annotations"], strict=True):
        annotation.update(keypoints=other["keypoints"], num_keypoints=other["num_keypoints"])
    code, text = check(
        write_both(tmp_path, content, val), capsys, "DATASET.SKELETON", str(skeleton)
    )
    assert code == 1
    assert "'left_hand' and 'right_hand'" in text and "flip_pairs" in text
    assert "'mine' has no sigmas" in text
    assert text.count("PROBLEM") == 1


def test_exit_codes_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        sys.executable,
        str(PROJECT / "tools" / "check_data.py"),
        "--cfg",
        str(CONFIG),
        "--skip-images",
    ]
    found = subprocess.run(
        [*command, "DATASET.ROOT", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 1 and "Traceback" not in found.stderr
    assert main(["--cfg", str(CONFIG), "DATASET.ROTT", str(tmp_path)]) == 2
    assert "DATASET.ROOT" in capsys.readouterr().err


def test_a_file_of_cocos_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """5,000 images and 11,000 people; about one second."""
    images = [
        {"id": i, "file_name": f"{i:012d}.jpg", "width": 640, "height": 480} for i in range(1, 5001)
    ]
    polygon = [[float(v) for v in range(10, 70)]]
    annotations = [
        {
            "id": n,
            "image_id": 1 + n % 5000,
            "category_id": 1,
            "iscrowd": 0,
            "num_keypoints": 17,
            "keypoints": keypoints_at(50, 60),
            "area": 900.0,
        }
        | {"bbox": [50, 60, 30, 30], "segmentation": polygon}
        for n in range(1, 11001)
    ]
    write_both(tmp_path)
    (tmp_path / "images" / TRAIN).mkdir(exist_ok=True)
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    (tmp_path / "annotations" / f"person_keypoints_{TRAIN}.json").write_bytes(orjson.dumps(content))
    code, text = check(tmp_path, capsys, "--skip-images")
    assert (
        code == 1
        and "(5000 images: 1 (000000000001.jpg)" in text
        and "people with labelled keypoints 11000" in text
    )
