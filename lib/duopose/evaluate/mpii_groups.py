"""From MPII annotations and results to what the metric compares, for whole images or for the benchmark's groups.

MPII does not annotate everybody in an image. Its multi-person benchmark therefore scores *groups* (`groups_v12.mat`): people
near each other, all of them annotated, found in a region that is told. Here a group of two or more people is scored by itself.
Its region is the rectangle round its people's own rectangles: objpos +- 100 x scale pixels, half the height that MPII's scale
stands for, known for test images, too; the bbox where these two are not known. A prediction belongs to the group of the
annotated person nearest to it if its centre lies in that group's region; else, or where that group is one person alone, it is
not scored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

import numpy as np

from duopose.errors import UserError
from duopose.evaluate.ground_truth import GroundTruth, check_annotations, chosen_images
from duopose.evaluate.results import Entry, Results, checked_entries
from duopose.skeletons import Skeleton

# Joint ids of the metric: MPII's order without pelvis and thorax.
SCORED_JOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
    "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "upper_neck", "head_top",
)  # fmt: skip
REGIONS = ("groups", "images")
HALF_PERSON = 100.0  # image pixels at scale 1

MetricImage = dict[str, Any]


def metric_images(
    content: GroundTruth,
    results: Results,
    skeleton: Skeleton,
    image_ids: Collection[int | str] | None,
    region: str,
    where: str,
) -> tuple[list[MetricImage], dict[str, Any]]:
    """`mean_average_precision`'s images, one an image or group, and what was counted. UserError where something is missing."""
    if region not in REGIONS:
        raise UserError(f"TEST.MPII_REGION '{region}' is unknown; use one of {', '.join(REGIONS)}")
    joints = scored_indices(skeleton)
    check_annotations(content["annotations"], where)
    keypoints = [
        (annotation.get("id"), annotation.get("keypoints")) for annotation in content["annotations"]
    ]
    other = [
        key for key, flat in keypoints if flat is None or len(flat) != 3 * skeleton.num_keypoints
    ]
    if other:
        raise UserError(
            f"annotation file '{where}': {len(other)} annotations have not the {skeleton.num_keypoints} keypoints of skeleton "
            f"'{skeleton.name}', first {other[:3]}; make the file with prepare_mpii"
        )
    entries = checked_entries(
        results, skeleton.num_keypoints, {image["id"] for image in content["images"]}
    )
    chosen = set(chosen_images(content, image_ids, where))
    people, found = by_image(content["annotations"]), by_image(entries)
    images: list[MetricImage] = []
    for image in (image for image in content["images"] if image["id"] in chosen):
        here, predictions = people[image["id"]], found[image["id"]]
        if region == "groups":
            images += _group_images(image, here, predictions, joints, where)
        else:
            images.append(_metric_image(here, predictions, joints))
    scored = sum(len(image["gt"]) for image in images)
    headless = sum(image.pop("people_without_head") for image in images)
    return images, {
        "region": region,
        region: len(images),
        "people": scored,
        "people_without_head": headless,
    }


def scored_indices(skeleton: Skeleton) -> list[int]:
    """Index in the skeleton of each scored joint; UserError where the skeleton lacks one."""
    missing = [joint for joint in SCORED_JOINTS if joint not in skeleton.keypoints]
    if missing:
        raise UserError(
            f"the MPII metric needs a skeleton with MPII's keypoints; '{skeleton.name}' has no {', '.join(missing)}"
        )
    return [skeleton.index(joint) for joint in SCORED_JOINTS]


def by_image(items: list[dict[str, Any]]) -> dict[int | str, list[dict[str, Any]]]:
    """Annotations or entries by their image_id; an image without any has an empty list."""
    collected: dict[int | str, list[dict[str, Any]]] = defaultdict(list)
    for item in items:
        collected[item["image_id"]].append(item)
    return collected


def _metric_image(
    people: list[dict[str, Any]], predictions: list[Entry], joints: list[int]
) -> MetricImage:
    truth = [(head_rectangle(person, joints), _labelled(person, joints)) for person in people]
    scored = [
        {"head_rect": head, "joints": labelled} for head, labelled in truth if head and labelled
    ]
    headless = sum(head is None and bool(labelled) for head, labelled in truth)
    return {
        "gt": scored,
        "pred": [{"joints": _predicted(entry, joints)} for entry in predictions],
        "people_without_head": headless,
    }


