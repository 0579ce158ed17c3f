"""A whole calibration on generated images: model file, precedence, notices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from yacs.config import CfgNode

from duopose.calibration.calibrate import (
    calibrate,
    decode_people,
    fit_evidence,
    match_people,
    with_calibration,
)
from duopose.calibration.calibrate_file import calibrate_file, expected_calibration_error
from duopose.calibration.collect import AnnotatedPeople, ImagePeaks, match_peaks
from duopose.calibration.fit_grouping import fit_grouping
from duopose.config import config_text, load_config
from duopose.decode import build_decoder, build_merger
from duopose.decode.build import build_layout
from duopose.decode.calibration import Calibration
from duopose.errors import UserError
from duopose.geometry import resize_for_test
from duopose.inference.model import read_calibration
from duopose.network import build_network, save_model
from duopose.oracle.ideal_maps import IdealNetwork, ideal_passes
from duopose.oracle.simulated_people import ideal_people
from duopose.skeletons import COCO, skeleton_to_dict
from duopose.types import Peaks

SIDE = 256
STANDING = np.array(
    [
        [0.0, -0.45], [0.04, -0.48], [-0.04, -0.48], [0.09, -0.45], [-0.09, -0.45],
        [0.15, -0.3], [-0.15, -0.3], [0.2, -0.12], [-0.2, -0.12], [0.22, 0.05], [-0.22, 0.05],
        [0.1, 0.05], [-0.1, 0.05], [0.11, 0.28], [-0.11, 0.28], [0.12, 0.5], [-0.12, 0.5],
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def cfg() -> CfgNode:
    return load_config(None, ["DATASET.INPUT_SIZE", SIDE])


@pytest.fixture(scope="module")
def images(cfg: CfgNode) -> list[ImagePeaks]:
    """Twelve images of two people, by an ideal network whose heatmaps are 0.8 high."""
    rng = np.random.default_rng(0)
    frame = resize_for_test(SIDE, SIDE, SIDE, 1.0, 1.0)
    layout = build_layout(cfg, COCO)
    network = IdealNetwork(layout, offset_unit=cfg.MODEL.OFFSET_UNIT)
    merge = build_merger(cfg, COCO)
    decoder = build_decoder(cfg, COCO)
    result = []
    for image_id in range(12):
        centres = np.array([[70.0, 128.0], [190.0, 128.0]]) + rng.normal(0, 5, (2, 2))
        joints = centres[:, None] + 150 * STANDING + rng.normal(0, 3, (2, 17, 2))
        keypoints = np.concatenate([joints, np.full((2, 17, 1), 2.0)], axis=2)
        people = ideal_people(keypoints, np.full(2, 150.0**2 / 4), layout)
        peaks = decoder.find_peaks(
            merge(ideal_passes(people, frame, [frame], network, COCO, True), frame)
        )
        truth = AnnotatedPeople.from_keypoints(keypoints)
        owner = match_peaks(peaks, truth)
        usable = np.ones(len(owner), dtype=bool)
        result.append(ImagePeaks(image_id, peaks, truth, owner, usable, frame.affine.inverse()))
    return result


def test_every_peak_of_an_ideal_network_is_matched(images: list[ImagePeaks]) -> None:
    assert all((image.owner >= 0).all() for image in images)
    assert all(len(image.owner) == 2 * 18 for image in images)


def test_a_calibrated_decoder_finds_the_same_people(cfg: CfgNode, images: list[ImagePeaks]) -> None:
    decoder = build_decoder(cfg, COCO)
    calibration = calibrate(decoder, images)
    assert calibration.tag_sigma < 0.5
    assert calibration.num_tags == 2
    assert Calibration.from_dict(calibration.to_dict()) == calibration

    people = decode_people(with_calibration(decoder, calibration), images)
    assert len(people.oks) == 24
    assert people.oks.min() > 0.95
    assert np.abs(people.score - people.oks).mean() < 0.05
    assert ((people.sigma > 0) == (people.joint_score > 0)).all()


@pytest.mark.filterwarnings("error")
def test_people_who_are_alone_keep_the_constants_of_tags(
    cfg: CfgNode, images: list[ImagePeaks]
) -> None:
    """No image shows how the tags of two people differ."""
    alone = [only_person(image, 0) for image in images]
    decoder = build_decoder(cfg, COCO)
    calibration = fit_evidence(decoder, alone)
    assert calibration.tag_sigma == decoder.settings.tag_sigma
    assert calibration.log_gain_tag == decoder.settings.log_gain_tag
    assert calibration.outlier_probability == pytest.approx(decoder.settings.outlier_probability)
    assert len(decode_people(with_calibration(decoder, calibration), alone).oks) == len(alone)


def test_a_person_without_peaks_does_not_stop_the_joint_fit(
    cfg: CfgNode, images: list[ImagePeaks]
) -> None:
    """Its radius is unknown."""
    unseen = replace(only_person(images[0], 0), truth=images[0].truth)
    decoder = build_decoder(cfg, COCO)
    fit = fit_grouping(decoder, [*images, unseen])
    assert fit.tag_sigma != pytest.approx(decoder.settings.tag_sigma)


def only_person(image: ImagePeaks, person: int) -> ImagePeaks:
    rows = image.owner == person
    peaks = Peaks(*(None if field is None else field[rows] for field in image.peaks))
    truth = AnnotatedPeople(
        image.truth.position[[person]], image.truth.labelled[[person]], image.truth.size[[person]]
    )
    owner = np.zeros(rows.sum(), dtype=int)
    return replace(image, peaks=peaks, truth=truth, owner=owner, usable=image.usable[rows])


def test_people_are_matched_once() -> None:
    keypoints = np.zeros((1, 17, 3))
    keypoints[0, :, :2] = 100 * STANDING
    keypoints[..., 2] = 2
    truth = AnnotatedPeople.from_keypoints(keypoints)
    twice = np.repeat(keypoints[..., :2], 2, axis=0)
    oks, person = match_people(twice, np.array([0.3, 0.9]), truth, COCO)
    assert person.tolist() == [-1, 0]
    assert oks.tolist() == [0.0, 1.0]


def test_expected_calibration_error() -> None:
    score = np.array([0.95, 0.95, 0.15, 0.15])
    oks = np.array([1.0, 0.9, 0.35, 0.15])
    assert expected_calibration_error(score, oks) == pytest.approx(0.05)


def model_file(path: Path, cfg: CfgNode, extra: dict[str, object]) -> Path:
    network = build_network(cfg, COCO)
    save_model(path, network.state_dict(), config_text(cfg), skeleton_to_dict(COCO), extra)
    return path


def test_model_files_carry_it(tmp_path: Path, cfg: CfgNode, images: list[ImagePeaks]) -> None:
    calibration = calibrate(build_decoder(cfg, COCO), images)
    path = model_file(tmp_path / "new.pth", cfg, {"calibration": calibration.to_dict()})
    assert read_calibration(path) == calibration

    old = model_file(tmp_path / "old.pth", cfg, {"epoch": 3})
    assert read_calibration(old) is None

    other = replace(calibration, num_images=1).to_dict()
    del other["limbs"]
    broken = model_file(tmp_path / "broken.pth", cfg, {"calibration": other})
    with pytest.raises(UserError, match="limbs"):
        read_calibration(broken)


def test_a_missing_training_split_leaves_the_file_alone(tmp_path: Path, cfg: CfgNode) -> None:
    elsewhere = cfg.clone()
    elsewhere.defrost()
    elsewhere.DATASET.ROOT = str(tmp_path / "nowhere")
    path = model_file(tmp_path / "model.pth", elsewhere, {})
    before = path.read_bytes()
    with pytest.raises(UserError, match="nowhere"):
        calibrate_file(path, elsewhere, COCO, torch.device("cpu"), 10, 10)
    assert path.read_bytes() == before
