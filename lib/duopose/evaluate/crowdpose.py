"""The CrowdPose numbers, exactly as the authors' own evaluator gives them (Li et al. 2019), through a COCO evaluator.

Four things make the difference (measured against the authors' evaluator): the area is 0.53 of the box, the files having none;
the sigmas are CrowdPose's; easy, medium and hard are AP over the images by their crowdIndex, rounded to 4 decimals; the
file's num_keypoints stands (people with 0 are ignored even where keypoints have a visibility).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from duopose.errors import UserError
from duopose.evaluate.ground_truth import GroundTruth, check_annotations, open_annotations
from duopose.evaluate.metrics import Metrics
from duopose.evaluate.oks import OksScoring
from duopose.evaluate.results import Results
from duopose.skeletons import Skeleton

AREA_OF_BOX = 0.53
NAMES = ("AP", "AP50", "AP75", "AR", "AR50", "AR75")
CROWD_LEVELS = {
    "AP_easy": (0.0, 0.2),
    "AP_medium": (0.2, 0.8),
    "AP_hard": (0.8, float("inf")),
}  # crowdIndex from, below


def evaluate_crowdpose(
    annotations: str | Path | GroundTruth,
    results: Results,
    skeleton: Skeleton,
    image_ids: Collection[int | str] | None = None,
    evaluator: str = "hotcoco",
) -> Metrics:
    """AP AP50 AP75 AR AR50 AR75 and AP of the easy, medium and hard images; arguments and errors as `evaluate_coco`."""
    content, where = open_annotations(annotations)
    scoring = OksScoring.of(
        with_areas(content, where), results, skeleton, image_ids, evaluator, where
    )
    numbers = scoring.numbers()
    values = {name: numbers[name] for name in NAMES}
    for name, ids in by_crowd_level(content, scoring.image_ids, where).items():
        level_ap = scoring.numbers(ids)["AP"] if ids else None
        values[name] = None if level_ap is None else round(level_ap, 4)
    return Metrics(values, scoring.notes(), scoring.facts())


def with_areas(content: GroundTruth, where: str) -> GroundTruth:
    """The annotations with `area` = 0.53 x box, whatever the file says; the input stays as it is."""
    check_annotations(content["annotations"], where)
    without_box = [
        annotation.get("id") for annotation in content["annotations"] if not annotation.get("bbox")
    ]
    if without_box:
        raise UserError(
            f"annotation file '{where}': {len(without_box)} annotations have no bbox [x, y, width, height], first {without_box[:3]}"
        )
    annotations = [
        a | {"area": a["bbox"][2] * a["bbox"][3] * AREA_OF_BOX} for a in content["annotations"]
    ]
    return content | {"annotations": annotations}


def by_crowd_level(
    content: GroundTruth, image_ids: Collection[int | str], where: str
) -> dict[str, list[int | str]]:
    """The images of each level by their crowdIndex; UserError where an image has none."""
    wanted = set(image_ids)
    images = [image for image in content["images"] if image["id"] in wanted]
    without = [
        image["id"] for image in images if not isinstance(image.get("crowdIndex"), (int, float))
    ]
    if without:
        raise UserError(
            f"annotation file '{where}': {len(without)} images have no crowdIndex, first {without[:3]}; is it a CrowdPose file?"
        )
    return {
        name: [i["id"] for i in images if low <= i["crowdIndex"] < high]
        for name, (low, high) in CROWD_LEVELS.items()
    }
