"""From what a reader of a labelling program found to COCO format, in the order of a skeleton."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from duopose.coco_annotations import Record
from duopose.datasets.annotations import person_category_record
from duopose.datasets.prepare.labelled_people import LabelledImage, LabelledPerson, LabelledSet
from duopose.errors import UserError
from duopose.skeletons import Skeleton

PERSON_TO_BOX_AREA = 0.53  # as in mpii_to_coco: the factor of CrowdPose's evaluator
# The box of keypoints on a line is widened to this part of its length; that of a single keypoint
# has this part of the image. A box without area would have OKS 0.
MIN_SIDE_RATIO = 0.25
SINGLE_POINT_RATIO = 0.1
MAX_VALUES = 6_000_000  # people x keypoints of the skeleton; COCO's train2017 has 2.5 million
BORDER = 1.0  # pixels that a keypoint may lie beyond the last pixel, as in tools/check_data.py


@dataclass
class CocoContent:
    """A file's content and what happened on the way."""

    content: dict[str, Any]
    num_people: int
    num_ignored: int  # regions of people without keypoints
    notices: list[str] = field(default_factory=list)


def to_coco(labelled: LabelledSet, skeleton: Skeleton, shift: float = 0.0) -> CocoContent:
    """Ids count from 1 in the order of the image names. shift: pixels, added to all coordinates.

    A keypoint outside its image becomes unlabelled, with a notice. UserError where a name is not in
    the skeleton, an image occurs twice, or nothing is labelled.
    """
    _raise_if_unknown(labelled, skeleton)
    num_people = sum(len(image.people) for image in labelled.images)
    if num_people * skeleton.num_keypoints > MAX_VALUES:
        raise UserError(
            f"{num_people} people with {skeleton.num_keypoints} keypoints are too many for one "
            "file; convert them in parts"
        )
    images = sorted(labelled.images, key=lambda image: image.name)
    _raise_if_repeated(images)

    records: list[Record] = []
    annotations: list[Record] = []
    dropped: list[str] = []
    for image_id, image in enumerate(images, start=1):
        size = {"width": image.width, "height": image.height}
        records.append({"id": image_id, "file_name": image.name} | size)
        for person in image.people:
            ids = {"id": len(annotations) + 1, "image_id": image_id}
            annotation = _annotation(person, image, skeleton, shift, dropped)
            annotations += [] if annotation is None else [ids | annotation]

    num_people = sum(annotation["num_keypoints"] > 0 for annotation in annotations)
    if not num_people:
        raise UserError(f"none of the {len(images)} images has a labelled keypoint")
    content = {
        "images": records,
        "annotations": annotations,
        "categories": [person_category_record(skeleton)],
    }
    notices = [*labelled.notices, *_notices(labelled, skeleton, dropped)]
    return CocoContent(content, num_people, len(annotations) - num_people, notices)


def _raise_if_unknown(labelled: LabelledSet, skeleton: Skeleton) -> None:
    unknown = [name for name in labelled.keypoints if name not in skeleton.keypoints]
    if unknown:
        near = difflib.get_close_matches(unknown[0], skeleton.keypoints, n=1)
        question = f"; did you mean '{near[0]}'?" if near else ""
        raise UserError(
            f"the labels have keypoint '{unknown[0]}' (of {len(unknown)} unknown), skeleton "
            f"'{skeleton.name}' has {', '.join(skeleton.keypoints)}{question}"
        )


def _raise_if_repeated(images: Sequence[LabelledImage]) -> None:
    counts = Counter(image.name for image in images)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise UserError(f"image '{repeated[0]}' is labelled {counts[repeated[0]]} times")


def _notices(labelled: LabelledSet, skeleton: Skeleton, dropped: Sequence[str]) -> list[str]:
    notices = []
    unused = [name for name in skeleton.keypoints if name not in labelled.keypoints]
    if unused:
        notices.append(f"no labels for {', '.join(unused)}")
    if dropped:
        notices.append(
            f"keypoints outside of their images are not used: {len(dropped)}, first {dropped[0]}"
        )
    return notices


# ---- one person ----


def _annotation(
    person: LabelledPerson,
    image: LabelledImage,
    skeleton: Skeleton,
    shift: float,
    dropped: list[str],
) -> Record | None:
    """The annotation without ids; None for a person without keypoints, box and polygon."""
    keypoints = np.zeros((skeleton.num_keypoints, 3))
    for name, (x, y, visibility) in person.points.items():
        if _is_in_image(x + shift, y + shift, image):
            keypoints[skeleton.index(name)] = (x + shift, y + shift, visibility)
        else:
            dropped.append(f"'{name}' in '{image.name}'")

    polygons = [[value + shift for value in polygon] for polygon in person.polygons]
    labelled = keypoints[keypoints[:, 2] > 0, :2]
    box = _box(person, labelled, polygons, image, shift)
    if box is None:
        return None

    annotation: Record = {
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": [_plain(value) for value in keypoints.reshape(-1)],
        "num_keypoints": len(labelled),
        "bbox": [_plain(value) for value in box],
        "area": _plain(sum(map(_polygon_area, polygons)) or box[2] * box[3] * PERSON_TO_BOX_AREA),
    }
    return annotation | ({"segmentation": polygons} if polygons else {})


def _is_in_image(x: float, y: float, image: LabelledImage) -> bool:
    """Whether tools/check_data.py accepts the keypoint; 0, 0 marks unlabelled ones."""
    is_inside = -BORDER <= x <= image.width - 1 + BORDER
    return is_inside and -BORDER <= y <= image.height - 1 + BORDER and (x != 0 or y != 0)


def _box(
    person: LabelledPerson,
    labelled: np.ndarray,
    polygons: Sequence[Sequence[float]],
    image: LabelledImage,
    shift: float,
) -> list[float] | None:
    """[x, y, width, height]: the drawn box, else that of the polygons, else of the keypoints.

    labelled: (N, 2). None where there is nothing, or nothing inside the image.
    """
    if person.box is not None and min(person.box[2:]) > 0:
        x, y, width, height = person.box
        box = [x + shift, y + shift, width, height]
    elif polygons:
        box = _extent(np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in polygons]), image)
    elif len(labelled):
        box = _extent(labelled, image)
    else:
        return None

    is_left = box[0] + box[2] < 0 or box[1] + box[3] < 0
    if is_left or box[0] > image.width or box[1] > image.height:
        return _extent(labelled, image) if len(labelled) else None
    return box


def _extent(points: np.ndarray, image: LabelledImage) -> list[float]:
    """The box around points (N, 2), N > 0, with a width and a height."""
    extent = np.ptp(points, axis=0)
    longest = float(extent.max()) * MIN_SIDE_RATIO
    smallest = longest or max(image.width, image.height) * SINGLE_POINT_RATIO
    size = np.maximum(extent, smallest)
    corner = (points.min(axis=0) + points.max(axis=0) - size) / 2
    return [*corner.tolist(), *size.tolist()]


def _polygon_area(polygon: Sequence[float]) -> float:
    """The shoelace formula. polygon: x1, y1, x2, y2 ..."""
    x, y = np.reshape(polygon, (-1, 2)).T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def _plain(value: float) -> int | float:
    """Whole numbers without a decimal point, as in COCO's files; others to 1/1000 pixel."""
    rounded = round(float(value), 3)
    return int(rounded) if rounded == int(rounded) else rounded
