"""Mistakes of convention: fractions for pixels, corners for sizes, num_keypoints 0 everywhere.

Each value alone looks valid; only the other values of the person or of the file show the mistake.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from duopose.coco_annotations import Record
from duopose.datasets.check.findings import Findings, is_number_list

MIN_JOINTS = 2  # a single joint may lie in the first pixel of an image
BORDER_TOLERANCE = 1.0  # pixels

Person = tuple[Record, tuple[float, float]]  # annotation, and width and height of its image


def check_conventions(people: Sequence[Person], num_keypoints: int, findings: Findings) -> None:
    """All checks of this module. people: the annotations of people, crowds included."""
    labelled: list[Person] = []
    for annotation, size in people:
        points = labelled_points(annotation, num_keypoints)
        if len(points) and not annotation.get("iscrowd"):
            labelled.append((annotation, size))
        if len(points) >= MIN_JOINTS and points.min() >= 0 and points.max() <= 1:
            message = (
                "all keypoints of a person lie between 0 and 1: coordinates must be pixels, "
                "not fractions of the image's size"
            )
            findings.problem(message, "annotation", annotation.get("id"))

    _check_boxes(labelled, num_keypoints, findings)
    _check_num_keypoints_everywhere(labelled, findings)


def labelled_points(annotation: Record, num_keypoints: int) -> np.ndarray:
    """(N, 2) positions with visibility > 0; none where 'keypoints' is not valid."""
    flat = annotation.get("keypoints")
    if not is_number_list(flat) or not flat or len(flat) != 3 * num_keypoints:
        return np.zeros((0, 2))
    points = np.array(flat, dtype=np.float64).reshape(-1, 3)
    return points[points[:, 2] > 0, :2]


def _check_boxes(people: Sequence[Person], num_keypoints: int, findings: Findings) -> None:
    """Boxes as fractions, or as x1, y1, x2, y2.

    A small box near the top left corner of an image fits both conventions. So the boxes that fit
    only one of them decide for the whole file.
    """
    num_sizes_only = 0
    corners_only = []
    for annotation, size in people:
        box = annotation.get("bbox")
        if not is_number_list(box) or not box or len(box) != 4:
            continue
        if 0 < max(box) <= 1 and min(box) >= 0:
            message = "'bbox' lies between 0 and 1: it must be x, y, width, height in pixels"
            findings.problem(message, "annotation", annotation.get("id"))
            continue

        has_sizes = _is_within(np.array(box), size)
        has_corners = _are_corners(np.array(box), size, labelled_points(annotation, num_keypoints))
        num_sizes_only += has_sizes and not has_corners
        if has_corners and not has_sizes:
            corners_only.append(annotation.get("id"))

    if len(corners_only) <= num_sizes_only:
        return
    for annotation_id in corners_only:
        message = (
            "'bbox' reaches beyond the image, but fits as x1, y1, x2, y2: "
            "it must be x, y, width, height"
        )
        findings.problem(message, "annotation", annotation_id)


def _is_within(box: np.ndarray, size: tuple[float, float]) -> bool:
    """Whether a box x, y, width, height ends inside the image."""
    return bool((box[:2] + box[2:] <= np.array(size) + BORDER_TOLERANCE).all())


def _are_corners(box: np.ndarray, size: tuple[float, float], points: np.ndarray) -> bool:
    """Whether x1, y1, x2, y2 inside the image hold most of the points (N, 2) of the person."""
    low = box[:2] - BORDER_TOLERANCE
    high = box[2:] + BORDER_TOLERANCE
    is_box = (box[:2] < box[2:]).all() and (box[2:] <= np.array(size) + BORDER_TOLERANCE).all()
    is_inside = ((points >= low) & (points <= high)).all(axis=1)
    return bool(is_box and is_inside.mean() > 0.5)


def _check_num_keypoints_everywhere(people: Sequence[Person], findings: Findings) -> None:
    if people and all(annotation.get("num_keypoints") == 0 for annotation, _ in people):
        findings.problem(
            f"'num_keypoints' is 0 for each of the {len(people)} people with labelled keypoints: "
            "scoring would ignore all of them; it must be the number of labelled keypoints"
        )
