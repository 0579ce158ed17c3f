"""PCK: the percentage of correct keypoints, relative to the torso.

Yang and Ramanan, "Articulated Human Detection with Flexible Mixtures of Parts", PAMI 2013; the
torso diagonal as in Sapp and Taskar, "MODEC", CVPR 2013. A labelled keypoint is correct if the
person found has it within `threshold` torso diagonals (left shoulder to right hip; the other
diagonal where one of these is not labelled):

    PCK = correct keypoints / labelled keypoints, over all people with a torso

The metric is of single people, so every annotated person takes, greedily, the person found with the
most correct keypoints, each at most once. False people cost nothing; AP counts them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from duopose.errors import UserError
from duopose.evaluate.ground_truth import (
    AnnotationSource,
    ImageIds,
    image_ids_to_score,
    open_annotations,
    people_annotations,
)
from duopose.evaluate.results import Results, checked_entries
from duopose.skeletons import Skeleton

TORSO_DIAGONALS = (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip"))


def pck(
    annotations: AnnotationSource,
    results: Results,
    skeleton: Skeleton,
    threshold: float,
    image_ids: ImageIds | None = None,
) -> float | None:
    """PCK in 0 .. 1; None where no annotated person has a torso.

    threshold: in torso diagonals, for example 0.2. image_ids: as of `evaluate_coco`.
    UserError where the skeleton has no shoulders and hips, or the results are not about these
    images.
    """
    diagonals = torso_diagonals(skeleton)
    file = open_annotations(annotations)
    selected = set(image_ids_to_score(file, image_ids))
    listed = {image["id"] for image in file.images}

    found = defaultdict(list)
    for entry in checked_entries(results, skeleton.num_keypoints, listed):
        found[entry["image_id"]].append(entry["keypoints"])
    truth = defaultdict(list)
    for person in people_annotations(file, skeleton.num_keypoints):
        if person.get("image_id") in selected and person.get("keypoints"):
            truth[person["image_id"]].append(person["keypoints"])

    num_correct = 0
    num_labelled = 0
    for image_id, people in truth.items():
        annotated = _as_array(people)
        correct, labelled = count_correct(
            annotated, _as_array(found[image_id]), diagonals, threshold
        )
        num_correct += correct
        num_labelled += labelled
    return num_correct / num_labelled if num_labelled else None


def torso_diagonals(skeleton: Skeleton) -> list[tuple[int, int]]:
    """Indices of the two ends of each diagonal; UserError where the skeleton has none."""
    names = set(skeleton.keypoints)
    diagonals = [
        (skeleton.index(shoulder), skeleton.index(hip))
        for shoulder, hip in TORSO_DIAGONALS
        if shoulder in names and hip in names
    ]
    if not diagonals:
        raise UserError(
            f"TEST.PCK: skeleton '{skeleton.name}' has no keypoints left_shoulder and right_hip, "
            "whose distance PCK needs; set TEST.PCK 0.0"
        )
    return diagonals


def count_correct(
    annotated: np.ndarray,
    found: np.ndarray,
    diagonals: Sequence[tuple[int, int]],
    threshold: float,
) -> tuple[int, int]:
    """Correct and labelled keypoints of one image.

    annotated: (P, K, 3) x, y, visibility. found: (Q, K, 3) x, y, score, score 0 where not found.
    """
    torso = _torso_sizes(annotated, diagonals)
    annotated = annotated[torso > 0]
    labelled = annotated[..., 2] > 0
    if not len(annotated) or not len(found):
        return 0, int(labelled.sum())

    difference = annotated[:, None, :, :2] - found[None, :, :, :2]
    distance = np.linalg.norm(difference, axis=3)
    is_near = distance <= threshold * torso[torso > 0][:, None, None]
    is_correct = is_near & labelled[:, None] & (found[None, ..., 2] > 0)

    count = is_correct.sum(axis=2)  # (P, Q)
    total = 0
    for _ in range(min(count.shape)):
        person, best = np.unravel_index(count.argmax(), count.shape)
        total += max(int(count[person, best]), 0)
        count[person] = -1
        count[:, best] = -1
    return total, int(labelled.sum())


def _torso_sizes(annotated: np.ndarray, diagonals: Sequence[tuple[int, int]]) -> np.ndarray:
    """(P,) length of the first labelled diagonal in pixels, 0 where none is labelled."""
    sizes = np.zeros(len(annotated))
    for first, second in diagonals:
        is_labelled = (annotated[:, first, 2] > 0) & (annotated[:, second, 2] > 0)
        length = np.linalg.norm(annotated[:, first, :2] - annotated[:, second, :2], axis=1)
        sizes = np.where((sizes == 0) & is_labelled, length, sizes)
    return sizes


def _as_array(people: list[list[float]]) -> np.ndarray:
    """(P, K, 3) from flat lists."""
    num_people = len(people)
    return np.array(people, dtype=np.float64).reshape(num_people, -1, 3) if people else _NOBODY


_NOBODY = np.zeros((0, 1, 3))
