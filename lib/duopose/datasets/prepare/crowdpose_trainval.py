"""CrowdPose comes as train, val and test; the benchmark trains on train + val together."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from duopose.coco_annotations import AnnotationFile, Record, read_annotation_file
from duopose.errors import UserError
from duopose.files import write_atomically
from duopose.skeletons import CROWDPOSE

OFFICIAL_IMAGES = {"train": 10000, "val": 2000, "test": 8000}  # Li et al. 2019, "CrowdPose"


@dataclass
class Prepared:
    """What was written, and what the user should know."""

    path: Path
    images: int
    people: int
    notices: list[str] = field(default_factory=list)


def prepare_crowdpose(root: Path) -> Prepared:
    """Write json/crowdpose_trainval.json below `root` from crowdpose_train.json and crowdpose_val.json beside it.

    Annotations keep all they have (`num_keypoints` too, though it is 0 for some people with keypoints) and are numbered
    anew from 1, since ids repeat between the files and evaluators disagree about id 0. Raises UserError where a file is
    missing or no CrowdPose file, or where splits share images.
    """
    folder = root / "json"
    files = {split: _read(folder / f"crowdpose_{split}.json") for split in ("train", "val")}
    notices = [notice for split, file in files.items() for notice in _compare_count(split, file)]
    _refuse_shared(files["train"], files["val"])
    test = folder / "crowdpose_test.json"
    if test.is_file():
        truth = _read(test)
        notices += _compare_count("test", truth)
        for file in files.values():
            _refuse_shared(file, truth)
    else:
        notices.append(f"{test} is missing: the model can be trained but not scored")
    images = [image for file in files.values() for image in file.images]
    notices += _missing_images(root, images)
    annotations = [
        record | {"id": number}
        for number, record in enumerate(
            (a for file in files.values() for a in file.annotations), start=1
        )
    ]
    path = folder / "crowdpose_trainval.json"
    content = {
        "categories": files["train"].categories,
        "images": images,
        "annotations": annotations,
    }
    write_atomically(path, orjson.dumps(content))
    return Prepared(path, len(images), len(annotations), notices)


def _read(path: Path) -> AnnotationFile:
    """A CrowdPose file: COCO's lists with 14 keypoints and a crowdIndex per image."""
    file = read_annotation_file(path)
    nameless = [
        image.get("id")
        for image in file.images
        if not (_is_id(image.get("id")) and isinstance(image.get("file_name"), str))
    ]
    _refuse(path, nameless, "images have no 'id' (a number or word) or no 'file_name'")
    without = [image["id"] for image in file.images if "crowdIndex" not in image]
    _refuse(path, without, "images have no 'crowdIndex'")
    numbers = 3 * CROWDPOSE.num_keypoints
    other = [
        annotation.get("id")
        for annotation in file.annotations
        if not _has_keypoints(annotation, numbers)
    ]
    _refuse(path, other, f"annotations have 'keypoints' that are not {numbers} numbers")
    known = {image["id"] for image in file.images}
    orphans = [
        annotation.get("id")
        for annotation in file.annotations
        if not _is_id(annotation.get("image_id")) or annotation["image_id"] not in known
    ]
    _refuse(path, orphans, "annotations have an 'image_id' that is no image of the file")
    return file


def _has_keypoints(annotation: Record, numbers: int) -> bool:
    keypoints = annotation.get("keypoints") or []
    return isinstance(keypoints, list) and len(keypoints) in (0, numbers)


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str))


def _refuse(path: Path, ids: list[Any], what: str) -> None:
    if ids:
        raise UserError(f"{path} is no CrowdPose file: {len(ids)} {what}, first ids {ids[:3]}")


def _compare_count(split: str, file: AnnotationFile) -> list[str]:
    count, official = len(file.images), OFFICIAL_IMAGES[split]
    return (
        []
        if count == official
        else [f"{file.path} has {count} images, CrowdPose's {split} split has {official}"]
    )


def _refuse_shared(one: AnnotationFile, two: AnnotationFile) -> None:
    shared = sorted(
        {str(image["id"]) for image in one.images} & {str(image["id"]) for image in two.images}
    )
    if shared:
        raise UserError(
            f"{one.path} and {two.path} share {len(shared)} images, first ids {shared[:3]}; download the files anew"
        )


def _missing_images(root: Path, images: list[Record]) -> list[str]:
    folder = root / "images"
    if not folder.is_dir():
        return [f"{folder} does not exist; put CrowdPose's images there"]
    there = set(os.listdir(folder))
    missing = [image["file_name"] for image in images if image["file_name"] not in there]
    return (
        [f"{len(missing)} of {len(images)} images are not in {folder}, first {missing[:3]}"]
        if missing
        else []
    )
