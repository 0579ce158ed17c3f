"""The CrowdPose metrics, bit for bit as the authors' own evaluator, through a COCO evaluator.

Li et al., "CrowdPose: Efficient Crowded Scenes Pose Estimation and a New Benchmark", CVPR 2019.
Four rules make the difference to COCO (found by comparing with the authors' evaluator):

- the area of a person is 0.53 of the box, since the files have none;
- the sigmas are CrowdPose's;
- easy, medium and hard are AP over the images by their crowdIndex, rounded to 4 decimals;
- `num_keypoints` of the file is used as it is: people with 0 are ignored even where some of their
  keypoints have a visibility.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from duopose.coco_annotations import AnnotationFile
from duopose.errors import UserError, counted
from duopose.evaluate.coco import OksScoring
from duopose.evaluate.ground_truth import (
    AnnotationSource,
    ImageIds,
    check_annotations,
    open_annotations,
)
from duopose.evaluate.metrics import Metrics
from duopose.evaluate.results import Results
from duopose.skeletons import Skeleton

AREA_OF_BOX = 0.53
METRIC_NAMES = ("AP", "AP50", "AP75", "AR", "AR50", "AR75")
LEVEL_DECIMALS = 4
# Name: crowdIndex from (inclusive) and to (exclusive).
CROWD_LEVELS = {
    "AP_easy": (0.0, 0.2),
    "AP_medium": (0.2, 0.8),
    "AP_hard": (0.8, float("inf")),
}


def evaluate_crowdpose(
    annotations: AnnotationSource,
    results: Results,
    skeleton: Skeleton,
    image_ids: ImageIds | None = None,
    evaluator: str = "hotcoco",
) -> Metrics:
    """AP AP50 AP75 AR AR50 AR75 AP_easy AP_medium AP_hard.

    Arguments and errors as for `evaluate_coco`; images without crowdIndex are a UserError.
    """
    file = with_areas(open_annotations(annotations))
    scoring = OksScoring.prepare(file, results, skeleton, image_ids, evaluator)

    of_all = scoring.metrics()
    values = {name: of_all[name] for name in METRIC_NAMES}
    for name, ids in images_by_crowd_level(file, scoring.image_ids).items():
        level_ap = scoring.metrics(ids)["AP"] if ids else None
        values[name] = None if level_ap is None else round(level_ap, LEVEL_DECIMALS)
    return Metrics(values, scoring.notes(), scoring.facts())


def with_areas(file: AnnotationFile) -> AnnotationFile:
    """A copy in which `area` is 0.53 x box, whatever the file has.

    UserError where a box is missing.
    """
    check_annotations(file.annotations, file.path)
    without_box = [a.get("id") for a in file.annotations if not a.get("bbox")]
    if without_box:
        raise UserError(
            f"annotation file '{file.path}': {counted(len(without_box), 'annotation')} "
            f"without bbox [x, y, width, height], first {without_box[:3]}; "
            "tools/check_data.py lists all of them"
        )

    annotations = []
    for annotation in file.annotations:
        _, _, width, height = annotation["bbox"]
        annotations.append(annotation | {"area": width * height * AREA_OF_BOX})
    return replace(file, annotations=annotations)


def images_by_crowd_level(
    file: AnnotationFile, image_ids: Collection[int | str]
) -> dict[str, list[int | str]]:
    """The given images by level; UserError where an image has no crowdIndex."""
    wanted = set(image_ids)
    images = [image for image in file.images if image["id"] in wanted]
    without = [i["id"] for i in images if not isinstance(i.get("crowdIndex"), (int, float))]
    if without:
        raise UserError(
            f"annotation file '{file.path}': {counted(len(without), 'image')} without "
            f"crowdIndex, first {without[:3]}; CrowdPose's own files have it, and "
            "tools/prepare_crowdpose.py keeps it"
        )

    return {
        name: [image["id"] for image in images if low <= image["crowdIndex"] < high]
        for name, (low, high) in CROWD_LEVELS.items()
    }
