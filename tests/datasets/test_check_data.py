"""Broken data sets: each gets its sentence from tools/check_data.py, none a traceback; clean ones are called so."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson
import pytest
from tests.datasets.conftest import HEIGHT, WIDTH, keypoints_at, tiny_content, write_tiny

PROJECT = Path(__file__).resolve().parents[2]
CONFIG = PROJECT / "experiments/coco/higher_hrnet/w32_512_adam_lr1e-3.yaml"
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


def test_clean_data_are_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = check(write_both(tmp_path), capsys)
    assert code == 0 and "no problems found" in text and "PROBLEM" not in text
    assert "people with labelled keypoints 2" in text and "left_ankle" in text


def test_real_coco_is_clean(real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = check(real_data / "coco", capsys)
    assert code == 0 and "people with labelled keypoints 86" in text


# ---- annotation files, each with one thing wrong ----


def person(content: Content) -> dict[str, Any]:
    return content["annotations"][0]


def crowd(content: Content) -> dict[str, Any]:
    return content["annotations"][2]


def empty(content: Content) -> None:
    content["images"], content["annotations"] = [], []


def nobody_labelled(content: Content) -> None:
    content["annotations"] = content["annotations"][2:]


BREAKS: dict[str, tuple[Callable[[Content], object], str]] = {
    "images empty": (empty, "'images' is empty"),
    "image id twice": (
        lambda c: c["images"].append(dict(c["images"][0], file_name="p20.png")),
        "the same 'id' is given to several images (1 id: 10)",
    ),
    "annotation id twice": (
        lambda c: person(c).update(id=2),
        "the same 'id' is given to several annotations (1 id: 2)",
    ),
    "no id": (lambda c: person(c).pop("id"), "1 annotations have no 'id'"),
    "orphan": (
        lambda c: person(c).update(image_id=999),
        "'image_id' is no id of 'images' (1 annotation: 1)",
    ),
    "strange image id": (
        lambda c: person(c).update(image_id=[1]),
        "'image_id' is no id of 'images' (1 annotation: 1)",
    ),
    "no size": (
        lambda c: c["images"][1].pop("width"),
        "'width' and 'height' must be the image's size in pixels (1 image: 20)",
    ),
    "no name": (lambda c: c["images"][1].pop("file_name"), "'file_name' is missing (1 image: 20)"),
    "name twice": (
        lambda c: c["images"][1].update(file_name="p10.png"),
        "have the same 'file_name' (1 name: p10.png)",
    ),
    "keypoint count": (
        lambda c: person(c).update(keypoints=keypoints_at(3, 3)[:42]),
        "'keypoints' has 42 numbers, skeleton 'coco' needs 51",
    ),
    "words as keypoints": (
        lambda c: person(c).update(keypoints=["a"] * 51),
        "'keypoints' must be a flat list of finite numbers (1 annotation: 1)",
    ),
    "nested keypoints": (
        lambda c: person(c).update(keypoints=[[1, 2, 2]] * 17),
        "'keypoints' must be a flat list",
    ),
    "visibility": (
        lambda c: person(c).update(keypoints=keypoints_at(3, 3, 3)),
        "must be 0 (not labelled), 1 (hidden) or 2 (visible)",
    ),
    "outside": (
        lambda c: person(c).update(keypoints=keypoints_at(75, 3)),
        "labelled keypoints lie outside the image (1 annotation: 1)",
    ),
    "zero marked": (
        lambda c: person(c).update(keypoints=[0, 0, 2, *keypoints_at(5, 5)[3:]]),
        "keypoints at 0, 0 are marked as labelled",
    ),
    "num_keypoints": (lambda c: person(c).pop("num_keypoints"), "'num_keypoints' is missing"),
    "area 0": (
        lambda c: person(c).update(area=0),
        "'area' of a person with keypoints must be greater than 0",
    ),
    "no area": (
        lambda c: person(c).pop("area"),
        "'area' is missing: OKS divides by it (1 annotation: 1)",
    ),
    "box 0": (
        lambda c: person(c).update(bbox=[30, 5, 0, 17]),
        "'bbox' of a person with keypoints has no width or height",
    ),
    "box of three": (lambda c: person(c).update(bbox=[30, 5, 17]), "'bbox' must be four numbers"),
    "box outside": (
        lambda c: person(c).update(bbox=[300, 5, 17, 17]),
        "'bbox' lies outside the image",
    ),
    "polygon": (
        lambda c: person(c).update(segmentation=[[1, 2, 3, 4]]),
        "polygons must be lists of at least three points",
    ),
    "rle size": (
        lambda c: crowd(c)["segmentation"].update(size=[WIDTH, HEIGHT]),
        "run lengths are of another image size",
    ),
    "rle sum": (
        lambda c: crowd(c)["segmentation"].update(counts=[5, 5]),
        "run lengths must be whole numbers whose sum",
    ),
    "rle packed": (
        lambda c: crowd(c)["segmentation"].update(counts="!!nonsense"),
        "packed run lengths that cannot be unpacked",
    ),
    "rle empty": (
        lambda c: crowd(c)["segmentation"].pop("counts"),
        "'segmentation' has no 'counts'",
    ),
    "segmentation word": (
        lambda c: crowd(c).update(segmentation="all"),
        "must be a list of polygons or a run-length code",
    ),
    "category": (
        lambda c: person(c).update(category_id=7),
        "'category_id' is no id of 'categories'",
    ),
    "nobody": (nobody_labelled, "nobody has a labelled keypoint"),
    "names reversed": (
        lambda c: c["categories"][0].update(keypoints=coco_names()[::-1]),
        "stand in another order than in skeleton 'coco'",
    ),
    "names are a number": (
        lambda c: c["categories"][0].update(keypoints=17),
        "a list of names as 'keypoints'",
    ),
    "category id is a list": (
        lambda c: c["categories"][0].update(id=[1]),
        "needs a number or word as 'id'",
    ),
    "category of a person is a list": (
        lambda c: person(c).update(category_id=[1]),
        "'category_id' is no id of 'categories'",
    ),
    "size beyond belief": (
        lambda c: c["images"][0].update(width=10**30),
        "'width' and 'height' must be the image's size in pixels",
    ),
    "14 names": (
        lambda c: c["categories"][0].update(keypoints=coco_names()[:14]),
        "another number of keypoints ('person' 14)",
    ),
}


def coco_names() -> list[str]:
    from duopose.skeletons import COCO

    return list(COCO.keypoints)


@pytest.mark.parametrize("name", BREAKS)
def test_broken_annotations_get_their_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, sentence = BREAKS[name]
    write_both(tmp_path)
    content = tiny_content()
    damage(content)
    (tmp_path / "annotations" / f"person_keypoints_{TRAIN}.json").write_text(json.dumps(content))
    code, text = check(tmp_path, capsys)
    assert code == 1 and "Traceback" not in text
    assert any(line.startswith("PROBLEM") and sentence in line for line in text.splitlines()), text


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
    ("content", "sentence"),
    [("[1]", "not in COCO format"), ("{", "not valid json"), ('{"a": 1}', "not in COCO format")],
)
def test_files_that_are_not_coco(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, sentence: str
) -> None:
    (write_both(tmp_path) / "annotations" / f"person_keypoints_{VAL}.json").write_text(content)
    code, text = check(tmp_path, capsys)
    assert code == 1 and sentence in text


def test_images_missing_unreadable_cut_off_resized_turned_unused(
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
    for sentence in (
        "cut off: a JPEG without its end (1 image: 10 (p10.jpg))", "cannot be read as an image (1 image: 20 (p20.jpg))",
        "width and height are exchanged", "another size than 'width' and 'height' say (1 image: 40 (p40.jpg))",
        "(1 image: 110 (v110.png))", "not in 'images' and will not be used (1 file: extra.jpg)",
    ):  # fmt: skip
        assert sentence in text, sentence
    code, text = check(tmp_path, capsys, "--skip-images")
    assert code == 1 and "cut off" not in text and "v110.png" in text


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
    assert code == 1 and "cannot be opened as a zip" in text


def test_splits_that_share_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = check(write_both(tmp_path, val=tiny_content()), capsys)
    assert (
        code == 1
        and "the same 'file_name' as images of the training split (4 images: 10, 20, 30, 40)"
        in text
    )


def test_same_split_twice_is_a_notice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = check(write_both(tmp_path), capsys, "DATASET.TEST", TRAIN)
    assert code == 0 and "both splits are the same file" in text


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
        f"name: mine\nkeypoints: {names}\nflip_pairs: []\ntorso: [nose]\nparents: {{}}\ncentre_only: [left_hand, right_hand]\n"
    )
    val = val_content()
    for annotation, other in zip(val["annotations"], content["annotations"], strict=True):
        annotation.update(keypoints=other["keypoints"], num_keypoints=other["num_keypoints"])
    code, text = check(
        write_both(tmp_path, content, val), capsys, "DATASET.SKELETON", str(skeleton)
    )
    assert (
        code == 1
        and "'left_hand' and 'right_hand' are not in flip_pairs" in text
        and "gives no sigmas" in text
    )
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
    """5,000 images and 11,000 people; took about a second when written. Not a timed assertion but for a gross slip."""
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
    start = time.perf_counter()
    code, text = check(tmp_path, capsys, "--skip-images")
    assert (
        code == 1
        and "(5000 images: 1 (000000000001.jpg)" in text
        and "people with labelled keypoints 11000" in text
    )
    print(f"{time.perf_counter() - start:.1f} s")
