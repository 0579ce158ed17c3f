"""What each kind of error costs: the AP after its correction, minus the AP.

The corrections of Ronchi and Perona (ICCV 2017, section 3): a joint with an error is moved towards
its true position until its similarity is that of the best joint with this error,

    jitter           .85
    miss             .5
    inversion, swap  the similarity to the wrong part where it was put.

Scores are corrected to the OKS with the matched person (the order that gives the largest AP). False
people are removed, and missed people no longer count. The whole evaluation is then repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from duopose.evaluate.coco import OksScoring
from duopose.evaluate.results import Entry
from duopose.report.joint_errors import (
    CLOSE_SIMILARITY,
    GOOD_SIMILARITY,
    INVERSION,
    JITTER,
    KINDS,
    MISS,
    NO_POSITION,
    SWAP,
    JointErrors,
)
from duopose.report.matching import NONE, Detections, GroundTruth, Matching

JOINT_KINDS = (JITTER, INVERSION, SWAP, MISS, NO_POSITION)
# Small enough to change no other number, and keeps a corrected joint from falling below a threshold
# by rounding.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Correction:
    """The AP after the errors of one kind are corrected."""

    name: str
    ap: float | None
    gain: float | None  # over the AP of the results as they are


def correct_each_kind(
    scoring: OksScoring, matching: Matching, errors: JointErrors
) -> list[Correction]:
    """One correction at a time, then all errors of joints together."""
    ap = scoring.metrics()["AP"]

    def corrected(name: str, changed: OksScoring) -> Correction:
        new_ap = ap if changed is scoring else changed.metrics()["AP"]
        gain = None if ap is None or new_ap is None else new_ap - ap
        return Correction(name, new_ap, gain)

    corrections = []
    for kind in JOINT_KINDS:
        changed = _with_joints(scoring, matching, errors, (kind,))
        corrections.append(corrected(KINDS[kind], changed))
    changed = _with_joints(scoring, matching, errors, JOINT_KINDS)
    corrections.append(corrected("all five together", changed))

    others: dict[str, Callable[[OksScoring, Matching], OksScoring]] = {
        "false people": _without_false_people,
        "missed people": _without_missed_people,
        "order of scores": _with_best_scores,
    }
    corrections += [corrected(name, change(scoring, matching)) for name, change in others.items()]
    return corrections


def _with_joints(
    scoring: OksScoring, matching: Matching, errors: JointErrors, kinds: tuple[int, ...]
) -> OksScoring:
    found = matching.detections
    to_move = np.isin(errors.of_detection, kinds)
    rows = np.flatnonzero(to_move.any(axis=1))
    if not len(rows):
        return scoring

    similarity = _target_similarity(errors)[rows]
    sigmas = np.array(scoring.skeleton.sigmas)
    moved = _moved_points(found, matching.truth, rows, similarity, sigmas)
    keypoints = found.keypoints[rows]
    keypoints[..., :2] = np.where(to_move[rows][..., None], moved, keypoints[..., :2])
    flat = keypoints.reshape(len(rows), -1).tolist()

    entries: list[Entry] = list(scoring.entries)
    for entry, values in zip(found.entry[rows].tolist(), flat, strict=True):
        entries[entry] = entries[entry] | {"keypoints": values}
    return replace(scoring, entries=entries)


def _target_similarity(errors: JointErrors) -> np.ndarray:
    """(D, K) similarity that the corrected joints get."""
    similarity = np.full(errors.of_detection.shape, CLOSE_SIMILARITY)
    similarity[errors.of_detection == JITTER] = GOOD_SIMILARITY
    is_wrong_part = np.isin(errors.of_detection, (INVERSION, SWAP))
    similarity[is_wrong_part] = errors.wrong_similarity[is_wrong_part]
    return np.minimum(similarity + ROUNDING, 1.0)


def _moved_points(
    found: Detections,
    truth: GroundTruth,
    rows: np.ndarray,
    similarity: np.ndarray,
    sigmas: np.ndarray,
) -> np.ndarray:
    """(M, K, 2) points in the direction of the predicted ones, at the distance of `similarity`."""
    person = found.person[rows]
    centre = truth.keypoints[person, :, :2]
    variance = truth.area[person][:, None] * (2 * sigmas) ** 2
    distance = np.sqrt(-2 * variance * np.log(similarity))

    direction = found.keypoints[rows, :, :2] - centre
    length = np.linalg.norm(direction, axis=2, keepdims=True)
    unit = np.divide(direction, length, out=np.zeros_like(direction), where=length > 0)
    return centre + distance[..., None] * unit


def _without_false_people(scoring: OksScoring, matching: Matching) -> OksScoring:
    """Without detections that match nobody at any threshold from OKS .1 on."""
    found = matching.detections
    is_false = found.is_false
    if not is_false.any():
        return scoring
    removed = set(found.entry[is_false].tolist())
    kept = [entry for index, entry in enumerate(scoring.entries) if index not in removed]
    return replace(scoring, entries=kept)


def _without_missed_people(scoring: OksScoring, matching: Matching) -> OksScoring:
    """Without people that no detection matches from OKS .1 on."""
    truth = matching.truth
    is_found = np.zeros(len(truth.image), dtype=bool)
    is_found[matching.detections.person[matching.detections.person != NONE]] = True
    missed = set(truth.ids[truth.counts & ~is_found].tolist())
    if not missed:
        return scoring
    kept = [a for a in scoring.ground_truth["annotations"] if a["id"] not in missed]
    return replace(scoring, ground_truth=scoring.ground_truth | {"annotations": kept})


def _with_best_scores(scoring: OksScoring, matching: Matching) -> OksScoring:
    """The OKS as score; 0 for detections that match nobody."""
    found = matching.detections
    entries: list[Entry] = list(scoring.entries)
    # Detections that are not scored (more than 20 in an image) must not come in now.
    lowest = [entry | {"score": -1.0} for entry in entries]
    for entry, oks in zip(found.entry.tolist(), found.best_oks.tolist(), strict=True):
        lowest[entry] = entries[entry] | {"score": oks}
    return replace(scoring, entries=lowest)
