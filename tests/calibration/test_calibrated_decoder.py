"""Decoding with a calibration: fields it replaces, the limb prior, scores, errors of positions."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from duopose.config import load_config
from duopose.decode import build_decoder
from duopose.decode.build import decoder_settings
from duopose.decode.calibration import (
    FILLED_BY_OFFSETS,
    FILLED_BY_PEAK,
    FOUND,
    LIMB_FLOOR,
    NUM_FEATURES,
    SCORE_KNOTS,
    Calibration,
    impossible_joints,
    joint_kinds,
    limb_log_ratio,
    person_features,
    person_sizes,
    position_sigma,
)
from duopose.decode.decoder_settings import CALIBRATED_FIELDS
from duopose.skeletons import COCO

NUM_KNOTS = len(SCORE_KNOTS)
CALIBRATION = Calibration(
    tag_sigma=0.5,
    log_gain_tag=4.0,
    offset_sigma=5.0,
    offset_sigma_relative=0.01,
    overlap_sigma=0.2,
    log_gain_offset=3.5,
    outlier_probability=0.01,
    nms_suppressed_penalty=1.2,
    start_threshold=0.7,
    peak_log_odds=tuple(np.linspace(-5, 6, NUM_KNOTS).tolist()),
    joint_distance=(0.5,) * 17,
    limbs=((7, 9),),
    limb_limit=(0.4,),
    limb_scale=(0.1,),
    person_weights=(-1.0, 4.0, 0.0, 0.0, 0.0, 0.0),
    sigma_of_score=tuple(np.linspace(1, 0, NUM_KNOTS).tolist()),
    sigma_of_kind=(0.0, 0.5, 1.0),
    sigma_of_joint=(0.0,) * 17,
    num_tags=2,
    num_images=300,
)


def test_plain_values_and_back() -> None:
    content = CALIBRATION.to_dict()
    assert content["limbs"] == [[7, 9]]
    assert Calibration.from_dict(content) == CALIBRATION
    del content["limbs"]
    with pytest.raises(ValueError, match="limbs"):
        Calibration.from_dict(content)


def test_a_calibration_replaces_only_its_fields() -> None:
    settings = decoder_settings(load_config(None, []))
    calibrated = settings.with_calibration(CALIBRATION)
    for field in fields(settings):
        if field.name in CALIBRATED_FIELDS:
            assert getattr(calibrated, field.name) == getattr(CALIBRATION, field.name)
        elif field.name != "calibration":
            assert getattr(calibrated, field.name) == getattr(settings, field.name)
    assert settings.with_calibration(None) is settings


def test_the_setting_turns_it_off() -> None:
    on = build_decoder(load_config(None, []), COCO, CALIBRATION)
    off = build_decoder(load_config(None, ["TEST.CALIBRATION", "off"]), COCO, CALIBRATION)
    assert on.settings.tag_sigma == 0.5
    assert off.settings == build_decoder(load_config(None, []), COCO).settings


def test_tag_sigma_follows_the_number_of_tags() -> None:
    assert CALIBRATION.for_num_tags(1).tag_sigma == pytest.approx(0.5 / np.sqrt(2))
    assert CALIBRATION.for_num_tags(2) == CALIBRATION


def test_limb_prior() -> None:
    ratio = limb_log_ratio(np.array([0.1, 0.4, 0.5, 9.0, np.nan]), 0.4, 0.1)
    assert ratio == pytest.approx([0.0, 0.0, -0.5, LIMB_FLOOR, 0.0])


def test_size_of_a_person_ignores_one_stray_joint() -> None:
    position = np.zeros((1, 17, 2))
    position[0, :5, 0] = 10.0
    position[0, 4, 0] = 500.0
    found = np.arange(17)[None] < 5
    distance = np.full(17, 0.5)
    assert person_sizes(position, found, np.zeros((1, 2)), distance) == pytest.approx([20.0])
    assert np.isnan(person_sizes(position, found, np.zeros((1, 2)), np.zeros(17))).all()


def test_an_impossible_limb_loses_its_lower_joint() -> None:
    position = np.zeros((2, 17, 2))
    position[:, 9, 0] = [100.0, 5.0]  # the wrist, person size 20: 5 and 0.25 person sizes away
    score = np.zeros((2, 17))
    score[:, 7] = 0.9
    score[:, 9] = 0.6
    dropped = impossible_joints(position, score, np.array([20.0, 20.0]), CALIBRATION)
    assert np.argwhere(dropped).tolist() == [[0, 9]]

    unknown_size = impossible_joints(position, score, np.full(2, np.nan), CALIBRATION)
    assert not unknown_size.any()
    neutral = replace(CALIBRATION, limbs=(), limb_limit=(), limb_scale=())
    assert not impossible_joints(position, score, np.array([20.0, 20.0]), neutral).any()


def test_features_and_sigma() -> None:
    score = np.array([[0.8, 0.6, 0.01, 0.0]])
    filled = np.array([[False, True, True, False]])
    kind = joint_kinds(score, filled, predicted_score=0.01)
    assert kind.tolist() == [[FOUND, FILLED_BY_PEAK, FILLED_BY_OFFSETS, FOUND]]

    features = person_features(score, kind, np.array([np.e]), np.zeros((1, 4)))
    assert features.shape == (1, NUM_FEATURES)
    assert features[0] == pytest.approx([1, 0.5 / 4, 0.8 / 4, 1 / 4, 1 / 4, np.log(4.0)])

    four = replace(CALIBRATION, sigma_of_joint=(0.0, 0.0, 0.0, 0.0))
    sigma = position_sigma(score, kind, four)
    assert sigma[0] == pytest.approx(np.exp([0.2, 0.4 + 0.5, 0.99 + 1.0, -np.inf]))
