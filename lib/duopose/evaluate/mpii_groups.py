"""From MPII annotations and results to the people that the metric compares.

MPII does not annotate everybody in an image. Its multi-person benchmark therefore scores *groups*
(`groups_v12.mat`): people near each other, all of them annotated, in a region that is given.

- A group of two or more people is scored separately; a group of one person is not scored.
- Its region is the rectangle around its people's own rectangles: objpos +- 100 x scale pixels (half
  of the height that MPII's scale stands for, known for test images too), else the bbox.
- A prediction belongs to the group of the annotated person nearest to its centre, and is scored if
  the centre lies in the region of that group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from duopose.coco_annotations import AnnotationFile, Record
from duopose.errors import UserError
from duopose.evaluate.ground_truth import (
    ImageIds,
    check_annotations,
    image_ids_to_score,
    people_annotations,
)
from duopose.evaluate.results import Entry, Results, checked_entries
from duopose.skeletons import Skeleton

# Joint ids of the metric: MPII's order without pelvis and thorax.
SCORED_JOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
    "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    "upper_neck", "head_top",
)  # fmt: skip
REGIONS = ("groups", "images")
# Image pixels at scale 1: MPII's scale is the person's height / 200 pixels.
HALF_PERSON_HEIGHT = 100.0

Joints = list[list[float]]  # [joint id, x, y] annotated, [joint id, x, y, score] predicted


class AnnotatedPerson(TypedDict):
    """Somebody with a head rectangle [x1, y1, x2, y2] and at least one annotated joint."""

    head_rect: list[float]
    joints: Joints


class PredictedPerson(TypedDict):
    """Somebody predicted; only detected joints are listed."""

    joints: Joints


class MetricImage(TypedDict):
    """People that are compared with each other: those of an image or of one group."""

    gt: list[AnnotatedPerson]
    pred: list[PredictedPerson]


@dataclass(frozen=True)
class MpiiScoring:
    """Everything that the metric compares, checked."""

    images: list[MetricImage]
    region: str  # one of REGIONS
    people_without_head: int  # annotated people that cannot be scored

    @classmethod
    def prepare(
        cls,
        file: AnnotationFile,
        results: Results,
        skeleton: Skeleton,
        image_ids: ImageIds | None,
        region: str,
    ) -> MpiiScoring:
        """One `MetricImage` for each image or group; UserError where something is missing."""
        if region not in REGIONS:
            raise UserError(
                f"TEST.MPII_REGION '{region}' is unknown; use one of {', '.join(REGIONS)}"
            )

        joints = scored_indices(skeleton)
        people = _checked_people(file, skeleton)
        listed = {image["id"] for image in file.images}
        entries = checked_entries(results, skeleton.num_keypoints, listed)

        people_of = by_image(people)
        entries_of = by_image(entries)
        selected = set(image_ids_to_score(file, image_ids))
        images: list[MetricImage] = []
        without_head = 0
        for image in file.images:
            image_id = image["id"]
            if image_id not in selected:
                continue
            parts = [(people_of[image_id], entries_of[image_id])]
            if region == "groups":
                groups = _groups_of_image(image, people_of[image_id], file)
                parts = _split_into_groups(groups, entries_of[image_id])
            for annotated, predicted in parts:
                images.append(_metric_image(annotated, predicted, joints))
                without_head += _count_without_head(annotated, joints)
        return cls(images, region, without_head)

    def facts(self) -> dict[str, Any]:
        """What was counted, for the protocol."""
        return {
            "region": self.region,
            self.region: len(self.images),
            "people": sum(len(image["gt"]) for image in self.images),
            "people_without_head": self.people_without_head,
        }

    def notes(self) -> tuple[str, ...]:
        """Sentences to print with the metrics."""
        notes = []
        if not any(image["gt"] for image in self.images):
            notes.append(
                "nothing to score has a person with a head rectangle, "
                "so there is nothing to measure"
            )
        elif not any(image["pred"] for image in self.images):
            notes.append("no prediction lies in a scored region, so AP is 0")
        if self.people_without_head:
            notes.append(
                f"{self.people_without_head} people have no head rectangle, nor upper neck and "
                "head top, and cannot be scored"
            )
        return tuple(notes)


def scored_indices(skeleton: Skeleton) -> list[int]:
    """Index in the skeleton of each scored joint; UserError where the skeleton lacks one."""
    missing = [joint for joint in SCORED_JOINTS if joint not in skeleton.keypoints]
    if missing:
        raise UserError(
            f"the MPII metric needs a skeleton with MPII's keypoints; '{skeleton.name}' has no "
            f"{', '.join(missing)}"
        )
    return [skeleton.index(joint) for joint in SCORED_JOINTS]


def by_image(records: Iterable[dict[str, Any]]) -> dict[int | str, list[dict[str, Any]]]:
    """Annotations or entries by their image_id; an image without any has an empty list."""
    collected: dict[int | str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        collected[record["image_id"]].append(record)
    return collected


def _checked_people(file: AnnotationFile, skeleton: Skeleton) -> list[Record]:
    """The annotations of people; UserError where one has not the skeleton's keypoints."""
    people = people_annotations(file, skeleton.num_keypoints)
    check_annotations(people, file.path)
    nameless = [person.get("id") for person in people if None in _ids(person)]
    if nameless:
        raise UserError(
            f"annotation file '{file.path}': {len(nameless)} annotations have no 'id' or no "
            f"'image_id', first ids {nameless[:3]}; make the file with tools/prepare_mpii.py"
        )

    wrong = []
    for person in people:
        keypoints = person.get("keypoints")
        if keypoints is None or len(keypoints) != 3 * skeleton.num_keypoints:
            wrong.append(person.get("id"))
    if wrong:
        raise UserError(
            f"annotation file '{file.path}': annotations without the {skeleton.num_keypoints} "
            f"keypoints of skeleton '{skeleton.name}': {len(wrong)}, first {wrong[:3]}; "
            "make the file with tools/prepare_mpii.py"
        )
    return people


