"""MPII multi-person: mean average precision of keypoints by PCKh (Pishchulin et al. 2016, Andriluka et al. 2018).

A keypoint is right within `threshold` head sizes, a head size being 0.6 x the diagonal of the head rectangle. Each predicted
person belongs to at most one annotated person, and then each of its joints counts by its own score.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from duopose.evaluate.ground_truth import GroundTruth, open_annotations
from duopose.evaluate.metrics import Metrics
from duopose.evaluate.mpii_groups import SCORED_JOINTS, metric_images
from duopose.evaluate.results import Results
from duopose.skeletons import Skeleton

HEAD_SIZE_OF_DIAGONAL = 0.6
# Papers print a mean of each pair; pelvis and thorax are not scored.
GROUPS = {
    "Head": ("upper_neck", "head_top"),
    "Shoulder": ("left_shoulder", "right_shoulder"),
    "Elbow": ("left_elbow", "right_elbow"),
    "Wrist": ("left_wrist", "right_wrist"),
    "Hip": ("left_hip", "right_hip"),
    "Knee": ("left_knee", "right_knee"),
    "Ankle": ("left_ankle", "right_ankle"),
}


def evaluate_mpii(
    annotations: str | Path | GroundTruth,
    results: Results,
    skeleton: Skeleton,
    image_ids: Collection[int | str] | None = None,
    region: str = "groups",
    threshold: float = 0.5,
) -> Metrics:
    """AP per joint group as papers print it, as shares, and their Total.

    annotations: as `prepare_mpii` writes them. region: groups (the benchmark's: only what lies round a group of people is
    scored, each group by itself) | images (every prediction of an image counts). UserErrors say what is missing.
    """
    content, where = open_annotations(annotations)
    images, facts = metric_images(content, results, skeleton, image_ids, region, where)
    scores = mean_average_precision(images, len(SCORED_JOINTS), threshold)
    by_joint = dict(zip(SCORED_JOINTS, scores["ap"], strict=True))
    values = {
        group: _share([by_joint[joint] for joint in joints]) for group, joints in GROUPS.items()
    }
    values["Total"] = _share([scores["mean"]])
    return Metrics(
        values,
        _notes(images, facts),
        facts | {"evaluator": f"PCKh@{threshold:g}"},
        headline="Total",
    )


def _share(percentages: Sequence[float]) -> float | None:
    """Mean of the numbers there are, as a share."""
    known = [percentage for percentage in percentages if not np.isnan(percentage)]
    return float(np.mean(known)) / 100 if known else None


def _notes(images: list[dict[str, Any]], facts: dict[str, Any]) -> tuple[str, ...]:
    notes = []
    if not any(image["gt"] for image in images):
        notes.append(
            "nothing scored has a person with a head rectangle, so there is nothing to measure"
        )
    elif not any(image["pred"] for image in images):
        notes.append("no prediction lies in what is scored, so AP is 0")
    if facts["people_without_head"]:
        notes.append(
            f"{facts['people_without_head']} people have no head rectangle, nor upper neck and head top, and cannot be scored"
        )
    return tuple(notes)


class _Points(NamedTuple):
    """Predicted joints of some images: N of them."""

    joint: np.ndarray  # (N,) int
    score: np.ndarray  # (N,)
    right: np.ndarray  # (N,) bool


def mean_average_precision(
    images: Sequence[dict[str, Any]], num_joints: int, threshold: float = 0.5
) -> dict[str, Any]:
    """Percentages per joint: {"ap": [...], "precision": [...], "recall": [...], "mean": mean of the APs}.

    images: [{"gt": [{"head_rect": [x1, y1, x2, y2], "joints": [[joint, x, y], ...]}], "pred": [{"joints": [[joint, x, y, score], ...]}]}],
    only annotated and predicted joints listed. Precision and recall are those of all predictions together. NaN where a joint
    is nowhere annotated; such joints are left out of the mean, while one that is never predicted counts with 0.
    Images without people are dropped. Of predictions with one score the first listed ranks first.
    """
    scored = [image for image in images if image["gt"]]
    matches = [_match_image(image, num_joints, threshold) for image in scored]
    points = (
        _Points(*(np.concatenate(arrays) for arrays in zip(*matches, strict=True)))
        if matches
        else _Points(*np.zeros((3, 0)))
    )
    annotated = [
        int(joint) for image in scored for person in image["gt"] for joint, *_ in person["joints"]
    ]
    num_truth = np.bincount(annotated, minlength=num_joints)
    curves = [_average_precision(points, joint, num_truth[joint]) for joint in range(num_joints)]
    ap, precision, recall = (100 * np.array(curves)).T
    mean = float(np.nanmean(ap)) if num_truth.any() else float("nan")
    return {
        "ap": ap.tolist(),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "mean": mean,
    }


def _match_image(image: dict[str, Any], num_joints: int, threshold: float) -> _Points:
    people, predicted = _dense(image["gt"], num_joints), _dense(image["pred"], num_joints)
    x1, y1, x2, y2 = np.array([person["head_rect"] for person in image["gt"]], dtype=np.float64).T
    head_size = HEAD_SIZE_OF_DIAGONAL * np.hypot(x2 - x1, y2 - y1)
    distance = np.linalg.norm(predicted[:, None, :, :2] - people[None, :, :, :2], axis=-1)
    near = (
        distance <= threshold * head_size[:, None]
    )  # (predictions, people, joints); False where either lacks the joint
    owner = _assign(near, ~np.isnan(people[..., 0]))
    right = near[np.arange(len(predicted)), owner] & (owner >= 0)[:, None]
    prediction, joint = np.nonzero(~np.isnan(predicted[..., 0]))
    return _Points(joint, predicted[prediction, joint, 2], right[prediction, joint])


def _dense(people: Sequence[dict[str, Any]], num_joints: int) -> np.ndarray:
    """(people, joints, 3) x, y and score where there is one; NaN where a joint is not listed."""
    dense = np.full((len(people), num_joints, 3), np.nan)
    for row, person in zip(dense, people, strict=True):
        for joint, *values in person["joints"]:
            row[int(joint), : len(values)] = values
    return dense


def _assign(near: np.ndarray, annotated: np.ndarray) -> np.ndarray:
    """(predictions,) the person each prediction belongs to, or -1.

    By the share of a person's annotated joints that are right (PCK): a prediction keeps its best person, and a person takes
    the best of the predictions that kept it, if it has any joint right. The first of equals is taken.
    """
    pck = near.sum(axis=2) / np.maximum(annotated.sum(axis=1), 1)
    owner = np.full(len(pck), -1)
    best = pck.argmax(axis=1)
    rows = np.arange(len(pck))
    kept = np.zeros_like(pck)
    kept[rows, best] = pck[rows, best]
    if len(pck):
        people = np.flatnonzero(kept.max(axis=0) > 0)
        owner[kept[:, people].argmax(axis=0)] = people
    return owner


def _average_precision(points: _Points, joint: int, num_truth: int) -> tuple[float, float, float]:
    """AP (area under the monotone envelope of precision over recall), and the last precision and recall; shares."""
    if not num_truth:
        return (float("nan"),) * 3
    mine = points.joint == joint
    right = points.right[mine].astype(bool)[np.argsort(-points.score[mine], kind="stable")]
    if not len(right):
        return 0.0, 0.0, 0.0
    found = np.cumsum(right)
    recall = found / num_truth
    precision = found / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return (
        float(np.sum(np.diff(recall, prepend=0.0) * envelope)),
        float(precision[-1]),
        float(recall[-1]),
    )
