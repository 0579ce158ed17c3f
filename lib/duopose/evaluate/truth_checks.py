"""Whether annotations can be scored at all, before a network has predicted anything.

Each function has the checks of an evaluator, without results: a missing `area` shows at the start,
not after hours. UserError with the sentence that the evaluator would give at the end.
"""

from __future__ import annotations

from duopose.coco_annotations import AnnotationFile
from duopose.evaluate.crowdpose import images_by_crowd_level, with_areas
from duopose.evaluate.ground_truth import ImageIds, image_ids_to_score, oks_ground_truth
from duopose.evaluate.mpii_groups import MpiiScoring
from duopose.skeletons import Skeleton


def check_oks_truth(file: AnnotationFile, skeleton: Skeleton, image_ids: ImageIds) -> None:
    """What COCO's metrics need: known images; bbox, area and keypoints of all people."""
    image_ids_to_score(file, image_ids)
    oks_ground_truth(file, skeleton.num_keypoints)


def check_crowdpose_truth(file: AnnotationFile, skeleton: Skeleton, image_ids: ImageIds) -> None:
    """What CrowdPose's metrics need: as COCO's, with boxes for areas; crowdIndex of all images."""
    check_oks_truth(with_areas(file), skeleton, image_ids)
    images_by_crowd_level(file, image_ids)


def check_mpii_truth(
    file: AnnotationFile, skeleton: Skeleton, image_ids: ImageIds, region: str
) -> None:
    """What MPII's metric needs: keypoints of all people and, for region 'groups', the groups."""
    MpiiScoring.prepare(file, [], skeleton, image_ids, region)
