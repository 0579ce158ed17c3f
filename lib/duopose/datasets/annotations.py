"""COCO-format annotation files: reading them, and the people of each image in compact arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from duopose.errors import UserError
from duopose.skeletons import Skeleton

Record = dict[str, Any]
MOST_PIXELS = 100_000  # of a side; more is a mistake of the file


@dataclass(frozen=True)
class AnnotationFile:
    """The three lists of a COCO file, as they stand there."""

    path: Path
    images: list[Record]
    annotations: list[Record]  # empty for a test split without truth
    categories: list[Record]


@dataclass(frozen=True)
class People:
    """What training and evaluation need of an annotation file; arrays, so that loader processes share or copy it cheaply.

    Images stand in the file's order. Person p of image i is row first[i] + p, the largest first.
    """

    image_ids: list[int | str]
    names: list[str]
    sizes: np.ndarray  # (N, 2) int32 width, height
    first: np.ndarray  # (N + 1,) int64
    keypoints: np.ndarray  # (M, K, 3) float32 x, y, visibility in the image frame; people with at least one labelled keypoint
    regions: list[bytes]  # per image what `datasets.regions` needs, b"" where nothing is left out
    annotated: np.ndarray  # (N,) bool: the image has an annotation of any kind

    def __len__(self) -> int:
        return len(self.image_ids)

    def of_image(self, index: int) -> np.ndarray:
        """(P, K, 3) keypoints of the people of one image."""
        return self.keypoints[self.first[index] : self.first[index + 1]]


def read_annotation_file(path: Path) -> AnnotationFile:
    """Parse a COCO file; UserError saying why it is none."""
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"annotation file {path} cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise UserError(f"annotation file {path} is not valid json: {error}") from error
    if not isinstance(content, dict):
        raise UserError(
            f"annotation file {path} is not in COCO format: its top level is a {type(content).__name__}, not a mapping"
        )
    lists = {key: content.get(key, []) for key in ("images", "annotations", "categories")}
    problems = [
        key
        for key, value in lists.items()
        if not (isinstance(value, list) and all(isinstance(record, dict) for record in value))
    ]
    if "images" not in content or problems:
        what = ", ".join(f"'{key}'" for key in problems) or "'images'"
        raise UserError(
            f"annotation file {path} is not in COCO format: {what} must be a list of records; it has the keys {list(content)[:8]}"
        )
    return AnnotationFile(path, **lists)


def collect_people(file: AnnotationFile, skeleton: Skeleton, limit: int = 0) -> People:
    """The people of the first `limit` images (0: all). UserError at the first record that cannot be used.

    Crowds and people without any labelled keypoint become regions to leave out; `num_keypoints` is not looked at, since
    CrowdPose has people with 0 there who have labelled keypoints.
    """
    images = file.images[:limit] if limit else file.images
    position = _positions(file.path, images)
    of_image: list[list[Record]] = [[] for _ in images]
    wanted = person_categories(file.categories, skeleton.num_keypoints)
    for annotation in file.annotations:
        image_id = annotation.get("image_id")
        index = position.get(image_id) if isinstance(image_id, (int, str)) else None
        if index is not None and is_of(annotation, wanted):
            of_image[index].append(annotation)
    rows: list[np.ndarray] = []
    first, regions = [0], []
    for of_one in of_image:
        labelled, left_out = _split_people(file.path, of_one, skeleton)
        rows += labelled
        first.append(len(rows))
        regions.append(left_out)
    keypoints = (
        np.stack(rows) if rows else np.zeros((0, skeleton.num_keypoints, 3), dtype=np.float32)
    )
    return People(
        image_ids=[image["id"] for image in images],
        names=[image["file_name"] for image in images],
        sizes=np.array(
            [(image["width"], image["height"]) for image in images], dtype=np.int32
        ).reshape(-1, 2),
        first=np.array(first),
        keypoints=keypoints,
        regions=regions,
        annotated=np.array([bool(of_one) for of_one in of_image], dtype=bool),
    )


def person_categories(categories: list[Record], num_keypoints: int) -> set[Any] | None:
    """The ids of the categories whose keypoints are the skeleton's, None (all) where the file names no keypoints."""
    with_keypoints = {
        category["id"]: category["keypoints"]
        for category in categories
        if isinstance(category.get("id"), (int, str))
        and isinstance(category.get("keypoints"), list)
        and category["keypoints"]
    }
    return (
        {key for key, names in with_keypoints.items() if len(names) == num_keypoints}
        or set(with_keypoints)
        or None
    )


