"""The readers that are fuzzed."""

from __future__ import annotations

from tests.fuzz import (
    annotation_targets,
    export_targets,
    image_targets,
    label_targets,
    mat_targets,
    record_targets,
    settings_targets,
    torch_targets,
)
from tests.fuzz.fuzz_target import MakeTarget

# Name -> what makes it, and its share of the cases: readers that take longer get fewer.
TARGETS: dict[str, tuple[MakeTarget, float]] = {
    "annotations": (annotation_targets.coco_target, 1.0),
    "crowdpose": (annotation_targets.crowdpose_target, 1.0),
    "mpii": (annotation_targets.mpii_target, 1.0),
    "segmentations": (annotation_targets.segmentation_target, 8.0),
    "results": (record_targets.result_target, 3.0),
    "results-other": (record_targets.other_result_target, 2.0),
    "metrics": (record_targets.metrics_target, 4.0),
    "settings": (settings_targets.settings_target, 0.3),
    "words": (settings_targets.word_target, 0.5),
    "skeleton": (settings_targets.skeleton_target, 0.5),
    "weights": (torch_targets.weight_target, 1.5),
    "model": (torch_targets.model_target, 0.25),
    "checkpoint": (torch_targets.checkpoint_target, 0.15),
    "image": (image_targets.image_target, 8.0),
    "zip": (image_targets.zip_target, 4.0),
    "study": (record_targets.study_target, 0.1),
    "plan": (record_targets.plan_target, 1.0),
    "job": (record_targets.job_target, 1.0),
    "unfinished": (record_targets.unfinished_target, 2.0),
    "lock": (record_targets.lock_target, 0.5),
    "metrics-csv": (record_targets.run_list_target, 1.0),
    "labelme": (label_targets.labelme_target, 1.0),
    "cvat": (label_targets.cvat_target, 3.0),
    "yolo-labels": (label_targets.yolo_target, 1.5),
    "yolo-yaml": (label_targets.yolo_yaml_target, 1.0),
    "deeplabcut": (label_targets.deeplabcut_target, 3.0),
    "mat": (mat_targets.mat_target, 0.15),
    "onnx": (export_targets.onnx_target, 0.15),
}


def cases_of(name: str, total: int) -> int:
    """The cases of a reader when all have `total` together; at least one."""
    shares = sum(share for _, share in TARGETS.values())
    return max(round(total * TARGETS[name][1] / shares), 1)
