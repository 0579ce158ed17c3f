"""Reading an annotation file for scoring: checked, people only, gaps that have one right answer filled."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from duopose.errors import UserError
from duopose.evaluate.results import PERSON_CATEGORY
from duopose.files import read_json

GroundTruth = dict[str, Any]
MOST_KEYPOINTS = 10_000  # of a person; more is a mistake of the file


def load_annotations(path: str | Path) -> GroundTruth:
    """A COCO-format file as it is; UserError where it is not one, or an image has no id. Annotations are checked by their users."""
    content = read_json(path, "annotation file")
    wrong = [
        key
        for key in ("images", "annotations", "categories")
        if not isinstance(content, dict) or not _is_records(content.get(key))
    ]
    if wrong:
        raise UserError(
            f"annotation file '{path}' is not in COCO format: {wrong} missing, or no list of records"
        )
    without = [
        number for number, image in enumerate(content["images"]) if not _is_id(image.get("id"))
    ]
    if without:
        raise UserError(
            f"annotation file '{path}': {len(without)} of 'images' have no 'id' (a number or word), first images[{without[0]}]"
        )
    return content


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(record, dict) for record in value)


def has_truth(path: str | Path) -> bool:
    """False for a file that lists images only, as COCO gives for its test splits, or has an empty list of annotations."""
    if not Path(path).is_file():
        return True  # the reader has a better sentence for that
    first = re.search(rb'"annotations"\s*:\s*\[\s*(.)', Path(path).read_bytes(), re.DOTALL)
    return first is not None and first.group(1) != b"]"


def open_annotations(annotations: str | Path | GroundTruth) -> tuple[GroundTruth, str]:
    """The content of an annotation file, or the content given, and how errors call it."""
    return (
        (annotations, "(in memory)")
        if isinstance(annotations, dict)
        else (load_annotations(annotations), str(annotations))
    )


def scoring_annotations(content: GroundTruth, num_keypoints: int, where: str) -> GroundTruth:
    """What an OKS evaluator needs of `content`, which stays as it is; UserError naming the annotation where that cannot be had.

    Only the person category is kept, numbered 1 as in the results, and people of images that the file lists. Annotations
    are numbered from 1: pycocotools takes a match with annotation 0 for none. `iscrowd` missing means 0; `num_keypoints`
    missing is counted, but never recounted; `keypoints` missing means none labelled. `area` cannot be guessed: evaluators
    differ on what to do, some without a word.
    """
    person = person_category(content["categories"], where)
    images = {image["id"] for image in content["images"]}
    kept = [
        annotation
        for annotation in content["annotations"]
        if annotation.get("category_id", person) == person
    ]
    try:
        kept = [
            annotation
            for annotation in kept
            if annotation.get("image_id") is None or annotation["image_id"] in images
        ]
        annotations = [
            _scoring_annotation(annotation, number, num_keypoints, where)
            for number, annotation in enumerate(kept, start=1)
        ]
    except TypeError:
        check_annotations(kept, where)
        raise
    return {
        "images": content["images"],
        "annotations": annotations,
        "categories": [{"id": PERSON_CATEGORY, "name": "person"}],
    }


def person_category(categories: list[dict[str, Any]], where: str) -> int:
    """Id of the only category, or of the one called person."""
    people = (
        categories
        if len(categories) == 1
        else [category for category in categories if category.get("name") == "person"]
    )
    if len(people) != 1:
        names = [category.get("name") for category in categories]
        raise UserError(
            f"annotation file '{where}': which category are the people? There must be one, or one called 'person', not {names}"
        )
    return people[0]["id"]


def _scoring_annotation(
    annotation: dict[str, Any], number: int, num_keypoints: int, where: str
) -> dict[str, Any]:
    keypoints = annotation.get("keypoints") or [0] * (3 * num_keypoints)
    missing = [key for key in ("image_id", "bbox", "area") if annotation.get(key) is None]
    if missing:
        raise UserError(
            f"annotation file '{where}': annotation {annotation.get('id', number)} has no {', '.join(missing)}, which OKS needs "
            "(area: pixels of the person; box width x height x 0.53 is CrowdPose's stand-in for a missing one)"
        )
    if len(keypoints) != 3 * num_keypoints:
        raise UserError(
            f"annotation file '{where}': annotation {annotation.get('id', number)} has {len(keypoints)} keypoint numbers, but the "
            f"skeleton has {num_keypoints} keypoints, so there must be {3 * num_keypoints}; is DATASET.SKELETON the right one?"
        )
    labelled = annotation.get("num_keypoints")
    if not RIGHT["area"](annotation["area"]) or not RIGHT["num_keypoints"](
        0 if labelled is None else labelled
    ):
        check_annotations([annotation], where)
    return {
        "id": number,
        "image_id": annotation["image_id"],
        "category_id": PERSON_CATEGORY,
        "bbox": annotation["bbox"],
        "area": annotation["area"],
        "iscrowd": annotation.get("iscrowd") or 0,
        "num_keypoints": sum(visibility > 0 for visibility in keypoints[2::3])
        if labelled is None
        else labelled,
        "keypoints": keypoints,
    }


def check_annotations(annotations: list[dict[str, Any]], where: str) -> None:
    """UserError on the first annotation with a value of the wrong kind, which libraries meet with errors of their own or not at all."""
    for number, annotation in enumerate(annotations, start=1):
        wrong = [
            name
            for name, right in RIGHT.items()
            if annotation.get(name) is not None and not right(annotation[name])
        ]
        if wrong:
            what = ", ".join(f"{name} {str(annotation[name])[:60]!r}" for name in wrong)
            raise UserError(
                f"annotation file '{where}': annotation {annotation.get('id', number)} has {what}; run tools/check_data.py"
            )


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray)) and all(map(_is_number, value))


RIGHT: dict[str, Callable[[Any], bool]] = {
    "id": _is_id,
    "image_id": _is_id,
    "bbox": lambda value: _are_numbers(value) and len(value) == 4,
    "area": lambda value: _is_number(value) and value >= 0,
    "keypoints": _are_numbers,
    "num_keypoints": lambda value: type(value) is int and 0 <= value <= MOST_KEYPOINTS,
    "iscrowd": lambda value: value in (0, 1),
    "head_box": lambda value: _are_numbers(value) and len(value) == 4,
    "objpos": lambda value: _are_numbers(value) and len(value) == 2,
    "scale": _is_number,
}


def chosen_images(
    content: GroundTruth, image_ids: Collection[int | str] | None, where: str
) -> list[int | str]:
    """The ids to score in the file's order: all, or those given; UserError where one is not in the file or none is left."""
    known = [image["id"] for image in content["images"]]
    if image_ids is None:
        chosen = known
    else:
        wanted = set(image_ids)
        chosen = [image_id for image_id in known if image_id in wanted]
        unknown = sorted(wanted.difference(known), key=str)
        if unknown:
            raise UserError(
                f"annotation file '{where}': {len(unknown)} images to score are not in it, first {unknown[:3]}"
            )
    if not chosen:
        raise UserError(f"annotation file '{where}': no image to score")
    return chosen
