"""AP and recall of groups of people and of images.

People outside a group are ignored: to match them is neither right nor wrong. A detection that
matches nobody belongs to no group of people. To count it whole in each (as Ronchi and Perona do)
makes the AP of a small group low however well its people are found, so it counts as much as the
group's part of all people: groups found equally well have equal AP. By size it counts in the group
of its own size (as in COCO); by properties of the image in the group of its image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from duopose.report.matching import NONE, Matching

SIZE_EDGES = (0, 32, 64, 96, 192, np.inf)  # pixels, root of the area; COCO's medium: 32 to 96
PEOPLE_EDGES = (1, 2, 3, 5, 9, np.inf)
OVERLAP_EDGES = (0, 1, 2, 3, np.inf)
OVERLAP_IOU = 0.1  # of two boxes that overlap; Ronchi and Perona
LABELLED_PARTS = 4  # groups of labelled keypoints
CROWD_INDEX_EDGES = (0.0, 0.2, 0.8, np.inf)  # CrowdPose's easy, medium, hard


@dataclass(frozen=True)
class Group:
    """The people or images of a range of values."""

    name: str
    people: int
    images: int  # with such people
    ap: float | None  # None where the group is empty
    recall: float | None  # AR: found people, mean over the OKS thresholds


@dataclass(frozen=True)
class Grouping:
    """The groups of one property."""

    title: str
    axis: str  # name of the values
    groups: list[Group]


def all_groupings(matching: Matching, crowd_index: np.ndarray | None = None) -> list[Grouping]:
    """By size, people an image, overlap, labelled keypoints; crowdIndex (N,) where it is known."""
    groupings = [
        by_size(matching),
        by_people_of_image(matching),
        by_overlap(matching),
        by_labelled_keypoints(matching),
    ]
    if crowd_index is not None:
        groupings.append(by_crowd_index(matching, crowd_index))
    return groupings


def by_size(matching: Matching) -> Grouping:
    """Root of the annotated area; of false detections, of the box around their joints."""
    person = np.sqrt(matching.truth.area)
    detection = np.sqrt(_box_areas(matching))
    groups = []
    for low, high in pairwise(SIZE_EDGES):
        people = (person >= low) & (person < high)
        detections = (detection >= low) & (detection < high)
        groups.append(_group(matching, _range_name(low, high), people, detections))
    return Grouping("Size of the person", "root of the area, pixels", groups)


def by_people_of_image(matching: Matching) -> Grouping:
    """People that count in the image; other images are left out."""
    number = matching.people_of_image
    matches = matching.select()
    groups = []
    for low, high in pairwise(PEOPLE_EDGES):
        images = (number >= low) & (number < high)
        groups.append(
            Group(
                name=_count_name(low, high),
                people=int(number[images].sum()),
                images=int(images.sum()),
                ap=matches.average_precision(images.astype(float)),
                recall=_recall(matching, images[matching.truth.image]),
            )
        )
    return Grouping("People in the image", "people", groups)


def by_overlap(matching: Matching) -> Grouping:
    """Other people of the image whose box overlaps the person's with an IoU of at least .1."""
    number = overlapping_people(matching)
    return Grouping(
        "Crowding", "people whose boxes overlap", _by_number(matching, number, OVERLAP_EDGES)
    )


def by_labelled_keypoints(matching: Matching) -> Grouping:
    """Labelled keypoints of the person, in quarters of the skeleton."""
    truth = matching.truth
    number_of_joints = truth.keypoints.shape[1]
    number = (truth.keypoints[:, :, 2] > 0).sum(axis=1)
    parts = np.linspace(0, number_of_joints, LABELLED_PARTS + 1)
    edges = tuple(dict.fromkeys(int(edge) + 1 for edge in parts))
    groups = _by_number(matching, number, edges)
    return Grouping("Labelled keypoints", "keypoints of the person", groups)