def _ids(person: Record) -> tuple[Any, Any]:
    return person.get("id"), person.get("image_id")


def _metric_image(
    people: list[Record], predictions: list[Entry], joints: Sequence[int]
) -> MetricImage:
    """People without a head rectangle or without annotated joints are left out."""
    annotated: list[AnnotatedPerson] = []
    for person in people:
        head = head_rectangle(person, joints)
        labelled = _labelled_joints(person, joints)
        if head and labelled:
            annotated.append({"head_rect": head, "joints": labelled})

    predicted: list[PredictedPerson] = [
        {"joints": _detected_joints(entry, joints)} for entry in predictions
    ]
    return {"gt": annotated, "pred": predicted}


def _count_without_head(people: list[Record], joints: Sequence[int]) -> int:
    """People who have annotated joints, but no head rectangle."""
    return sum(
        head_rectangle(person, joints) is None and bool(_labelled_joints(person, joints))
        for person in people
    )


def head_rectangle(person: Record, joints: Sequence[int]) -> list[float] | None:
    """[x1, y1, x2, y2]: the annotation's `head_box`, else the box of upper neck and head top.

    joints: `scored_indices`. None where neither is annotated or the box has no size.
    """
    box = person.get("head_box")
    if not box:
        neck_and_top = _keypoints(person)[list(joints[-2:])]
        if not (neck_and_top[:, 2] > 0).all():
            return None
        low = neck_and_top[:, :2].min(axis=0)
        high = neck_and_top[:, :2].max(axis=0)
        box = [*low.tolist(), *high.tolist()]

    has_size = box[2] != box[0] or box[3] != box[1]
    return box if has_size else None


def _keypoints(person: Record | Entry) -> np.ndarray:
    """(K, 3) x, y and visibility or score."""
    return np.array(person["keypoints"], dtype=np.float64).reshape(-1, 3)


def _labelled_joints(person: Record, joints: Sequence[int]) -> Joints:
    keypoints = _keypoints(person)[list(joints)].tolist()
    return [[joint, x, y] for joint, (x, y, visibility) in enumerate(keypoints) if visibility > 0]


def _detected_joints(entry: Entry, joints: Sequence[int]) -> Joints:
    keypoints = _keypoints(entry)[list(joints)].tolist()
    return [[joint, x, y, score] for joint, (x, y, score) in enumerate(keypoints) if score > 0]


def _groups_of_image(
    image: Record, people: list[Record], file: AnnotationFile
) -> list[list[Record]]:
    """The people of each group of an image; UserError where the file has no groups."""
    if not _are_groups(image.get("groups")):
        raise UserError(
            f"annotation file '{file.path}': image {image['id']} has no groups; make the file with "
            "tools/prepare_mpii.py and groups_v12.mat, or score whole images (TEST.MPII_REGION "
            "images)"
        )

    by_id = {person["id"]: person for person in people}
    return [[by_id[key] for key in group if key in by_id] for group in image["groups"]]


def _are_groups(value: Any) -> bool:
    """Whether the value is a list of lists of annotation ids."""
    if not isinstance(value, list) or not all(isinstance(group, list) for group in value):
        return False
    return all(isinstance(key, (int, str)) for group in value for key in group)


def _split_into_groups(
    groups: list[list[Record]], predictions: list[Entry]
) -> list[tuple[list[Record], list[Entry]]]:
    """People and predictions of each group that is scored."""
    of_group: dict[int, list[Entry]] = defaultdict(list)
    for entry in predictions:
        of_group[group_of_prediction(entry, groups)].append(entry)
    return [(group, of_group[index]) for index, group in enumerate(groups) if len(group) > 1]


def person_rectangle(person: Record) -> np.ndarray:
    """(4,) x1, y1, x2, y2 around a person, by objpos and scale, or by the bbox."""
    if person.get("objpos") and person.get("scale"):
        x, y = person["objpos"]
        half = HALF_PERSON_HEIGHT * person["scale"]
        return np.array([x - half, y - half, x + half, y + half])
    x, y, width, height = person["bbox"]
    return np.array([x, y, x + width, y + height])


def group_region(people: Collection[Record]) -> np.ndarray:
    """(4,) x1, y1, x2, y2: the rectangle around the people's rectangles."""
    rectangles = np.stack([person_rectangle(person) for person in people])
    return np.concatenate([rectangles[:, :2].min(axis=0), rectangles[:, 2:].max(axis=0)])


def group_of_prediction(entry: Entry, groups: list[list[Record]]) -> int:
    """Index of the group in which a prediction is scored, or -1."""
    people = [(index, person) for index, group in enumerate(groups) for person in group]
    keypoints = _keypoints(entry)
    detected = keypoints[keypoints[:, 2] > 0, :2]
    if not people or not len(detected):
        return -1

    centre = detected.mean(axis=0)
    rectangles = np.stack([person_rectangle(person) for _, person in people])
    centres_of_people = (rectangles[:, :2] + rectangles[:, 2:]) / 2
    distances = np.linalg.norm(centres_of_people - centre, axis=1)

    nearest_group, _ = people[int(distances.argmin())]
    region = group_region(groups[nearest_group])
    is_inside = (region[:2] <= centre).all() and (centre <= region[2:]).all()
    return nearest_group if is_inside else -1
