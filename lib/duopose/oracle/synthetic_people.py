"""Made-up people in the number one wants, for timing and tests."""

from __future__ import annotations

import numpy as np

from duopose.oracle.scene import FalsePeaks, Scene
from duopose.skeletons import Skeleton

# Height of a joint in a standing person of height 1, from the head down; by a word in the joint's name.
LEVELS = {
    "shoulder": 0.2,
    "elbow": 0.35,
    "wrist": 0.48,
    "hip": 0.52,
    "knee": 0.75,
    "ankle": 0.97,
    "pelvis": 0.52,
    "thorax": 0.2,
    "neck": 0.16,
}
HEAD_LEVEL = 0.07
WIDTHS = {"left": 0.1, "right": -0.1}


def crowd(count: int, width: int, height: int, skeleton: Skeleton, seed: int = 0) -> np.ndarray:
    """(count, K, 3) people standing about in an image of that size in pixels, all joints visible, none outside."""
    generator = np.random.default_rng(seed)
    template = np.array([_place(name) for name in skeleton.keypoints])
    tall = generator.uniform(0.25, 0.6, count) * height
    middle = generator.uniform([0.1, 0.1], [0.9, 0.6], (count, 2)) * [width, height]
    pose = template + generator.normal(0, 0.03, (count, *template.shape))
    place = middle[:, None] + tall[:, None, None] * (pose - [0, 0.5])
    place = np.clip(place, 0, [width - 1, height - 1])
    return np.concatenate([place, np.full((*place.shape[:2], 1), 2.0)], axis=2)


def _place(name: str) -> tuple[float, float]:
    level = next((level for word, level in LEVELS.items() if word in name), HEAD_LEVEL)
    side = next((side for word, side in WIDTHS.items() if word in name), 0.0)
    return (side if level > HEAD_LEVEL else side / 4, level)


def with_false_peaks(scene: Scene, per_joint: int, width: int, height: int, seed: int = 0) -> Scene:
    """The scene with so many peaks more of each joint type anywhere, their tags anybody's."""
    generator = np.random.default_rng(seed)
    people, kinds = scene.labelled.shape
    joint = np.repeat(np.arange(kinds - 1), per_joint)
    place = generator.uniform([0, 0], [width - 1, height - 1], (len(joint), 2))
    tag = np.broadcast_to(generator.uniform(-0.5, people - 0.5, len(joint)), (2, len(joint)))
    false = FalsePeaks(joint, place, generator.uniform(0.3, 1, len(joint)), tag)
    return Scene(
        **{
            **{name: getattr(scene, name) for name in Scene.__dataclass_fields__},
            "false_peaks": false,
        }
    )
