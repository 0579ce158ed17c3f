"""MPII multi-person: mean average precision of keypoints by PCKh.

Pishchulin et al., "DeepCut: Joint Subset Partition and Labeling for Multi Person Pose Estimation",
CVPR 2016, with the rules of the reference evaluator:

    head size = 0.6 * diagonal of the head rectangle
    a predicted joint matches an annotated one within threshold * head size (PCKh@0.5: half)
    for each image or group:
        PCK[prediction, person] = matching joints / annotated joints of the person
        each prediction keeps only its best person (the first of equals)
        each person takes the best of the predictions that kept it, if its PCK is above 0
        a predicted joint is correct if its prediction has a person and matches its joint
    for each joint, over all images: sort predicted joints by score, AP = area under the monotone
        envelope of precision over recall
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import numpy as np

from duopose.evaluate.ground_truth import AnnotationSource, ImageIds, open_annotations
from duopose.evaluate.metrics import Metrics
from duopose.evaluate.mpii_groups import SCORED_JOINTS, MetricImage, MpiiScoring
from duopose.evaluate.results import Results
from duopose.skeletons import Skeleton

HEAD_SIZE_OF_DIAGONAL = 0.6  # as in MPII's own evaluation code (getHeadSize)
# Papers print the mean of each pair; pelvis and thorax are not scored.
JOINT_GROUPS = {
    "Head": ("upper_neck", "head_top"),
    "Shoulder": ("left_shoulder", "right_shoulder"),
    "Elbow": ("left_elbow", "right_elbow"),
    "Wrist": ("left_wrist", "right_wrist"),
    "Hip": ("left_hip", "right_hip"),
    "Knee": ("left_knee", "right_knee"),
    "Ankle": ("left_ankle", "right_ankle"),
}
NAN = float("nan")


class JointScores(TypedDict):
    """Percentages, one per joint, and the mean of the APs."""

    ap: list[float]
    precision: list[float]
    recall: list[float]
    mean: float


def evaluate_mpii(
    annotations: AnnotationSource,
    results: Results,
    skeleton: Skeleton,
    image_ids: ImageIds | None = None,
    region: str = "groups",
    threshold: float = 0.5,
) -> Metrics:
    """AP per joint group as papers print it, as fractions, and their Total.

    annotations: a file as `tools/prepare_mpii.py` writes it, or its content.
    region: groups (of the benchmark: only what lies around a group of people is scored, each group
    separately) | images (every prediction of an image counts).
    UserError naming what is missing.
    """
    file = open_annotations(annotations)
    scoring = MpiiScoring.prepare(file, results, skeleton, image_ids, region)

    scores = mean_average_precision(scoring.images, len(SCORED_JOINTS), threshold)
    ap_of = dict(zip(SCORED_JOINTS, scores["ap"], strict=True))
    values = {
        group: _mean_fraction([ap_of[joint] for joint in joints])
        for group, joints in JOINT_GROUPS.items()
    }
    values["Total"] = _mean_fraction([scores["mean"]])

    facts = scoring.facts() | {"evaluator": f"PCKh@{threshold:g}"}
    return Metrics(values, scoring.notes(), facts, headline="Total")


def _mean_fraction(percentages: Sequence[float]) -> float | None:
    """Mean of the percentages that are not NaN, as a fraction; None where there are none."""
    known = [percentage for percentage in percentages if not np.isnan(percentage)]
    return float(np.mean(known)) / 100 if known else None


class _Points(NamedTuple):
    """Predicted joints of some images: N of them."""

    joint: np.ndarray  # (N,) int
    score: np.ndarray  # (N,)
    correct: np.ndarray  # (N,) bool


def mean_average_precision(
    images: Sequence[MetricImage], num_joints: int, threshold: float = 0.5
) -> JointScores:
    """AP, precision and recall of each joint in percent, and the mean AP.

    Precision and recall are those of all predictions together. As in the reference, a joint that
    is never predicted has 0 (annotated or not) and counts in the mean; a joint that is predicted
    but never annotated has NaN and is left out. Images without people are dropped; if none is left,
    everything is NaN. Of predictions with equal scores the first listed ranks first.
    """
    scored = [image for image in images if image["gt"]]
    if not scored:
        nothing = [NAN] * num_joints
        return JointScores(ap=nothing, precision=nothing, recall=nothing, mean=NAN)

    matches = [_match_image(image, num_joints, threshold) for image in scored]
    points = _Points(*(np.concatenate(arrays) for arrays in zip(*matches, strict=True)))
    annotated = [
        int(joint) for image in scored for person in image["gt"] for joint, *_ in person["joints"]
    ]
    num_annotated = np.bincount(annotated, minlength=num_joints)

    curves = [
        _average_precision(points, joint, int(num_annotated[joint])) for joint in range(num_joints)
    ]
    ap, precision, recall = (100 * np.array(curves)).T
    counted = ap[~np.isnan(ap)]
    return JointScores(
        ap=ap.tolist(),
        precision=precision.tolist(),
        recall=recall.tolist(),
        mean=float(counted.mean()) if len(counted) else NAN,
    )


def _match_image(image: MetricImage, num_joints: int, threshold: float) -> _Points:
    """The predicted joints of one image, and which of them are correct."""
    people = _dense([person["joints"] for person in image["gt"]], num_joints)
    predicted = _dense([person["joints"] for person in image["pred"]], num_joints)
    heads = np.array([person["head_rect"] for person in image["gt"]], dtype=np.float64)
    diagonal = np.hypot(heads[:, 2] - heads[:, 0], heads[:, 3] - heads[:, 1])
    max_distance = threshold * HEAD_SIZE_OF_DIAGONAL * diagonal

    # (predictions, people, joints); NaN, and so no match, where either lacks the joint
    difference = predicted[:, None, :, :2] - people[None, :, :, :2]
    matches = np.linalg.norm(difference, axis=-1) <= max_distance[:, None]

    person_of = _assign_people(matches, ~np.isnan(people[..., 0]))
    correct = matches[np.arange(len(predicted)), person_of]
    correct &= (person_of >= 0)[:, None]

    prediction, joint = np.nonzero(~np.isnan(predicted[..., 0]))
    score = predicted[prediction, joint, 2]
    return _Points(joint, score, correct[prediction, joint])


def _dense(people: Sequence[Sequence[Sequence[float]]], num_joints: int) -> np.ndarray:
    """(people, joints, 3) x, y and, for predictions, score; NaN where a joint is not listed."""
    dense = np.full((len(people), num_joints, 3), np.nan)
    for row, joints in zip(dense, people, strict=True):
        for joint, *values in joints:
            row[int(joint), : len(values)] = values
    return dense


def _assign_people(matches: np.ndarray, annotated: np.ndarray) -> np.ndarray:
    """(predictions,) index of the person that each prediction is assigned to, or -1.

    matches: (predictions, people, joints) bool. annotated: (people, joints) bool.
    """
    num_annotated = np.maximum(annotated.sum(axis=1), 1)
    pck = matches.sum(axis=2) / num_annotated
    person_of = np.full(len(pck), -1)
    if not len(pck):
        return person_of

    rows = np.arange(len(pck))
    best_person = pck.argmax(axis=1)
    kept = np.zeros_like(pck)
    kept[rows, best_person] = pck[rows, best_person]

    people = np.flatnonzero(kept.max(axis=0) > 0)
    best_prediction = kept[:, people].argmax(axis=0)
    person_of[best_prediction] = people
    return person_of


def _average_precision(
    points: _Points, joint: int, num_annotated: int
) -> tuple[float, float, float]:
    """AP, and the last precision and recall, as fractions; see `mean_average_precision`."""
    of_joint = points.joint == joint
    if not of_joint.any():
        return 0.0, 0.0, 0.0
    if not num_annotated:
        return NAN, NAN, NAN

    order = np.argsort(-points.score[of_joint], kind="stable")
    correct = points.correct[of_joint][order]
    num_found = np.cumsum(correct)
    recall = num_found / num_annotated
    precision = num_found / np.arange(1, len(correct) + 1)

    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    ap = np.sum(np.diff(recall, prepend=0.0) * envelope)
    return float(ap), float(precision[-1]), float(recall[-1])
