"""Predictions of MPII's test images in the form of its own annotations, which its evaluation takes.

pred(i).image.name, pred(i).annorect(r).annopoints.point(k).{id, x, y, score}, pred(i).annorect(r).score; ids in MPII's order,
coordinates counted from 1. One entry per image of the annotation file, in its order. Every found joint is written, pelvis and thorax too.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from duopose.evaluate.ground_truth import load_annotations
from duopose.evaluate.mpii_groups import by_image, scored_indices
from duopose.evaluate.results import Entry, Results, checked_entries
from duopose.files import write_atomically
from duopose.skeleton_tables import MPII_FILE_KEYPOINTS
from duopose.skeletons import Skeleton

FIRST_PIXEL = 1.0


def write_mpii_predictions(
    path: str | Path, results: Results, annotations: str | Path, skeleton: Skeleton
) -> None:
    """Writes the .mat, whole or not at all; UserError as in `evaluate_mpii`."""
    scored_indices(skeleton)
    content = load_annotations(annotations)
    entries = checked_entries(
        results, skeleton.num_keypoints, {image["id"] for image in content["images"]}
    )
    found = by_image(entries)
    images = [
        {
            "image": {"name": image["file_name"]},
            "annorect": _struct_array([_person(e, skeleton) for e in found[image["id"]]]),
        }
        for image in content["images"]
    ]
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"pred": _struct_array(images)}, do_compression=True)
    write_atomically(path, buffer.getvalue())


def _person(entry: Entry, skeleton: Skeleton) -> dict[str, Any]:
    keypoints = np.array(entry["keypoints"], dtype=np.float64).reshape(-1, 3)
    joints = (
        (joint, keypoints[skeleton.index(name)])
        for joint, name in enumerate(MPII_FILE_KEYPOINTS)
        if name in skeleton.keypoints
    )
    points = [
        {"id": joint, "x": x + FIRST_PIXEL, "y": y + FIRST_PIXEL, "score": score}
        for joint, (x, y, score) in joints
        if score > 0
    ]
    return {"annopoints": {"point": _struct_array(points)}, "score": entry["score"]}


def _struct_array(items: list[dict[str, Any]]) -> np.ndarray:
    """(1, n) MATLAB struct array of dictionaries with the same keys; 0 x 0 where there are none."""
    if not items:
        return np.zeros((0, 0))
    array = np.empty((1, len(items)), dtype=[(name, object) for name in items[0]])
    for place, item in zip(array[0], items, strict=True):
        for name, value in item.items():
            place[name] = value
    return array
