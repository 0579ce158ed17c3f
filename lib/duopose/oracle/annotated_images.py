"""The annotated people of a COCO-format file; image files are not needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duopose.coco_annotations import AnnotationFile, Record
from duopose.errors import UserError
from duopose.evaluate.crowdpose import AREA_OF_BOX
from duopose.evaluate.ground_truth import people_annotations
from duopose.skeletons import Skeleton


@dataclass(frozen=True)
class AnnotatedImage:
    """One image and its people with at least one labelled keypoint."""

    image_id: int | str
    width: int  # pixels
    height: int
    keypoints: np.ndarray  # (P, K, 3) float64 x, y, visibility, image frame
    area: np.ndarray  # (P,) pixels of the image


def annotated_images(
    file: AnnotationFile, skeleton: Skeleton, limit: int = 0
) -> list[AnnotatedImage]:
    """The first `limit` images of the file (0: all), without crowd regions.

    UserError naming the image whose annotations do not fit the skeleton.
    """
    records = file.images[: limit or None]
    people: dict[int | str, list[Record]] = {record["id"]: [] for record in records}
    for annotation in people_annotations(file, skeleton.num_keypoints):
        image_id = annotation.get("image_id")
        if image_id in people and not annotation.get("iscrowd"):
            people[image_id].append(annotation)

    return [_annotated_image(record, people[record["id"]], skeleton) for record in records]


def _annotated_image(
    record: Record, annotations: list[Record], skeleton: Skeleton
) -> AnnotatedImage:
    num_keypoints = skeleton.num_keypoints
    try:
        rows = [annotation["keypoints"] for annotation in annotations]
        keypoints = np.array(rows, dtype=np.float64).reshape(-1, num_keypoints, 3)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"image {record['id']}: each annotation needs {3 * num_keypoints} numbers in "
            f"'keypoints' for skeleton '{skeleton.name}'; is DATASET.SKELETON right?"
        ) from error

    if not {"width", "height"} <= record.keys():
        raise UserError(f"image {record['id']} has no 'width' and 'height'")
    area = np.array([_area(annotation) for annotation in annotations])
    has_label = (keypoints[..., 2] > 0).any(axis=1)
    return AnnotatedImage(
        image_id=record["id"],
        width=record["width"],
        height=record["height"],
        keypoints=keypoints[has_label],
        area=area[has_label],
    )


def _area(annotation: Record) -> float:
    """Pixels of a person; CrowdPose's annotations have a box but no area."""
    if annotation.get("area"):
        return float(annotation["area"])
    if not annotation.get("bbox"):
        raise UserError(f"annotation {annotation.get('id')} has neither 'area' nor 'bbox'")
    _, _, width, height = annotation["bbox"]
    return float(AREA_OF_BOX * width * height)
