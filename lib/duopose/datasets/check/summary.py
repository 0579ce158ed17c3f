"""What a split holds, as a table."""

from __future__ import annotations

import numpy as np

from duopose.datasets.annotations import People
from duopose.skeletons import Skeleton

GROUPS = ((0, 0), (1, 1), (2, 4), (5, 9), (10, 29), (30, 10**9))


def summary_lines(people: People, skeleton: Skeleton) -> list[str]:
    """Images, people per image, sizes, and how often each keypoint is labelled and visible."""
    counts = np.diff(people.first)
    lines = [
        f"  images {len(people)}, of which {int((counts > 0).sum())} with labelled people; "
        f"regions left out in {sum(bool(region) for region in people.regions)}",
        f"  people with labelled keypoints {len(people.keypoints)}",
    ]
    if len(people):
        fractions = [
            f"{_group_name(*group)}: {int(((counts >= group[0]) & (counts <= group[1])).sum())}"
            for group in GROUPS
        ]
        lines.append(
            f"  people per image: mean {counts.mean():.2f}, most {counts.max()}; images with {', '.join(fractions)}"
        )
        lines.append(
            f"  image sizes: width {_spread(people.sizes[:, 0])}, height {_spread(people.sizes[:, 1])}"
        )
    if len(people.keypoints):
        lines.append(
            f"  people's sizes (longer side of the box round their keypoints, pixels): {_spread(_extents(people.keypoints))}"
        )
        lines += _joint_table(people.keypoints, skeleton)
    return lines


def _group_name(low: int, high: int) -> str:
    return str(low) if low == high else (f"{low}-{high}" if high < 10**9 else f"{low} and more")


def _spread(values: np.ndarray) -> str:
    low, middle, high = np.percentile(values, (0, 50, 100))
    return f"{low:.0f} / {middle:.0f} / {high:.0f} (least / median / most)"


def _extents(keypoints: np.ndarray) -> np.ndarray:
    """(M,) longer side of the box round each person's labelled keypoints."""
    labelled = keypoints[:, :, 2:] > 0
    low = np.where(labelled, keypoints[:, :, :2], np.inf).min(1)
    high = np.where(labelled, keypoints[:, :, :2], -np.inf).max(1)
    return (high - low).max(1)


def _joint_table(keypoints: np.ndarray, skeleton: Skeleton) -> list[str]:
    width = max(len(name) for name in skeleton.keypoints)
    labelled, visible = (keypoints[:, :, 2] > 0).mean(0), (keypoints[:, :, 2] == 2).mean(0)
    rows = [
        f"  {name:<{width}}  {labelled[k]:8.1%}  {visible[k]:7.1%}"
        for k, name in enumerate(skeleton.keypoints)
    ]
    return [f"  {'keypoint':<{width}}  labelled  visible", *rows]
