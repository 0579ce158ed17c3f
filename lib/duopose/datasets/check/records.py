"""Checks of an annotation file: ids and references, images, categories, and each annotation."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from duopose.coco_annotations import (
    AnnotationFile,
    Record,
    RequiredField,
    compare_keypoint_names,
    is_person,
    person_category,
)
from duopose.datasets.annotations import has_valid_size
from duopose.datasets.check.conventions import check_conventions
from duopose.datasets.check.findings import Findings, RecordFindings, is_number, is_number_list
from duopose.datasets.segmentations import (
    MIN_POLYGON_NUMBERS,
    SegmentationError,
    as_json,
    read_segmentation,
)
from duopose.errors import UserError, counted
from duopose.skeletons import Skeleton

BORDER_TOLERANCE = 1.0  # pixels; tools that count from 1 give x = width, which is no mistake


# ---- lists, ids and references ----


def check_lists(file: AnnotationFile, findings: Findings, *, for_training: bool = False) -> None:
    """Empty lists, duplicate ids, wrong references, images without a size or a name."""
    if not file.images:
        findings.problem("'images' is empty: the split has no images")
    if not file.annotations and for_training:
        findings.problem("'annotations' is empty: there is nothing to train on")
    elif not file.annotations:
        findings.notice(
            "'annotations' is empty: the split cannot be scored here (as the test split of a "
            "benchmark's server)"
        )

    _check_ids(file.images, "image", findings)
    _check_ids(file.annotations, "annotation", findings)
    _check_images(file.images, findings)

    known = {_hashable(image.get("id")) for image in file.images}
    for annotation in file.annotations:
        if _hashable(annotation.get("image_id")) not in known:
            message = "'image_id' is not an id of 'images'"
            findings.problem(message, "annotation", annotation.get("id"))


def _check_ids(records: list[Record], noun: str, findings: Findings) -> None:
    ids = [_hashable(record.get("id")) for record in records]
    for record_id, count in Counter(ids).items():
        if record_id is None:
            findings.problem(f"{counted(count, noun)} without an 'id'")
        elif count > 1:
            findings.problem(f"several {noun}s have the same 'id'", "id", record_id)

    if noun == "annotation" and any(record_id == 0 for record_id in ids):
        message = "an annotation has id 0, which pycocotools treats as not matched; start from 1"
        findings.notice(message, noun, 0)


def _check_images(images: list[Record], findings: Findings) -> None:
    names: Counter[str] = Counter()
    for image in images:
        report = findings.about("image", image.get("id"))
        if not has_valid_size(image):
            report.problem("'width' and 'height' must be the image's size in pixels")
        if not isinstance(image.get("file_name"), str) or not image["file_name"]:
            report.problem("'file_name' is missing")
        else:
            names[image["file_name"]] += 1

    for name, count in names.items():
        if count > 1:
            findings.problem("several entries of 'images' have the same 'file_name'", "name", name)


def _hashable(value: Any) -> Any:
    """The value itself where it can be an id, else a text that equals no id."""
    if value is None or isinstance(value, (int, str, float)):
        return value
    return repr(value)


# ---- categories and skeleton ----


def check_categories(file: AnnotationFile, skeleton: Skeleton, findings: Findings) -> None:
    """Keypoint names of the categories against the skeleton; annotations of unknown categories."""
    with_keypoints: list[Record] = []
    for category in file.categories:
        names = category.get("keypoints", [])
        if not isinstance(names, list) or not isinstance(category.get("id"), (int, str)):
            findings.problem(
                "each of 'categories' needs a number or a string as 'id', and a list of names "
                "as 'keypoints' if it has any"
            )
        if names and isinstance(names, list):
            with_keypoints.append(category)

    _check_keypoint_names(with_keypoints, skeleton, findings)

    ids = {_hashable(category.get("id")) for category in file.categories}
    for annotation in file.annotations:
        if ids and _hashable(annotation.get("category_id")) not in ids:
            message = "'category_id' is not an id of 'categories'; such annotations are not used"
            findings.problem(message, "annotation", annotation.get("id"))


def _check_keypoint_names(categories: list[Record], skeleton: Skeleton, findings: Findings) -> None:
    """Number, order and names of the keypoints of the categories that name any."""
    expected = list(skeleton.keypoints)
    counts = [f"'{category.get('name')}' {len(category['keypoints'])}" for category in categories]
    if categories and all(len(category["keypoints"]) != len(expected) for category in categories):
        findings.problem(
            f"the number of keypoints in 'categories' ({', '.join(counts)}) is not that of "
            f"skeleton '{skeleton.name}' ({len(expected)})"
        )

    for category in categories:
        names = list(category["keypoints"])
        if len(names) != len(expected):
            continue
        difference = compare_keypoint_names(names, expected)
        if difference is None:
            continue
        text = f"'categories': {difference.message(skeleton.name)}"
        if difference.is_other_order:
            findings.problem(f"{text}: {names} instead of {expected}")
        else:
            findings.notice(text)


def check_skeleton(skeleton: Skeleton, findings: Findings) -> None:
    """Left-right names that are not in flip_pairs, and missing sigmas."""
    for name in skeleton.keypoints:
        partner = name.replace("left", "right")
        if partner != name and partner in skeleton.keypoints and skeleton.mirror[name] != partner:
            findings.problem(
                f"skeleton '{skeleton.name}': '{name}' and '{partner}' are not in flip_pairs; "
                "mirrored training images would have wrong labels"
            )
    if skeleton.sigmas_are_default:
        findings.notice(
            f"skeleton '{skeleton.name}' has no sigmas: "
            f"OKS uses {skeleton.sigmas[0]} for every keypoint"
        )


# ---- annotations of people ----


def check_people(
    file: AnnotationFile, skeleton: Skeleton, required: RequiredField, findings: Findings
) -> None:
    """Keypoints, box, area and segmentation of every annotation of a person."""
    try:
        category = person_category(file.categories, skeleton.num_keypoints, file.path)
    except UserError as error:
        findings.problem(str(error))
        return

    sizes = {
        image["id"]: (image["width"], image["height"])
        for image in file.images
        if isinstance(image.get("id"), (int, str)) and has_valid_size(image)
    }
    people = []
    for annotation in file.annotations:
        image_id = annotation.get("image_id")
        size = sizes.get(image_id) if isinstance(image_id, (int, str)) else None
        if size is not None and is_person(annotation, category):
            report = findings.about("annotation", annotation.get("id"))
            _check_person(annotation, skeleton, required, size, report)
            people.append((annotation, size))
    check_conventions(people, skeleton.num_keypoints, findings)


def _check_person(
    annotation: Record,
    skeleton: Skeleton,
    required: RequiredField,
    size: tuple[float, float],
    report: RecordFindings,
) -> None:
    """size: width, height of the image."""
    num_labelled = _check_keypoints(annotation, skeleton, size, report)

    if num_labelled and annotation.get(required.name) is None:
        message = f"'{required.name}' is missing: {required.reason}"
        add = report.notice if required.is_sometimes_missing else report.problem
        add(message)

    _check_box_and_area(annotation, num_labelled, size, report)
    _check_segmentation(annotation, num_labelled, size, report)


def _check_keypoints(
    annotation: Record, skeleton: Skeleton, size: tuple[float, float], report: RecordFindings
) -> int:
    """The number of labelled keypoints."""
    flat = annotation.get("keypoints")
    if not flat:
        return 0
    if not is_number_list(flat):
        report.problem("'keypoints' must be a flat list of finite numbers")
        return 0
    if len(flat) != 3 * skeleton.num_keypoints:
        report.problem(
            f"'keypoints' has {len(flat)} numbers, skeleton '{skeleton.name}' needs "
            f"{3 * skeleton.num_keypoints} (x, y, visibility of {skeleton.num_keypoints})"
        )
        return 0

    points = np.array(flat, dtype=np.float64).reshape(-1, 3)
    labelled = points[points[:, 2] > 0, :2]
    limit = np.array(size, dtype=np.float64) - 1 + BORDER_TOLERANCE
    if not set(flat[2::3]) <= {0, 1, 2}:
        report.problem("visibility must be 0 (not labelled), 1 (hidden) or 2 (visible)")
    if ((labelled < -BORDER_TOLERANCE) | (labelled > limit)).any():
        report.problem("labelled keypoints are outside the image")
    if (labelled == 0).all(1).any():
        report.problem("labelled keypoints at 0, 0; visibility 0 marks an unlabelled keypoint")

    _check_num_keypoints(annotation, len(labelled), report)
    return len(labelled)


def _check_num_keypoints(annotation: Record, num_labelled: int, report: RecordFindings) -> None:
    stated = annotation.get("num_keypoints")
    is_crowd = bool(annotation.get("iscrowd"))
    if stated is None:
        report.problem("'num_keypoints' is missing: COCO's evaluator would ignore these people")
    elif stated == 0 and num_labelled and not is_crowd:
        report.notice(
            "'num_keypoints' is 0 though keypoints are labelled: "
            "training uses these people, scoring ignores them"
        )
    elif stated != num_labelled and not is_crowd:
        report.notice("'num_keypoints' is not the number of labelled keypoints")


def _check_box_and_area(
    annotation: Record, num_labelled: int, size: tuple[float, float], report: RecordFindings
) -> None:
    area = annotation.get("area")
    if area is not None and not (is_number(area) and (area > 0 or not num_labelled)):
        report.problem("'area' of a person with keypoints must be positive: OKS divides by it")

    box = annotation.get("bbox")
    if box is None:
        return
    if not is_number_list(box) or len(box) != 4:
        report.problem("'bbox' must be four numbers: x, y, width, height")
        return

    x, y, width, height = box
    if num_labelled and not (width > 0 and height > 0):
        report.problem("'bbox' of a person with keypoints has no width or height")
    elif x > size[0] or y > size[1] or x + width < 0 or y + height < 0:
        report.problem("'bbox' is outside the image")


def _check_segmentation(
    annotation: Record, num_labelled: int, size: tuple[float, float], report: RecordFindings
) -> None:
    segmentation = annotation.get("segmentation")
    is_ignored = bool(annotation.get("iscrowd")) or not num_labelled
    subject = "crowds or people without keypoints"
    if not segmentation:
        if is_ignored and annotation.get("bbox"):
            report.notice(f"{subject} have no 'segmentation': the losses ignore their boxes")
        elif is_ignored:
            report.notice(f"{subject} have neither 'segmentation' nor 'bbox': used as background")
    else:
        _check_shapes(segmentation, size, report)


def _check_shapes(segmentation: Any, size: tuple[float, float], report: RecordFindings) -> None:
    try:
        text = as_json(segmentation)
        shapes = read_segmentation(text, *size)
    except SegmentationError as error:
        report.problem(f"'segmentation' {error.problem}")
        return
    is_short = isinstance(shapes, list) and min(map(len, shapes)) < MIN_POLYGON_NUMBERS
    if is_short:
        report.problem("'segmentation' polygons must be lists of at least three points x, y")
