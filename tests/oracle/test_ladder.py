"""The truth for one stage at a time never makes a network's people worse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from duopose.calibration.collect import AnnotatedPeople, ImagePeaks, match_peaks
from duopose.config import load_config
from duopose.decode import build_decoder, build_merger
from duopose.decode.build import build_layout
from duopose.geometry import resize_for_test
from duopose.oracle.ideal_maps import IdealNetwork, ideal_passes
from duopose.oracle.ladder import STAGES, true_groups, true_positions
from duopose.oracle.simulated_people import ideal_people
from duopose.skeletons import COCO

SIDE = 256


@pytest.fixture(scope="module")
def image() -> ImagePeaks:
    """One person on a diagonal, peaks of an ideal network."""
    cfg = load_config(None, [])
    layout = build_layout(cfg, COCO)
    frame = resize_for_test(SIDE, SIDE, SIDE, 1.0, 1.0)
    keypoints = np.zeros((1, 17, 3))
    keypoints[0, :, 0] = np.linspace(60, 200, 17)
    keypoints[0, :, 1] = np.linspace(60, 180, 17)
    keypoints[..., 2] = 2
    people = ideal_people(keypoints, np.array([120.0]), layout)
    network = IdealNetwork(layout, offset_unit=cfg.MODEL.OFFSET_UNIT)
    maps = build_merger(cfg, COCO)(ideal_passes(people, frame, [frame], network, COCO, True), frame)
    peaks = build_decoder(cfg, COCO).find_peaks(maps)
    truth = AnnotatedPeople.from_keypoints(keypoints)
    owner = match_peaks(peaks, truth)
    usable = np.ones(len(owner), dtype=bool)
    return ImagePeaks(1, peaks, truth, owner, usable, frame.affine.inverse())


@pytest.mark.parametrize("name", STAGES)
def test_each_stage_keeps_a_perfect_person(name: str, image: ImagePeaks) -> None:
    decoder = build_decoder(load_config(None, []), COCO)
    poses = STAGES[name](decoder, image)
    assert len(poses.scores) == 1
    error = np.abs(poses.keypoints[0, :, :2] - image.truth.position[0, :-1])
    assert error.max() < 0.5


def test_true_groups_and_positions_repair_what_they_are_for(image: ImagePeaks) -> None:
    decoder = build_decoder(load_config(None, []), COCO)
    rng = np.random.default_rng(0)
    wrong_tags = rng.normal(0, 50, image.peaks.tag.shape)
    scattered = replace(image, peaks=image.peaks._replace(tag=wrong_tags))
    assert len(true_groups(decoder, scattered).scores) == 1

    moved = image.peaks.position + 3.0
    shifted = replace(image, peaks=image.peaks._replace(position=moved))
    found = true_positions(decoder, shifted).keypoints[0, :, :2]
    assert found == pytest.approx(image.truth.position[0, :-1])
