"""Annotated people, detections, and who matches whom, as arrays over a whole data set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from duopose.evaluate.coco import NUM_OKS_THRESHOLDS, OksMatches, OksScoring
from duopose.evaluate.results import Entry

NONE = -1  # index of no person
# Detections are matched to people for the analysis of errors from this OKS on; Ronchi and Perona
# use the same value.
LOOSE_OKS = 0.1
AP_THRESHOLDS = tuple(0.5 + 0.05 * step for step in range(NUM_OKS_THRESHOLDS))


@dataclass(frozen=True)
class GroundTruth:
    """The P annotations of people in the N images that are scored, sorted by image."""

    image: np.ndarray  # (P,) int, 0 <= image < N
    keypoints: np.ndarray  # (P, K, 3) x, y, visibility
    area: np.ndarray  # (P,) pixels
    box: np.ndarray  # (P, 4) x, y, width, height
    counts: np.ndarray  # (P,) bool: no crowd region, and with labelled keypoints
    ids: np.ndarray  # (P,) id in the scored ground truth

    @cached_property
    def labelled(self) -> np.ndarray:
        """(P, K) bool: joints of people that count."""
        return (self.keypoints[:, :, 2] > 0) & self.counts[:, None]


@dataclass(frozen=True)
class Detections:
    """The D detections that are scored (up to 20 of an image), by falling score."""

    image: np.ndarray  # (D,) int
    entry: np.ndarray  # (D,) position in the results
    keypoints: np.ndarray  # (D, K, 3) x, y, score
    score: np.ndarray  # (D,)
    sigma: np.ndarray  # (D, K) stated standard deviation in pixels, 0 where none is stated
    # (D,) index of the person that matches from LOOSE_OKS on, or NONE
    person: np.ndarray
    # (T, D) the same from each of AP_THRESHOLDS on
    person_at: np.ndarray
    # (D,) and (T, D) bool: matches an annotation that does not count, so it is no mistake
    ignored: np.ndarray
    ignored_at: np.ndarray
    oks: np.ndarray  # (D,) with `person`; 0 where there is none
    # (D,) with the person that counts at the highest threshold with a match; 0 where another
    # detection has a larger OKS with this person
    best_oks: np.ndarray

    @property
    def is_false(self) -> np.ndarray:
        """(D,) bool: matches nobody at any threshold, not even an annotation that is ignored."""
        is_matched = (self.person_at != NONE).any(axis=0) | (self.person != NONE)
        return ~is_matched & ~self.ignored & ~self.ignored_at.any(axis=0)

    @property
    def has_position(self) -> np.ndarray:
        """(D, K) bool: the joint was found; (0, 0) means that it was not."""
        return (self.keypoints[:, :, :2] != 0).any(axis=2)


@dataclass(frozen=True)
class Matching:
    """Ground truth and detections of N images."""

    truth: GroundTruth
    detections: Detections
    num_images: int

    def select(
        self, people: np.ndarray | None = None, detections: np.ndarray | None = None
    ) -> OksMatches:
        """The matches where only some people count, the others being ignored.

        people: (P,) bool. detections: (D,) bool, those that are mistakes if they match nobody.
        None: all. A detection keeps the person that it matches among all people.
        """
        truth = self.truth
        found = self.detections
        wanted = truth.counts if people is None else truth.counts & people
        is_matched = found.person_at != NONE
        is_true = is_matched & np.append(wanted, False)[found.person_at]
        is_false = ~is_matched & ~found.ignored_at
        if detections is not None:
            is_false &= detections

        num_people = np.bincount(truth.image[wanted], minlength=self.num_images)
        return OksMatches(found.image, is_true, is_false, num_people.astype(float))

    @property
    def people_of_image(self) -> np.ndarray:
        """(N,) people that count, per image."""
        return np.bincount(self.truth.image[self.truth.counts], minlength=self.num_images)


def match(scoring: OksScoring) -> Matching:
    """Match by COCO's rule: by falling score, each detection takes the best person left."""
    index_of = {image_id: index for index, image_id in enumerate(scoring.image_ids)}
    truth = _ground_truth(scoring, index_of)
    records = scoring.image_records((LOOSE_OKS, *AP_THRESHOLDS))
    detections = _detections(scoring, records, index_of, truth)
    return Matching(truth, detections, len(scoring.image_ids))


