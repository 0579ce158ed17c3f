"""Annotated people of a COCO-format file, images not needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from duopose.coco_annotations import AnnotationFile, is_person, person_category
from duopose.errors import UserError
from duopose.skeletons import Skeleton

BOX_TO_AREA = 0.53  # CrowdPose annotations have no area: share of the box, as its evaluator has it


@dataclass(frozen=True)
class Image:
    """One annotated image."""

    image_id: int
    width: int
    height: int
    keypoints: np.ndarray  # (P, K, 3) image frame, people with at least one labelled joint
    area: np.ndarray  # (P,) image pixels


def images_of(file: AnnotationFile, skeleton: Skeleton, limit: int = 0) -> list[Image]:
    """The first `limit` images of the file (0: all) with their people, without crowd regions."""
    images = file.images[: limit or None]
    category = person_category(file.categories, skeleton.num_keypoints, file.path)
    people: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in images}
    for annotation in file.annotations:
        is_single = is_person(annotation, category) and not annotation.get("iscrowd")
        if is_single and annotation["image_id"] in people:
            people[annotation["image_id"]].append(annotation)
    return [_image(image, people[image["id"]], skeleton) for image in images]


def _image(image: dict[str, Any], annotations: list[dict[str, Any]], skeleton: Skeleton) -> Image:
    shape = (-1, skeleton.num_keypoints, 3)
    try:
        keypoints = np.array([a["keypoints"] for a in annotations], dtype=np.float64).reshape(shape)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"image {image['id']}: each annotation needs {3 * skeleton.num_keypoints} numbers in 'keypoints' "
            f"for skeleton '{skeleton.name}'; is DATASET.SKELETON right?"
        ) from error
    area = np.array(
        [
            a["area"] if a.get("area") else BOX_TO_AREA * a["bbox"][2] * a["bbox"][3]
            for a in annotations
        ]
    )
    labelled = (keypoints[..., 2] > 0).any(axis=1)
    return Image(image["id"], image["width"], image["height"], keypoints[labelled], area[labelled])
