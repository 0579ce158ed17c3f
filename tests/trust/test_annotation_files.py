"""Hostile and broken annotation files: each is one sentence that names file, key and id."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.trust.readers import (
    coco_content,
    people_content,
    use_for_checking,
    use_for_crowdpose,
    use_for_mpii,
    use_for_scoring,
    use_for_training,
)

from duopose.coco_annotations import read_annotation_file
from duopose.errors import UserError
from duopose.json_files import check_memory, read_json
from duopose.oracle.annotated_images import annotated_images
from duopose.skeletons import COCO, CROWDPOSE, MPII

Content = dict[str, Any]
Edit = Callable[[Content], object]


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "truth.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


# ---- the file ----

NO_JSON: dict[str, bytes] = {
    "empty": b"",
    "cut": b'{"images": [',
    "nan": b'{"images": [], "annotations": [{"id": 1, "area": NaN}]}',
    "infinity": b'{"images": [], "annotations": [{"id": 1, "area": -Infinity}]}',
    "beyond float64": b'{"images": [], "annotations": [{"id": 1, "area": 1e400}]}',
    "a million digits": b'{"images": [], "annotations": [{"id": ' + b"9" * 1_000_000 + b"}]}",
    "a million digits, not used": b'{"images": [], "x": "' + b"9" * 1_000_000,
    "deep": b'{"images": ' + b"[" * 100_000,
    "deep, not used": b'{"info": ' + b"[" * 100_000 + b"]" * 100_000 + b', "images": []}',
    "latin-1": '{"images": [{"id": "é"}]}'.encode("latin-1"),
    "utf-16": '{"images": []}'.encode("utf-16"),
    "half a surrogate pair": b'{"images": [{"id": "\\ud800"}]}',
    "binary": bytes(range(256)),
    "no mapping": b"[]",
    "only info": b'{"info": {"images": [], "annotations": []}}',
    "null": b'{"images": null}',
}


@pytest.mark.parametrize("name", NO_JSON)
def test_files_that_are_no_annotation_files(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, NO_JSON[name])
    for use in (use_for_training, use_for_scoring):
        with pytest.raises(UserError, match=re.escape(str(path))):
            use(path)
    assert str(path) in "".join(use_for_checking(path))


@pytest.mark.parametrize("kind", ["folder", "missing", "pipe", "device"])
def test_what_is_no_regular_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "truth.json"
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    if kind == "device":
        path = Path("/dev/zero")
    with pytest.raises(UserError, match=str(path)):
        read_annotation_file(path)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    with path.open("wb") as file:
        file.truncate(50 * 2**30)  # takes no room on the disk
    with pytest.raises(UserError, match=r"LIMITS\.JSON_GB"):
        read_annotation_file(path)


@pytest.mark.parametrize("part", [b"[],", b"{},", b"0,", b'{"a":1},'])
def test_a_file_that_would_fill_the_memory_is_refused_before_decoding(part: bytes) -> None:
    with pytest.raises(UserError, match=r"LIMITS\.JSON_GB"):
        check_memory(part * (2**24 // len(part)), "x.json", max_memory=100 * 2**20)
    check_memory(b"x" * 2**24, "x.json", max_memory=100 * 2**20)


def test_depth_of_files_of_any_structure(tmp_path: Path) -> None:
    deep = b"[" * 10 + b"]" * 10
    assert read_json(written(tmp_path, deep), "file")
    with pytest.raises(UserError, match="too many lists"):
        read_json(written(tmp_path, b"[" + deep + b"]"), "file")


# ---- values ----

WRONG: list[Any] = [
    "a", True, [1], {"a": 1}, 1e300, 10**30, ["a"] * 4, [[1, 2]], [1e300] * 4, [1.0] * 3,
    {"size": [1, 1]},
]  # fmt: skip
FIELDS = ("image_id", "keypoints", "bbox", "area", "num_keypoints", "iscrowd", "category_id", "id")
ACCEPTED = {
    ("image_id", "a"), ("category_id", "a"), ("id", "a"), ("iscrowd", True),
}  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_wrong_values_name_annotation_and_key(tmp_path: Path, field: str) -> None:
    for value in WRONG:
        content = coco_content()
        content["annotations"][1][field] = value
        path = written(tmp_path, content)
        if isinstance(value, str | bool) and (field, value) in ACCEPTED:
            read_annotation_file(path)
            continue
        name = "id" if field == "id" else "id 2"
        for use in (use_for_training, use_for_scoring):
            with pytest.raises(UserError, match=f"{re.escape(str(path))}.*") as error:
                use(path)
            text = str(error.value)
            assert f"'{field}'" in text or field in text
            assert name in text or "annotation 2" in text
        assert any("file of an image" not in line for line in use_for_checking(path))


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda c: c["images"][1].update(id=10), "10"),
        (lambda c: c["images"][1].update(id=None), r"'images'\[1\]"),
        (lambda c: c["images"][1].update(id=1.5), r"'images'\[1\] \(id 1.5\)"),
        (lambda c: c["images"][1].update(id=[1]), r"'images'\[1\]"),
        (lambda c: c["images"][1].update(file_name=5), r"'images'\[1\] \(id 20\), 'file_name'"),
        (lambda c: c["images"][1].update(width="80"), r"\(id 20\), 'width'"),
        (lambda c: c["images"][1].update(height=1e300), r"\(id 20\), 'height'"),
        (lambda c: c.update(categories=[{"id": 1, "name": 5}]), r"'categories'\[0\] .*'name'"),
        (lambda c: c.update(categories=[{"id": 1, "keypoints": "nose"}]), "'keypoints'"),
        (lambda c: c.update(annotations={"a": 1}), "'annotations'"),
        (lambda c: c.update(annotations=["a"]), r"'annotations'\[0\]"),
        (lambda c: c.update(images=[[]]), r"'images'\[0\]"),
    ],
)
def test_wrong_lists_images_and_categories(tmp_path: Path, edit: Edit, named: str) -> None:
    content = coco_content()
    edit(content)
    path = written(tmp_path, content)
    for use in (use_for_training, use_for_scoring):
        with pytest.raises(UserError, match=named):
            use(path)
    use_for_checking(path)


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda c: [image.pop("id") for image in c["images"]], "id"),
        (lambda c: c.pop("images"), "'images'"),
        (lambda c: c["images"][0].update(width=0), r"\(id 10\)"),
        (lambda c: c["images"][0].pop("height"), "height"),
    ],
)
def test_truth_files_without_images_ids_or_sizes(tmp_path: Path, edit: Edit, named: str) -> None:
    content = coco_content()
    edit(content)
    path = written(tmp_path, content)
    with pytest.raises(UserError, match=named):
        use_for_training(path)
    use_for_checking(path)


def test_lists_inside_info_are_not_the_annotations(tmp_path: Path) -> None:
    file = read_annotation_file(written(tmp_path, coco_content()))
    assert len(file.annotations) == 5 and len(file.images) == 4


def test_null_counts_as_missing(tmp_path: Path) -> None:
    content = coco_content()
    content["annotations"][3].update(keypoints=None, segmentation=None, id=None, iscrowd=None)
    use_for_training(written(tmp_path, content))


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda c: c["annotations"][0].update(bbox=[]), "1"),
        (lambda c: c["images"][0].update(crowdIndex="0.5"), "'crowdIndex'"),
        (lambda c: c["images"][0].pop("crowdIndex"), "1"),
    ],
)
def test_crowdpose(tmp_path: Path, edit: Edit, named: str) -> None:
    content = people_content(CROWDPOSE, crowdIndex=0.3)
    use_for_crowdpose(written(tmp_path, content))
    edit(content)
    with pytest.raises(UserError, match=named):
        use_for_crowdpose(written(tmp_path, content))


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda c: c["images"][0].update(groups=[1, 2]), "'groups"),
        (lambda c: c["images"][0].update(groups=None), "1"),
        (lambda c: c["annotations"][0].update(head_box=[1, 2, 3]), "annotation 1"),
        (lambda c: c["annotations"][0].update(objpos=[1]), "annotation 1"),
        (lambda c: c["annotations"][0].update(scale="a"), "'scale'"),
        (lambda c: c["annotations"][0].pop("id"), "'id'"),
        (lambda c: c["annotations"][0].pop("image_id"), "'image_id'"),
    ],
)
def test_mpii(tmp_path: Path, edit: Edit, named: str) -> None:
    content = people_content(MPII, groups=[[1, 2], [3, 4]])
    use_for_mpii(written(tmp_path, content))
    edit(content)
    with pytest.raises(UserError, match=named):
        use_for_mpii(written(tmp_path, content))


def test_sizes_with_fractions_can_be_scored(tmp_path: Path) -> None:
    """Found by fuzzing: hotcoco ended with an error of its own."""
    content = coco_content()
    content["images"][0].update(width=80.5, height=60.5)
    use_for_scoring(written(tmp_path, content))


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c["images"][0].pop("width"),
        lambda c: [c["annotations"][0].pop(key) for key in ("area", "bbox")],
        lambda c: c["annotations"][0].update(keypoints=None),
    ],
)
def test_what_the_oracle_needs(tmp_path: Path, edit: Edit) -> None:
    content = coco_content()
    edit(content)
    with pytest.raises(UserError, match=r"image 10|annotation 1"):
        annotated_images(read_annotation_file(written(tmp_path, content)), COCO)