def similarity(
    points: np.ndarray, truth: np.ndarray, area: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    """Keypoint similarity exp(-d^2 / (2 s^2 (2 sigma)^2)), the term of a joint in the OKS.

    points, truth: (..., K, 2) pixels. area: (...) = s^2 of the person. sigmas: (K,).
    """
    squared = ((points - truth) ** 2).sum(axis=-1)
    variance = area[..., None] * (2 * sigmas) ** 2
    # COCO adds the same constant, for people of area 0.
    return np.exp(-squared / (2 * (variance + np.spacing(1))))


def _ground_truth(scoring: OksScoring, index_of: dict[int | str, int]) -> GroundTruth:
    annotations = [a for a in scoring.ground_truth["annotations"] if a["image_id"] in index_of]
    annotations.sort(key=lambda annotation: index_of[annotation["image_id"]])
    keypoints = np.array([a["keypoints"] for a in annotations], dtype=float)
    counts = [not a["iscrowd"] and a["num_keypoints"] > 0 for a in annotations]
    return GroundTruth(
        image=np.array([index_of[a["image_id"]] for a in annotations], dtype=int),
        keypoints=keypoints.reshape(len(annotations), scoring.skeleton.num_keypoints, 3),
        area=np.array([a["area"] for a in annotations], dtype=float),
        box=np.array([a["bbox"] for a in annotations], dtype=float).reshape(-1, 4),
        counts=np.array(counts, dtype=bool),
        ids=np.array([a["id"] for a in annotations], dtype=int),
    )


def _detections(
    scoring: OksScoring,
    records: list[dict[str, Any]],
    index_of: dict[int | str, int],
    truth: GroundTruth,
) -> Detections:
    records = sorted(records, key=lambda record: index_of[record["image_id"]])
    score = _joined([r["dtScores"] for r in records], float)
    order = np.argsort(-score, kind="stable")

    counts = [len(r["dtScores"]) for r in records]
    image = np.repeat([index_of[r["image_id"]] for r in records], counts).astype(int)[order]
    entry = _joined([r["dtIds"] for r in records], int)[order] - 1
    matched_id = _joined_rows([r["dtMatches"] for r in records], counts, int)[:, order]
    ignored = _joined_rows([r["dtIgnore"] for r in records], counts, bool)[:, order]

    entries = [scoring.entries[index] for index in entry]
    num_keypoints = scoring.skeleton.num_keypoints
    keypoints = np.array([e["keypoints"] for e in entries], dtype=float)
    keypoints = keypoints.reshape(len(entries), num_keypoints, 3)
    person = _index_of_ids(matched_id, truth.ids)
    best_person = person[0]
    for at_threshold, is_ignored in zip(person[1:], ignored[1:], strict=True):
        # From some threshold on, a crowd region may be all that matches.
        usable = (at_threshold != NONE) & ~is_ignored
        best_person = np.where(usable, at_threshold, best_person)
    sigmas = np.array(scoring.skeleton.sigmas)
    return Detections(
        image=image,
        entry=entry,
        keypoints=keypoints,
        score=score[order],
        sigma=_stated_sigma(entries, num_keypoints),
        person=person[0],
        person_at=person[1:],
        ignored=ignored[0],
        ignored_at=ignored[1:],
        oks=_oks(keypoints, person[0], truth, sigmas),
        best_oks=_only_best(_oks(keypoints, best_person, truth, sigmas), best_person),
    )


def _joined(parts: list[Any], dtype: type) -> np.ndarray:
    """The lists one after the other."""
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(part, dtype) for part in parts)])


def _joined_rows(parts: list[Any], counts: list[int], dtype: type) -> np.ndarray:
    """Arrays (thresholds, count of the image) side by side."""
    rows = 1 + NUM_OKS_THRESHOLDS
    arrays: list[np.ndarray] = [np.zeros((rows, 0), dtype)]
    for part, count in zip(parts, counts, strict=True):
        arrays.append(np.asarray(part, dtype).reshape(rows, count))
    return np.concatenate(arrays, axis=1)


def _index_of_ids(ids: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Position of each id in `known`; NONE for 0, COCOeval's sign of no match."""
    index = np.full(known.max(initial=0) + 1, NONE)
    index[known] = np.arange(len(known))
    return index[ids]


def _stated_sigma(entries: list[Entry], num_keypoints: int) -> np.ndarray:
    sigma = np.zeros((len(entries), num_keypoints))
    for row, entry in zip(sigma, entries, strict=True):
        stated = entry.get("sigma")
        if isinstance(stated, list) and len(stated) == num_keypoints:
            # Files of other programs may hold anything here.
            row[:] = [value if isinstance(value, (int, float)) else 0.0 for value in stated]
    return sigma


def _oks(
    keypoints: np.ndarray, person: np.ndarray, truth: GroundTruth, sigmas: np.ndarray
) -> np.ndarray:
    """OKS (D,) with the matched person; 0 where nobody matches, or the match does not count."""
    oks = np.zeros(len(keypoints))
    rows = np.flatnonzero(person != NONE)
    of_person = truth.keypoints[person[rows]]
    close = similarity(keypoints[rows, :, :2], of_person[..., :2], truth.area[person[rows]], sigmas)
    labelled = of_person[..., 2] > 0
    oks[rows] = (close * labelled).sum(axis=1) / np.maximum(labelled.sum(axis=1), 1)
    return oks


def _only_best(oks: np.ndarray, person: np.ndarray) -> np.ndarray:
    """OKS (D,) of the best detection of each person; 0 for the others."""
    best = np.zeros(len(oks))
    order = np.argsort(-oks, kind="stable")
    _, first = np.unique(person[order], return_index=True)
    winners = order[first]
    best[winners] = oks[winners]
    return best
