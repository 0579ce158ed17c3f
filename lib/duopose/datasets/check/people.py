"""Checks of each annotation: keypoints, box, area, segmentation."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from duopose.datasets.annotations import (
    MOST_PIXELS,
    AnnotationFile,
    Record,
    is_of,
    person_categories,
)
from duopose.datasets.check.findings import Findings, is_number, numbers
from duopose.skeletons import Skeleton

SCORED_BY = {  # benchmark -> the field without which a person cannot be scored, and why
    "coco": ("area", "OKS divides by it"),
    "crowdpose": ("bbox", "OKS divides by 0.53 of the box"),
    "mpii": ("head_box", "PCKh measures distances in head sizes"),
}
OUTSIDE_TOLERANCE = 1.0  # pixels; COCO's own annotators click on the border


def check_people(
    file: AnnotationFile, skeleton: Skeleton, benchmark: str, findings: Findings
) -> None:
    """Every annotation of a person category; `benchmark` (coco, crowdpose, mpii) says how people are scored."""
    images = {
        image.get("id"): image for image in file.images if isinstance(image.get("id"), (int, str))
    }
    wanted = person_categories(file.categories, skeleton.num_keypoints)
    for annotation in file.annotations:
        image_id = annotation.get("image_id")
        image = images.get(image_id) if isinstance(image_id, (int, str)) else None
        if image is None or not is_of(annotation, wanted):
            continue
        size = (image.get("width"), image.get("height"))
        if not all(is_number(side) and 1 <= side <= MOST_PIXELS for side in size):  # type: ignore[operator]
            continue
        labelled = _check_keypoints(annotation, skeleton, size, findings)
        field, reason = SCORED_BY[benchmark]
        if labelled and annotation.get(field) is None:
            tell = (
                findings.notice if benchmark == "mpii" else findings.problem
            )  # MPII itself lacks some head rectangles
            tell(f"'{field}' is missing: {reason}", "annotation", annotation.get("id"))
        _check_box_and_area(annotation, labelled, size, findings)
        _check_segmentation(annotation, labelled, size, findings)


def _check_keypoints(
    annotation: Record, skeleton: Skeleton, size: tuple[Any, Any], findings: Findings
) -> int:
    """The number of labelled keypoints."""
    flat, key = annotation.get("keypoints"), annotation.get("id")
    if not flat:
        return 0
    if not numbers(flat):
        findings.problem("'keypoints' must be a flat list of finite numbers", "annotation", key)
        return 0
    if len(flat) != 3 * skeleton.num_keypoints:
        needed = f"{3 * skeleton.num_keypoints} (x, y, visibility of {skeleton.num_keypoints})"
        findings.problem(
            f"'keypoints' has {len(flat)} numbers, skeleton '{skeleton.name}' needs {needed}",
            "annotation",
            key,
        )
        return 0
    points = np.array(flat, dtype=np.float64).reshape(-1, 3)
    marked = points[points[:, 2] > 0]
    if not set(flat[2::3]) <= {0, 1, 2}:
        findings.problem(
            "the third number of a keypoint must be 0 (not labelled), 1 (hidden) or 2 (visible)",
            "annotation",
            key,
        )
    limit = np.array(size, dtype=np.float64) - 1 + OUTSIDE_TOLERANCE
    if ((marked[:, :2] < -OUTSIDE_TOLERANCE) | (marked[:, :2] > limit)).any():
        findings.problem("labelled keypoints lie outside the image", "annotation", key)
    if len(marked) and (marked[:, :2] == 0).all(1).any():
        findings.problem(
            "keypoints at 0, 0 are marked as labelled; where a keypoint is not labelled its third number must be 0",
            "annotation",
            key,
        )
    _check_count(annotation, len(marked), findings)
    return len(marked)


def _check_count(annotation: Record, labelled: int, findings: Findings) -> None:
    stated, key = annotation.get("num_keypoints"), annotation.get("id")
    if stated is None:
        findings.problem(
            "'num_keypoints' is missing: COCO's evaluator would leave these people out",
            "annotation",
            key,
        )
    elif stated == 0 and labelled and not annotation.get("iscrowd"):
        findings.notice(
            "'num_keypoints' is 0 though keypoints are labelled: training uses them, scoring leaves them out",
            "annotation",
            key,
        )
    elif stated != labelled and not annotation.get("iscrowd"):
        findings.notice(
            "'num_keypoints' is not the number of labelled keypoints", "annotation", key
        )


def _check_box_and_area(
    annotation: Record, labelled: int, size: tuple[Any, Any], findings: Findings
) -> None:
    box, area, key = annotation.get("bbox"), annotation.get("area"), annotation.get("id")
    if area is not None and not (is_number(area) and (area > 0 or not labelled)):
        findings.problem(
            "'area' of a person with keypoints must be greater than 0: OKS divides by it",
            "annotation",
            key,
        )
    if box is None:
        return
    if not numbers(box) or len(box) != 4:
        findings.problem("'bbox' must be four numbers: x, y, width, height", "annotation", key)
    elif labelled and not (box[2] > 0 and box[3] > 0):
        findings.problem(
            "'bbox' of a person with keypoints has no width or height", "annotation", key
        )
    elif box[0] > size[0] or box[1] > size[1] or box[0] + box[2] < 0 or box[1] + box[3] < 0:
        findings.problem("'bbox' lies outside the image", "annotation", key)


def _check_segmentation(
    annotation: Record, labelled: int, size: tuple[Any, Any], findings: Findings
) -> None:
    segmentation, key = annotation.get("segmentation"), annotation.get("id")
    left_out = bool(annotation.get("iscrowd")) or not labelled
    if not segmentation:
        if left_out and annotation.get("bbox"):
            findings.notice(
                "crowds or people without keypoints have no 'segmentation': the loss leaves out their boxes",
                "annotation",
                key,
            )
        elif left_out:
            findings.notice(
                "crowds or people without keypoints have neither 'segmentation' nor 'bbox': they count as background",
                "annotation",
                key,
            )
    elif isinstance(segmentation, list):
        if not all(
            numbers(polygon) and len(polygon) >= 6 and len(polygon) % 2 == 0
            for polygon in segmentation
        ):
            findings.problem(
                "'segmentation' polygons must be lists of at least three points x, y",
                "annotation",
                key,
            )
    elif isinstance(segmentation, dict):
        problem = _run_length_problem(segmentation, size)
        if problem:
            findings.problem(problem, "annotation", key)
    else:
        findings.problem(
            "'segmentation' must be a list of polygons or a run-length code", "annotation", key
        )


def _run_length_problem(code: dict[str, Any], size: tuple[Any, Any]) -> str:
    """A sentence, or nothing where the code is right."""
    width, height = size
    if code.get("size") != [height, width]:
        return (
            "'segmentation' run lengths are of another image size (their 'size' is height, width)"
        )
    counts = code.get("counts")
    if isinstance(counts, list):
        right = (
            numbers(counts)
            and all(count >= 0 for count in counts)
            and sum(counts) == width * height
        )
        return (
            ""
            if right
            else "'segmentation' run lengths must be whole numbers whose sum is height * width"
        )
    if not isinstance(counts, str):
        return "'segmentation' has no 'counts'"
    try:
        coco_mask.decode({"size": code["size"], "counts": counts.encode()})
    except Exception:  # whatever pycocotools raises for a broken code
        return "'segmentation' has packed run lengths that cannot be unpacked"
    return ""
