"""CrowdPose: joins the train and val splits to trainval, on which the benchmark's models train."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from duopose.coco_annotations import AnnotationFile, Record, read_all_fields
from duopose.errors import UserError, counted
from duopose.files import write_atomically
from duopose.json_files import MAX_MEMORY
from duopose.skeletons import CROWDPOSE

# Images per split: Li et al., "CrowdPose: Efficient Crowded Scenes Pose Estimation and a New
# Benchmark", CVPR 2019.
OFFICIAL_IMAGES = {"train": 10000, "val": 2000, "test": 8000}


@dataclass
class JoinedSplit:
    """The written file, and notices for the user."""

    path: Path
    images: int
    people: int
    notices: list[str] = field(default_factory=list)


def prepare_crowdpose(root: Path, max_memory: int = MAX_MEMORY) -> JoinedSplit:
    """Write json/crowdpose_trainval.json below `root`, from crowdpose_train.json and _val.json.

    Annotations keep all their fields (also `num_keypoints`, which is 0 for some people with
    keypoints) and are renumbered from 1, because ids repeat between the files and evaluators treat
    id 0 differently. max_memory: bytes that each file may need. UserError where a file is missing
    or not CrowdPose's, or splits share images.
    """
    folder = root / "json"
    train = _read(folder / "crowdpose_train.json", max_memory)
    val = _read(folder / "crowdpose_val.json", max_memory)
    notices = [*_count_notices("train", train), *_count_notices("val", val)]
    _raise_if_shared(train, val)

    test_path = folder / "crowdpose_test.json"
    if test_path.is_file():
        test = _read(test_path, max_memory)
        notices += _count_notices("test", test)
        _raise_if_shared(train, test)
        _raise_if_shared(val, test)
    else:
        notices.append(f"{test_path} is missing: the model can be trained but not scored")

    images = [*train.images, *val.images]
    notices += _missing_images(root, images)
    numbered = enumerate([*train.annotations, *val.annotations], start=1)
    annotations = [annotation | {"id": number} for number, annotation in numbered]

    path = folder / "crowdpose_trainval.json"
    content = {"categories": train.categories, "images": images, "annotations": annotations}
    write_atomically(path, orjson.dumps(content))
    return JoinedSplit(path, len(images), len(annotations), notices)


def _read(path: Path, max_memory: int) -> AnnotationFile:
    """A CrowdPose file: COCO's lists with 14 keypoints, and a crowdIndex per image."""
    file = read_all_fields(path, max_memory)
    unnamed: list[Any] = []
    without_index: list[Any] = []
    for image in file.images:
        if not _is_id(image.get("id")) or not isinstance(image.get("file_name"), str):
            unnamed.append(image.get("id"))
        elif "crowdIndex" not in image:
            without_index.append(image["id"])
    _raise_if_any(path, unnamed, "images have no 'id' (a number or a string) or no 'file_name'")
    _raise_if_any(path, without_index, "images have no 'crowdIndex'")

    known = {image["id"] for image in file.images}
    num_values = 3 * CROWDPOSE.num_keypoints
    wrong_keypoints: list[Any] = []
    orphans: list[Any] = []
    for annotation in file.annotations:
        if not _has_keypoints(annotation, num_values):
            wrong_keypoints.append(annotation.get("id"))
        if not _is_id(annotation.get("image_id")) or annotation["image_id"] not in known:
            orphans.append(annotation.get("id"))
    _raise_if_any(path, wrong_keypoints, f"annotations have no {num_values} 'keypoints' numbers")
    _raise_if_any(path, orphans, "annotations have an 'image_id' that is not in 'images'")
    return file


def _has_keypoints(annotation: Record, num_values: int) -> bool:
    """Whether the keypoints are absent, or a list of the right length."""
    keypoints = annotation.get("keypoints") or []
    return isinstance(keypoints, list) and len(keypoints) in (0, num_values)


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str))


def _raise_if_any(path: Path, ids: list[Any], what: str) -> None:
    if ids:
        raise UserError(f"{path} is not a CrowdPose file: {len(ids)} {what}, first ids {ids[:3]}")


def _count_notices(split: str, file: AnnotationFile) -> list[str]:
    """A notice where the number of images is not the official one."""
    count = len(file.images)
    official = OFFICIAL_IMAGES[split]
    if count == official:
        return []
    return [f"{file.path} has {counted(count, 'image')}, CrowdPose's {split} split has {official}"]


def _raise_if_shared(one: AnnotationFile, other: AnnotationFile) -> None:
    """UserError where an image is in both files."""
    other_ids = {str(image["id"]) for image in other.images}
    shared = sorted({str(image["id"]) for image in one.images} & other_ids)
    if shared:
        raise UserError(
            f"{one.path} and {other.path} both contain {counted(len(shared), 'image')}, "
            f"first ids {shared[:3]}; download the files again"
        )


def _missing_images(root: Path, images: list[Record]) -> list[str]:
    """A notice where image files are missing."""
    folder = root / "images"
    if not folder.is_dir():
        return [f"{folder} does not exist; put CrowdPose's images there"]

    existing = set(os.listdir(folder))
    missing = [image["file_name"] for image in images if image["file_name"] not in existing]
    if not missing:
        return []
    return [f"{len(missing)} of {len(images)} images are not in {folder}, first {missing[:3]}"]