def head_rectangle(person: dict[str, Any], joints: list[int]) -> list[float] | None:
    """[x1, y1, x2, y2]: the annotation's `head_box`, else the box of upper neck and head top, else None; None for a box of no size."""
    box = person.get("head_box")
    if not box:
        points = np.array(person["keypoints"], dtype=np.float64).reshape(-1, 3)[
            [joints[-2], joints[-1]]
        ]
        box = (
            [*points[:, :2].min(axis=0).tolist(), *points[:, :2].max(axis=0).tolist()]
            if (points[:, 2] > 0).all()
            else None
        )
    return box if box and (box[2] != box[0] or box[3] != box[1]) else None


def _labelled(person: dict[str, Any], joints: list[int]) -> list[list[float]]:
    keypoints = np.array(person["keypoints"], dtype=np.float64).reshape(-1, 3)[joints]
    return [
        [joint, *keypoint[:2].tolist()]
        for joint, keypoint in enumerate(keypoints)
        if keypoint[2] > 0
    ]


def _predicted(entry: Entry, joints: list[int]) -> list[list[float]]:
    keypoints = np.array(entry["keypoints"], dtype=np.float64).reshape(-1, 3)[joints]
    return [
        [joint, *keypoint.tolist()] for joint, keypoint in enumerate(keypoints) if keypoint[2] > 0
    ]


def _group_images(
    image: dict[str, Any],
    people: list[dict[str, Any]],
    predictions: list[Entry],
    joints: list[int],
    where: str,
) -> list[MetricImage]:
    if not _are_groups(image.get("groups")):
        raise UserError(
            f"annotation file '{where}': image {image['id']} has no groups; make the file with prepare_mpii and groups_v12.mat, "
            "or score whole images (TEST.MPII_REGION images)"
        )
    by_id = {person["id"]: person for person in people}
    groups = [
        [by_id[annotation_id] for annotation_id in group if annotation_id in by_id]
        for group in image["groups"]
    ]
    of_group: dict[int, list[Entry]] = defaultdict(list)
    for entry in predictions:
        of_group[group_of_prediction(entry, groups)].append(entry)
    return [
        _metric_image(group, of_group[index], joints)
        for index, group in enumerate(groups)
        if len(group) > 1
    ]


def _are_groups(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(group, list) and all(isinstance(number, (int, str)) for number in group)
        for group in value
    )


def person_rectangle(person: dict[str, Any]) -> np.ndarray:
    """(4,) x1, y1, x2, y2 round a person, by objpos and scale, or by the bbox."""
    if person.get("objpos") and person.get("scale"):
        x, y = person["objpos"]
        half = HALF_PERSON * person["scale"]
        return np.array([x - half, y - half, x + half, y + half])
    x, y, width, height = person["bbox"]
    return np.array([x, y, x + width, y + height])


def group_region(people: list[dict[str, Any]]) -> np.ndarray:
    """(4,) x1, y1, x2, y2: the rectangle round the people's rectangles."""
    rectangles = np.stack([person_rectangle(person) for person in people])
    return np.concatenate([rectangles[:, :2].min(axis=0), rectangles[:, 2:].max(axis=0)])


def group_of_prediction(entry: Entry, groups: list[list[dict[str, Any]]]) -> int:
    """Index of the group in which a prediction is scored, or -1."""
    keypoints = np.array(entry["keypoints"], dtype=np.float64).reshape(-1, 3)
    owners = [index for index, group in enumerate(groups) for _ in group]
    if not owners or not (keypoints[:, 2] > 0).any():
        return -1
    centre = keypoints[keypoints[:, 2] > 0, :2].mean(axis=0)
    rectangles = np.stack([person_rectangle(person) for group in groups for person in group])
    distances = np.linalg.norm((rectangles[:, :2] + rectangles[:, 2:]) / 2 - centre, axis=1)
    nearest = owners[int(distances.argmin())]
    region = group_region(groups[nearest])
    return nearest if (region[:2] <= centre).all() and (centre <= region[2:]).all() else -1