def by_crowd_index(matching: Matching, crowd_index: np.ndarray) -> Grouping:
    """CrowdPose's index of the image, at the benchmark's limits."""
    of_person = crowd_index[matching.truth.image]
    groups = []
    for low, high in pairwise(CROWD_INDEX_EDGES):
        people = (of_person >= low) & (of_person < high)
        images = (crowd_index >= low) & (crowd_index < high)
        group = _group(matching, _range_name(low, high), people, images[matching.detections.image])
        groups.append(group)
    return Grouping("crowdIndex of the image", "crowdIndex", groups)


def overlapping_people(matching: Matching) -> np.ndarray:
    """(P,) number of other people that count whose box overlaps, per person."""
    truth = matching.truth
    number = np.zeros(len(truth.image), dtype=int)
    first = np.searchsorted(truth.image, np.arange(matching.num_images + 1))
    for start, end in pairwise(first):
        if end - start < 2:
            continue
        boxes = truth.box[start:end]
        overlaps = box_iou(boxes) >= OVERLAP_IOU
        np.fill_diagonal(overlaps, False)
        number[start:end] = (overlaps & truth.counts[start:end]).sum(axis=1)
    return number


def box_iou(boxes: np.ndarray) -> np.ndarray:
    """(n, n) intersection over union of boxes (n, 4) x, y, width, height."""
    low = boxes[:, :2]
    high = low + boxes[:, 2:]
    corner_low = np.maximum(low[:, None], low)
    corner_high = np.minimum(high[:, None], high)
    common = np.clip(corner_high - corner_low, 0, None).prod(axis=2)
    area = boxes[:, 2:].prod(axis=1)
    union = area[:, None] + area - common
    return common / np.maximum(union, np.spacing(1))


def _by_number(matching: Matching, number: np.ndarray, edges: Sequence[float]) -> list[Group]:
    """Groups of people by a whole number (P,) each."""
    groups = []
    for low, high in pairwise(edges):
        people = (number >= low) & (number < high)
        groups.append(_group(matching, _count_name(low, high), people))
    return groups


def _group(
    matching: Matching, name: str, people: np.ndarray, detections: np.ndarray | None = None
) -> Group:
    """A group of people (P,); false `detections` (D,) of the group, None: a part of all."""
    chosen = matching.truth.counts & people
    matches = matching.select(people, detections)
    if detections is None:
        part = chosen.sum() / max(matching.truth.counts.sum(), 1)
        matches = replace(matches, is_false=matches.is_false * part)
    return Group(
        name=name,
        people=int(chosen.sum()),
        images=len(np.unique(matching.truth.image[chosen])),
        ap=matches.average_precision(),
        recall=_recall(matching, people),
    )


def _recall(matching: Matching, people: np.ndarray) -> float | None:
    """Found people of a group over all of it, mean over the OKS thresholds."""
    chosen = matching.truth.counts & people
    if not chosen.any():
        return None
    fractions = []
    for matched in matching.detections.person_at:
        found = np.zeros(len(chosen), dtype=bool)
        found[matched[matched != NONE]] = True
        fractions.append(found[chosen].mean())
    return float(np.mean(fractions))


def _box_areas(matching: Matching) -> np.ndarray:
    """(D,) area of the box around the joints that a detection has."""
    found = matching.detections
    has_position = found.has_position[..., None]
    points = found.keypoints[..., :2]
    low = np.where(has_position, points, np.inf).min(axis=1, initial=np.inf)
    high = np.where(has_position, points, -np.inf).max(axis=1, initial=-np.inf)
    return np.where(np.isfinite(low), high - low, 0.0).prod(axis=1)


def _range_name(low: float, high: float) -> str:
    """E.g. "32 to 64", "192 and more"."""
    return f"{low:g} and more" if np.isinf(high) else f"{low:g} to {high:g}"


def _count_name(low: float, high: float) -> str:
    """E.g. "2", "3 to 4", "9 and more"; `high` is exclusive."""
    if np.isinf(high):
        return f"{low:g} and more"
    return f"{low:g}" if high - low == 1 else f"{low:g} to {high - 1:g}"
