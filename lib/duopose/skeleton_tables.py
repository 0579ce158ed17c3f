"""The benchmarks' skeletons: keypoints, left-right pairs, grouping roles, OKS sigmas, limbs.

Each table has the fields of a skeleton yaml; `skeletons` checks them and derives everything else.
Grouping roles (torso, parents, centre_only) are those of Double Embedding: Xu, Li, Peng, Ding, Wei,
"A Global to Local Double Embedding Method for Multi-person Pose Estimation", ACCV 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict


class SkeletonTable(TypedDict):
    """The fields of `skeletons.Skeleton`."""

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...]
    torso: tuple[str, ...]
    parents: Mapping[str, str]
    centre_only: tuple[str, ...]
    sigmas: tuple[float, ...]
    limbs: tuple[tuple[str, str], ...]


# Keypoints and limbs: `categories` of COCO's person_keypoints files. Sigmas: pycocotools.
COCO: SkeletonTable = {
    "name": "coco",
    "keypoints": (
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder",
        "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
        "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    "flip_pairs": (
        ("left_eye", "right_eye"), ("left_ear", "right_ear"),
        ("left_shoulder", "right_shoulder"), ("left_elbow", "right_elbow"),
        ("left_wrist", "right_wrist"), ("left_hip", "right_hip"), ("left_knee", "right_knee"),
        ("left_ankle", "right_ankle"),
    ),
    "torso": ("left_shoulder", "right_shoulder", "left_hip", "right_hip"),
    "parents": {
        "left_elbow": "left_shoulder", "right_elbow": "right_shoulder",
        "left_wrist": "left_elbow", "right_wrist": "right_elbow", "left_knee": "left_hip",
        "right_knee": "right_hip", "left_ankle": "left_knee", "right_ankle": "right_knee",
    },
    "centre_only": ("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
    "sigmas": (
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107,
        0.107, 0.087, 0.087, 0.089, 0.089,
    ),
    "limbs": (
        ("left_ankle", "left_knee"), ("left_knee", "left_hip"), ("right_ankle", "right_knee"),
        ("right_knee", "right_hip"), ("left_hip", "right_hip"), ("left_shoulder", "left_hip"),
        ("right_shoulder", "right_hip"), ("left_shoulder", "right_shoulder"),
        ("left_shoulder", "left_elbow"), ("right_shoulder", "right_elbow"),
        ("left_elbow", "left_wrist"), ("right_elbow", "right_wrist"), ("left_eye", "right_eye"),
        ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"),
        ("right_eye", "right_ear"), ("left_ear", "left_shoulder"),
        ("right_ear", "right_shoulder"),
    ),
}  # fmt: skip

# Keypoints and limbs: CrowdPose's files. Sigmas: the CrowdPose authors' evaluator.
CROWDPOSE: SkeletonTable = {
    "name": "crowdpose",
    "keypoints": (
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist",
        "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle", "head", "neck",
    ),
    "flip_pairs": (
        ("left_shoulder", "right_shoulder"), ("left_elbow", "right_elbow"),
        ("left_wrist", "right_wrist"), ("left_hip", "right_hip"), ("left_knee", "right_knee"),
        ("left_ankle", "right_ankle"),
    ),
    "torso": ("left_shoulder", "right_shoulder", "left_hip", "right_hip"),
    "parents": {
        "left_elbow": "left_shoulder", "right_elbow": "right_shoulder",
        "left_wrist": "left_elbow", "right_wrist": "right_elbow", "left_knee": "left_hip",
        "right_knee": "right_hip", "left_ankle": "left_knee", "right_ankle": "right_knee",
    },
    "centre_only": ("head", "neck"),
    "sigmas": (
        0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
        0.079, 0.079,
    ),
    "limbs": (
        ("left_ankle", "left_knee"), ("left_knee", "left_hip"), ("right_ankle", "right_knee"),
        ("right_knee", "right_hip"), ("left_hip", "right_hip"), ("left_shoulder", "left_hip"),
        ("right_shoulder", "right_hip"), ("left_shoulder", "neck"), ("right_shoulder", "neck"),
        ("left_shoulder", "left_elbow"), ("right_shoulder", "right_elbow"),
        ("left_elbow", "left_wrist"), ("right_elbow", "right_wrist"), ("head", "neck"),
    ),
}  # fmt: skip

# MPII is scored by PCKh and defines no OKS sigmas: COCO's where both have the joint, CrowdPose's
# for neck and head. Pelvis and thorax belong to the torso.
MPII: SkeletonTable = {
    "name": "mpii",
    "keypoints": (
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist",
        "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle", "pelvis", "thorax", "upper_neck", "head_top",
    ),
    "flip_pairs": (
        ("left_shoulder", "right_shoulder"), ("left_elbow", "right_elbow"),
        ("left_wrist", "right_wrist"), ("left_hip", "right_hip"), ("left_knee", "right_knee"),
        ("left_ankle", "right_ankle"),
    ),
    "torso": (
        "left_shoulder", "right_shoulder", "left_hip", "right_hip", "pelvis", "thorax",
    ),
    "parents": {
        "left_elbow": "left_shoulder", "right_elbow": "right_shoulder",
        "left_wrist": "left_elbow", "right_wrist": "right_elbow", "left_knee": "left_hip",
        "right_knee": "right_hip", "left_ankle": "left_knee", "right_ankle": "right_knee",
    },
    "centre_only": ("upper_neck", "head_top"),
    "sigmas": (
        0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
        0.107, 0.079, 0.079, 0.079,
    ),
    "limbs": (
        ("left_ankle", "left_knee"), ("left_knee", "left_hip"), ("right_ankle", "right_knee"),
        ("right_knee", "right_hip"), ("left_hip", "pelvis"), ("right_hip", "pelvis"),
        ("pelvis", "thorax"), ("thorax", "upper_neck"), ("upper_neck", "head_top"),
        ("left_shoulder", "thorax"), ("right_shoulder", "thorax"),
        ("left_shoulder", "left_elbow"), ("right_shoulder", "right_elbow"),
        ("left_elbow", "left_wrist"), ("right_elbow", "right_wrist"),
    ),
}  # fmt: skip

# MPII's keypoints in the order of its own files: index = joint id.
MPII_FILE_KEYPOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis",
    "thorax", "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder",
    "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip
