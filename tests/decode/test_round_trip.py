"""Encode -> ideal outputs -> decode gives every person back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

SIZE = (641, 427)  # odd on purpose


def worst_distance(world, poses, keypoints: np.ndarray) -> float:
    """Largest distance in stride-2 cells between a labelled joint and the same joint of the found person that fits best."""
    truth = world.merged.affine.apply(keypoints)
    apart = np.linalg.norm(poses.keypoints[:, None, :, :2] - truth[None, :, :, :2], axis=3)
    worst = np.where((truth[..., 2] > 0)[None], apart, 0).max(axis=2)
    return float(worst.min(axis=0).max() / 2)


@pytest.mark.parametrize("skeleton", ["coco", "crowdpose", "mpii"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("count", [1, 3, 12, 30])
def test_every_person_comes_back(world: Callable, skeleton: str, reverse: bool, count: int) -> None:
    here = world(skeleton, ["MODEL.REVERSE_OFFSETS", reverse], input_size=512)
    people = here.people(count, SIZE, seed=count)
    poses = here.there_and_back(people, SIZE)
    assert len(poses.scores) == count
    assert worst_distance(here, poses, people) < 0.5


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    "scales", [(1.0,), (0.5, 1.0, 2.0), (2.0,), (0.5,), (0.75, 1.5), (0.6, 1.0, 1.7)]
)
@pytest.mark.parametrize("size", [SIZE, (333, 500), (256, 256)])
def test_any_scales_flip_and_size(
    world: Callable, flip: bool, scales: Sequence[float], size: tuple[int, int]
) -> None:
    here = world("coco", input_size=256)
    people = here.people(3, size, seed=5, height=60)
    poses = here.there_and_back(people, size, scales, flip)
    assert len(poses.scores) == 3
    assert worst_distance(here, poses, people) < 0.5


@pytest.mark.parametrize("flip", [False, True])
def test_the_baseline_gives_every_person_back(world: Callable, flip: bool) -> None:
    here = world("coco", ["MODEL.NAME", "pose_higher_hrnet"], input_size=512)
    people = here.people(12, SIZE, seed=1)
    poses = here.there_and_back(people, SIZE, flip=flip)
    assert len(poses.scores) == 12
    assert worst_distance(here, poses, people) < 0.5


def test_hidden_and_single_joints_come_back(world: Callable) -> None:
    here = world("coco", input_size=512)
    people = here.people(6, SIZE, seed=2)
    people[0, 1:, 2] = 0
    people[1, :16, 2] = 0
    people[2, 5:, 2] = 0
    poses = here.there_and_back(people, SIZE)
    assert len(poses.scores) == 6
    assert worst_distance(here, poses, people) < 0.5
