"""Ideal maps of people, decoded, give the same people."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from tests.decode.conftest import IdealDecoding

from duopose.types import Poses

SIZE = (641, 427)  # odd on purpose


def worst_distance(ideal_decoding: IdealDecoding, poses: Poses, keypoints: np.ndarray) -> float:
    """Largest distance, in stride-2 cells, of a labelled joint from that of the best match."""
    truth = ideal_decoding.merged.affine.apply(keypoints)
    apart = np.linalg.norm(poses.keypoints[:, None, :, :2] - truth[None, :, :, :2], axis=3)
    worst = np.where((truth[..., 2] > 0)[None], apart, 0).max(axis=2)
    return float(worst.min(axis=0).max() / 2)


@pytest.mark.parametrize("skeleton", ["coco", "crowdpose", "mpii"])
@pytest.mark.parametrize(
    "overrides", [[], ["MODEL.REVERSE_OFFSETS", True], ["MODEL.FINE_OFFSETS", False]]
)
@pytest.mark.parametrize("count", [1, 3, 12, 30])
def test_every_person_is_found(
    ideal_decoding: Callable, skeleton: str, overrides: list[object], count: int
) -> None:
    ideal = ideal_decoding(skeleton, overrides, input_size=512)
    people = ideal.people(count, SIZE, seed=count)
    poses = ideal.encode_and_decode(people, SIZE)
    assert len(poses.scores) == count
    assert worst_distance(ideal, poses, people) < 0.5


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    "scales", [(1.0,), (0.5, 1.0, 2.0), (2.0,), (0.5,), (0.75, 1.5), (0.6, 1.0, 1.7)]
)
@pytest.mark.parametrize("size", [SIZE, (333, 500), (256, 256)])
def test_any_scales_flip_and_size(
    ideal_decoding: Callable, flip: bool, scales: Sequence[float], size: tuple[int, int]
) -> None:
    ideal = ideal_decoding("coco", input_size=256)
    people = ideal.people(3, size, seed=5, height=60)
    poses = ideal.encode_and_decode(people, size, scales, flip)
    assert len(poses.scores) == 3
    assert worst_distance(ideal, poses, people) < 0.5


@pytest.mark.parametrize("flip", [False, True])
def test_the_baseline_finds_every_person(ideal_decoding: Callable, flip: bool) -> None:
    ideal = ideal_decoding("coco", ["MODEL.NAME", "pose_higher_hrnet"], input_size=512)
    people = ideal.people(12, SIZE, seed=1)
    poses = ideal.encode_and_decode(people, SIZE, flip=flip)
    assert len(poses.scores) == 12
    assert worst_distance(ideal, poses, people) < 0.5


def test_occluded_and_single_joints_are_found(ideal_decoding: Callable) -> None:
    ideal = ideal_decoding("coco", input_size=512)
    people = ideal.people(6, SIZE, seed=2)
    people[0, 1:, 2] = 0
    people[1, :16, 2] = 0
    people[2, 5:, 2] = 0
    poses = ideal.encode_and_decode(people, SIZE)
    assert len(poses.scores) == 6
    assert worst_distance(ideal, poses, people) < 0.5
