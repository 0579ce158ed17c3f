"""Invariances of the decoder, and its limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from duopose.types import PoseMaps

SIZE = (512, 384)


def as_sets(keypoints: np.ndarray) -> np.ndarray:
    """People sorted by position, so that the ranking does not matter."""
    return keypoints[np.lexsort(keypoints[:, :, :2].mean(axis=1).round(1).T)]


def test_permuting_people_changes_nothing(ideal_decoding: Callable) -> None:
    ideal = ideal_decoding(input_size=384)
    people = ideal.people(8, SIZE, seed=3)
    straight = ideal.encode_and_decode(people, SIZE)
    shuffled = ideal.encode_and_decode(people[np.random.default_rng(0).permutation(8)], SIZE)
    assert np.allclose(as_sets(straight.keypoints), as_sets(shuffled.keypoints), atol=1e-4)


@pytest.mark.parametrize("flip", [False, True])
def test_mirroring_the_image_mirrors_the_people(ideal_decoding: Callable, flip: bool) -> None:
    ideal = ideal_decoding("coco", ["MODEL.REVERSE_OFFSETS", True], input_size=384)
    people = ideal.people(6, SIZE, seed=4)
    straight = ideal.encode_and_decode(people, SIZE, flip=flip).keypoints
    turned = people[:, ideal.skeleton.flip_index]
    turned[..., 0] = SIZE[0] - 1 - turned[..., 0]
    back = ideal.encode_and_decode(turned, SIZE, flip=flip).keypoints[:, ideal.skeleton.flip_index]
    back[..., 0] = ideal.merged.width - 1 - back[..., 0]
    assert np.allclose(as_sets(straight), as_sets(back), atol=0.02)


def test_a_far_away_person_changes_no_other_person(ideal_decoding: Callable) -> None:
    ideal = ideal_decoding(input_size=384)
    people = ideal.people(2, (300, 384), seed=6, height=80)
    stranger = ideal.people(1, (40, 60), seed=7, height=30)
    stranger[..., :2] += [460, 300]
    alone = ideal.encode_and_decode(people, SIZE).keypoints
    joined = ideal.encode_and_decode(np.concatenate([people, stranger]), SIZE).keypoints
    assert len(joined) == 3
    for person in alone:
        assert np.abs(joined - person).max(axis=(1, 2)).min() < 1e-4


def test_scaling_the_scene_scales_the_people(ideal_decoding: Callable) -> None:
    ideal = ideal_decoding(input_size=384)
    people = ideal.people(4, SIZE, seed=8)
    large = ideal.people(4, SIZE, seed=8)
    large[..., :2] = (
        2 * large[..., :2] + 0.5
    )  # pixels are areas: the image twice as large in both directions
    small = ideal.encode_and_decode(people, SIZE).keypoints
    same_input = ideal.encode_and_decode(large, (2 * SIZE[0], 2 * SIZE[1])).keypoints
    assert np.allclose(as_sets(small), as_sets(same_input), atol=1e-4)
    ideal.input_size = 768
    twice = ideal.encode_and_decode(people, SIZE).keypoints
    assert np.allclose(2 * as_sets(small)[..., :2] + 0.5, as_sets(twice)[..., :2], atol=0.5)


def test_sixty_people_and_none(ideal_decoding: Callable) -> None:
    ideal = ideal_decoding(input_size=768)
    people = ideal.people(60, (1536, 1152), seed=9)
    assert len(ideal.encode_and_decode(people, (1536, 1152)).scores) == 60
    nobody = ideal.encode_and_decode(people[:0], SIZE)
    assert (
        nobody.keypoints.shape == (0, 17, 3)
        and nobody.scores.shape == (0,)
        and nobody.filled.shape == (0, 17)
    )


def constant(maps: PoseMaps, value: float) -> PoseMaps:
    layers = tuple(layer._replace(maps=torch.full_like(layer.maps, value)) for layer in maps.layers)
    return maps._replace(heatmaps=torch.full_like(maps.heatmaps, value), layers=layers)


@pytest.mark.parametrize("name", ["pose_higher_hrnet_de", "pose_higher_hrnet"])
def test_maps_of_zeros_give_no_people_and_equal_maps_do_not_crash(
    ideal_decoding: Callable, name: str
) -> None:
    ideal = ideal_decoding("coco", ["MODEL.NAME", name], input_size=256)
    maps = ideal.maps(ideal.people(2, SIZE), SIZE)
    assert len(ideal.decoder.decode(constant(maps, 0.0)).scores) == 0
    assert np.isfinite(ideal.decoder.decode(constant(maps, 0.7)).keypoints).all()


def test_nan_is_named(ideal_decoding: Callable) -> None:
    ideal = ideal_decoding(input_size=256)
    maps = ideal.maps(ideal.people(2, SIZE), SIZE)
    broken = maps.heatmaps.clone()
    broken[5, 3, 3] = float("nan")
    with pytest.raises(ValueError, match="channel 5"):
        ideal.decoder.decode(maps._replace(heatmaps=broken))
    tags = maps.tags[0]._replace(maps=torch.full_like(maps.tags[0].maps, float("nan")))
    with pytest.raises(ValueError, match="tags"):
        ideal.decoder.decode(maps._replace(tags=(tags, *maps.tags[1:])))
    offsets = tuple(
        layer._replace(maps=torch.full_like(layer.maps, float("inf"))) for layer in maps.offsets
    )
    with pytest.raises(ValueError, match="offsets"):
        ideal.decoder.decode(maps._replace(offsets=offsets))


def test_clean_preset_fills_nothing_and_drops_the_faint(ideal_decoding: Callable) -> None:
    ideal = ideal_decoding("coco", ["TEST.PRESET", "clean"], input_size=384)
    people = ideal.people(4, SIZE, seed=1)
    people[0, 2:, 2] = 0  # two joints of 17: a score below PERSON_THRESHOLD
    people[1, 9, 2] = 0
    poses = ideal.encode_and_decode(people, SIZE)
    assert len(poses.scores) == 3
    assert not poses.filled.any()
    assert (poses.keypoints[poses.keypoints[..., 2] == 0] == 0).all()


def test_filled_joints_are_marked(ideal_decoding: Callable) -> None:
    ideal = ideal_decoding("coco", ["MODEL.REVERSE_OFFSETS", True], input_size=384)
    people = ideal.people(1, SIZE, seed=2, height=150)
    maps = ideal.maps(people, SIZE)
    maps.heatmaps[9] = (
        0  # the left wrist has no peak; the elbow's reverse offset gives its position
    )
    poses = ideal.decoder.decode(maps)
    assert poses.filled[0].nonzero()[0].tolist() == [9]
    assert (
        np.linalg.norm(poses.keypoints[0, 9, :2] - ideal.merged.affine.apply(people)[0, 9, :2])
        < 1.0
    )


def test_mrm_moves_an_uncertain_peak_towards_the_truth(ideal_decoding: Callable) -> None:
    ideal = ideal_decoding("coco", ["MODEL.REVERSE_OFFSETS", True], input_size=384)
    people = ideal.people(1, SIZE, seed=2, height=200)
    peaks = ideal.decoder.find_peaks(ideal.maps(people, SIZE))
    elbow = int(np.flatnonzero(peaks.joint == 7)[0])
    truth = peaks.position[elbow].copy()
    peaks.position[elbow] += 6.0
    peaks.score[elbow] = 0.3
    errors = {}
    for mode in ("off", "paper", "precision"):
        decoder = replace(ideal.decoder, settings=replace(ideal.decoder.settings, mrm=mode))
        poses = decoder.to_poses(peaks, decoder.grouper.group(peaks))
        errors[mode] = np.linalg.norm(poses.keypoints[0, 7, :2] - truth)
    assert errors["off"] == pytest.approx(6 * np.sqrt(2), abs=1e-6)
    assert errors["precision"] < errors["off"] / 4
    assert errors["paper"] < errors["off"] / 4
