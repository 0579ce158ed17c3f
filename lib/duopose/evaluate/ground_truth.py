"""Annotation files for scoring: people only, values checked, unambiguous gaps filled."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from duopose.coco_annotations import (
    AnnotationFile,
    Record,
    is_person,
    person_category,
    read_annotation_file,
)
from duopose.errors import UserError
from duopose.evaluate.results import PERSON_CATEGORY
from duopose.json_files import MAX_MEMORY

ImageIds = Collection[int | str]
# A file, or its content: what evaluators take.
AnnotationSource = str | Path | dict[str, Any] | AnnotationFile
IN_MEMORY = Path("(in memory)")  # name of a file that was given by its content
MAX_KEYPOINTS = 10_000  # num_keypoints of a person above this is a mistake in the file
REQUIRED_FOR_OKS = ("image_id", "bbox", "area")


def open_annotations(source: AnnotationSource, max_memory: int = MAX_MEMORY) -> AnnotationFile:
    """The annotation file, read if `source` is a path; UserError where an image has no id.

    max_memory: bytes, for `read_annotation_file`. Content that is given in memory is checked by the
    functions that use it.
    """
    if isinstance(source, AnnotationFile):
        return source
    if isinstance(source, dict):
        file = AnnotationFile(
            IN_MEMORY, source["images"], source["annotations"], source["categories"]
        )
    else:
        file = read_annotation_file(source, max_memory)

    without_id = [n for n, image in enumerate(file.images) if not _is_id(image.get("id"))]
    if without_id:
        raise UserError(
            f"annotation file '{file.path}': {len(without_id)} of 'images' have no 'id' "
            f"(a number or word), first images[{without_id[0]}]"
        )
    return file


def people_annotations(file: AnnotationFile, num_keypoints: int) -> list[Record]:
    """The annotations of people, by the same rule as in training."""
    category = person_category(file.categories, num_keypoints, file.path)
    return [annotation for annotation in file.annotations if is_person(annotation, category)]


def image_ids_to_score(file: AnnotationFile, image_ids: ImageIds | None) -> list[int | str]:
    """The ids to score, in the file's order: all (None), or those given.

    UserError where an id is not in the file, or none is left.
    """
    known = [image["id"] for image in file.images]
    selected = known
    if image_ids is not None:
        wanted = set(image_ids)
        selected = [image_id for image_id in known if image_id in wanted]
        unknown = sorted(wanted.difference(known), key=str)
        if unknown:
            raise UserError(
                f"annotation file '{file.path}': images to score that are not in it: "
                f"{len(unknown)}, first {unknown[:3]}"
            )

    if not selected:
        raise UserError(f"annotation file '{file.path}': no image to score")
    return selected


def oks_ground_truth(file: AnnotationFile, num_keypoints: int) -> dict[str, Any]:
    """The content of `file` as an OKS evaluator needs it; the file itself is not changed.

    - Only people are kept, with the category id of results, in images that the file lists.
    - Annotations are numbered from 1: pycocotools takes a match with annotation 0 for no match.
    - A missing `iscrowd` is 0; a missing `num_keypoints` is counted, a given one never recounted;
      missing `keypoints` mean that none is labelled.
    - A missing `area` has no right value (evaluators differ, some silently), so it is a UserError
      that names the annotation.
    """
    listed = {image["id"] for image in file.images}
    people = people_annotations(file, num_keypoints)
    try:
        kept = [
            person
            for person in people
            if person.get("image_id") is None or person["image_id"] in listed
        ]
        annotations = [
            _oks_annotation(person, number, num_keypoints, file.path)
            for number, person in enumerate(kept, start=1)
        ]
    except TypeError:
        # Values of the wrong type, e.g. a list as image_id: name them.
        check_annotations(people, file.path)
        raise

    return {
        # Nothing else of an image: hotcoco refuses sizes that are no whole numbers.
        "images": [{"id": image["id"]} for image in file.images],
        "annotations": annotations,
        "categories": [{"id": PERSON_CATEGORY, "name": "person"}],
    }


def _oks_annotation(person: Record, number: int, num_keypoints: int, path: Path) -> Record:
    """One annotation of `oks_ground_truth`, with exactly the fields that OKS uses."""
    name = f"annotation file '{path}': annotation {person.get('id', number)}"
    missing = [key for key in REQUIRED_FOR_OKS if person.get(key) is None]
    if missing:
        raise UserError(
            f"{name} has no {', '.join(missing)}, which OKS needs (area: pixels of the person; "
            "CrowdPose uses box width x height x 0.53 where it is missing); "
            "tools/check_data.py lists all such annotations"
        )

    keypoints = person.get("keypoints") or [0] * (3 * num_keypoints)
    if len(keypoints) != 3 * num_keypoints:
        raise UserError(
            f"{name} has {len(keypoints)} keypoint numbers, but the skeleton has {num_keypoints} "
            f"keypoints, so there must be {3 * num_keypoints}; is DATASET.SKELETON the right one?"
        )

    # Only these two are checked here: to look at every keypoint takes longer than scoring.
    num_labelled = person.get("num_keypoints")
    if num_labelled is None:
        num_labelled = sum(visibility > 0 for visibility in keypoints[2::3])
    if not (_is_area(person["area"]) and _is_keypoint_count(num_labelled)):
        check_annotations([person], path)

    return {
        "id": number,
        "image_id": person["image_id"],
        "category_id": PERSON_CATEGORY,
        "bbox": person["bbox"],
        "area": person["area"],
        "iscrowd": person.get("iscrowd") or 0,
        "num_keypoints": num_labelled,
        "keypoints": keypoints,
    }


def check_annotations(annotations: list[Record], path: Path) -> None:
    """UserError naming the first annotation with a value of the wrong type or length.

    The evaluation libraries accept some of these silently and meet others with errors of their own.
    """
    for number, annotation in enumerate(annotations, start=1):
        wrong = [
            name for name, is_valid in VALIDATORS.items() if not _fits(annotation, name, is_valid)
        ]
        if wrong:
            values = ", ".join(f"{name} {str(annotation[name])[:60]!r}" for name in wrong)
            raise UserError(
                f"annotation file '{path}': annotation {annotation.get('id', number)} has "
                f"{values}; run tools/check_data.py"
            )


def _fits(annotation: Record, name: str, is_valid: Callable[[Any], bool]) -> bool:
    """Whether the field is missing or valid."""
    value = annotation.get(name)
    return value is None or is_valid(value)


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray)) and all(map(_is_number, value))


def _is_area(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_box(value: Any) -> bool:
    return _are_numbers(value) and len(value) == 4


def _is_point(value: Any) -> bool:
    return _are_numbers(value) and len(value) == 2


def _is_keypoint_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_KEYPOINTS


def _is_flag(value: Any) -> bool:
    return value in (0, 1)


VALIDATORS: dict[str, Callable[[Any], bool]] = {
    "id": _is_id,
    "image_id": _is_id,
    "bbox": _is_box,
    "area": _is_area,
    "keypoints": _are_numbers,
    "num_keypoints": _is_keypoint_count,
    "iscrowd": _is_flag,
    "head_box": _is_box,
    "objpos": _is_point,
    "scale": _is_number,
}