def is_of(annotation: Record, wanted: set[Any] | None) -> bool:
    """Whether the annotation is of one of the `wanted` categories (None: all)."""
    category = annotation.get("category_id")
    return wanted is None or (isinstance(category, (int, str)) and category in wanted)


def _positions(path: Path, images: list[Record]) -> dict[int | str, int]:
    """Image id -> place in the file."""
    for number, image in enumerate(images):
        missing = [key for key in ("id", "file_name", "width", "height") if key not in image]
        if missing:
            raise UserError(
                f"annotation file {path}: images[{number}] (id {image.get('id')}) has no {', '.join(missing)}"
            )
        if not isinstance(image["id"], (int, str)) or not isinstance(image["file_name"], str):
            raise UserError(
                f"annotation file {path}: images[{number}] must have a number or word as 'id' and a word as 'file_name'"
            )
        size = (image["width"], image["height"])
        if not all(isinstance(side, (int, float)) and 1 <= side <= MOST_PIXELS for side in size):
            raise UserError(
                f"annotation file {path}: images[{number}] (id {image['id']}) has width and height {size}; they must be pixels"
            )
    return {image["id"]: number for number, image in enumerate(images)}


def _split_people(
    path: Path, annotations: list[Record], skeleton: Skeleton
) -> tuple[list[np.ndarray], bytes]:
    """Keypoints of the people who have any, the largest first, and the regions of the others."""
    labelled: list[tuple[float, np.ndarray, Any]] = []
    segmentations: list[Any] = []
    boxes: list[Any] = []
    for annotation in annotations:
        keypoints = _keypoints(path, annotation, skeleton)
        if keypoints is not None and not annotation.get("iscrowd") and (keypoints[:, 2] > 0).any():
            labelled.append((person_area(annotation, keypoints), keypoints, annotation.get("bbox")))
        elif annotation.get("segmentation"):
            segmentations.append(annotation["segmentation"])
        elif annotation.get("bbox"):
            boxes.append(annotation["bbox"])
    labelled.sort(key=lambda person: -person[0])
    kept = [box for _, _, box in labelled if box] if boxes else []
    content = {"segmentations": segmentations, "boxes": boxes, "kept_boxes": kept}
    return [keypoints for _, keypoints, _ in labelled], orjson.dumps(
        content
    ) if segmentations or boxes else b""


def _keypoints(path: Path, annotation: Record, skeleton: Skeleton) -> np.ndarray | None:
    """(K, 3) float32, None where the annotation has none; unlabelled ones are 0, 0, 0."""
    flat = annotation.get("keypoints")
    if not flat:
        return None
    if len(flat) != 3 * skeleton.num_keypoints:
        raise UserError(
            f"annotation file {path}: annotation {annotation.get('id')} has {len(flat)} numbers in 'keypoints', "
            f"skeleton '{skeleton.name}' needs {3 * skeleton.num_keypoints} (x, y, visibility of {skeleton.num_keypoints}); "
            f"is DATASET.SKELETON right?"
        )
    try:
        keypoints = np.array(flat, dtype=np.float32).reshape(-1, 3)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"annotation file {path}: 'keypoints' of annotation {annotation.get('id')} are not all numbers"
        ) from error
    keypoints[keypoints[:, 2] <= 0] = 0
    return keypoints


def person_area(annotation: Record, keypoints: np.ndarray) -> float:
    """The annotated area, else the box's, else that of the box round the labelled keypoints."""
    if annotation.get("area"):
        return float(annotation["area"])
    if annotation.get("bbox"):
        return float(annotation["bbox"][2] * annotation["bbox"][3])
    points = keypoints[keypoints[:, 2] > 0, :2]
    return float(np.prod(points.max(0) - points.min(0)))
