"""Fits recover the parameters of generated data."""

from __future__ import annotations

import numpy as np
import pytest

from duopose.calibration.collect import AnnotatedPeople
from duopose.calibration.fit import (
    fit_expected_oks,
    fit_limb,
    fit_log_odds,
    fit_offsets,
    fit_position_errors,
    fit_tags,
    joint_distances,
    knot_weights,
    relative_limb_lengths,
)
from duopose.decode.calibration import IMPOSSIBLE_SCALES, SCORE_KNOTS

RNG_SEED = 0
COUNT = 20_000


def test_tags_of_two_gaussians() -> None:
    # The exact log ratio of two Gaussians of one dimension is quadratic:
    # log(s_b / s_w) - d^2 / 2 (1 / s_w^2 - 1 / s_b^2), variances of differences.
    rng = np.random.default_rng(RNG_SEED)
    same = np.arange(COUNT) % 2 == 0
    within, between = 0.4 * np.sqrt(2), 4.0
    squared = np.where(same, within, between) ** 2 * rng.standard_normal(COUNT) ** 2
    sigma, gain, floor = fit_tags(squared, same)
    assert sigma == pytest.approx(0.4, rel=0.1)
    assert gain == pytest.approx(np.log(between / within), abs=0.25)
    assert floor < -3


def test_offsets_grow_with_their_length() -> None:
    rng = np.random.default_rng(RNG_SEED)
    same = np.arange(COUNT) % 2 == 0
    overlap = np.arange(COUNT) % 4 < 2
    length = rng.uniform(5, 60, COUNT)
    sigma = np.hypot(2.0, np.where(overlap, 0.3, 0.1) * length)
    near = (sigma[:, None] * rng.standard_normal((COUNT, 2))) ** 2
    far = rng.uniform(-100, 100, (COUNT, 2)) ** 2
    squared = np.where(same[:, None], near, far).sum(axis=1)
    floor, alone, overlapping, gain = fit_offsets(squared, same, length, overlap, -4.0)
    # one gain for all lengths, so the parts are not those of the Gaussians, but their sums are near
    assert np.hypot(floor, alone * 30) == pytest.approx(np.hypot(2, 3), rel=0.5)
    assert np.hypot(floor, overlapping * 30) == pytest.approx(np.hypot(2, 9), rel=0.5)
    assert overlapping > 1.5 * alone
    assert gain > 2


def test_log_odds_by_score() -> None:
    rng = np.random.default_rng(RNG_SEED)
    score = rng.uniform(0.1, 1.0, COUNT)
    suppressed = rng.random(COUNT) < 0.3
    truth = -5 + 10 * score
    is_true = rng.random(COUNT) < 1 / (1 + np.exp(-(truth - 1.5 * suppressed)))
    log_odds, penalty = fit_log_odds(score, suppressed, is_true)
    assert log_odds[2:10] == pytest.approx(-5 + 10 * SCORE_KNOTS[2:10], abs=0.3)
    assert penalty == pytest.approx(1.5, abs=0.2)
    assert (np.diff(log_odds) >= 0).all()


def test_knot_weights_interpolate() -> None:
    score = np.array([-1.0, 0.0, 0.234, 0.7, 1.0, 1.3])
    values = np.arange(len(SCORE_KNOTS)) ** 2.0
    assert knot_weights(score) @ values == pytest.approx(np.interp(score, SCORE_KNOTS, values))


def test_expected_oks() -> None:
    rng = np.random.default_rng(RNG_SEED)
    features = np.column_stack([np.ones(COUNT), rng.uniform(0, 1, COUNT), np.ones(COUNT)])
    oks = 1 / (1 + np.exp(-(features[:, 1] * 4 - 2)))
    weights = fit_expected_oks(features, oks)
    fitted = 1 / (1 + np.exp(-features @ weights))
    assert np.abs(fitted - oks).max() < 0.02


def test_position_errors_by_score_kind_and_joint() -> None:
    rng = np.random.default_rng(RNG_SEED)
    score = rng.uniform(0.1, 1.0, COUNT)
    kind = rng.integers(0, 3, COUNT)
    joint = rng.integers(0, 4, COUNT)
    log_sigma = 1 - score + np.array([0.0, 0.5, 1.0])[kind] + 0.2 * (joint - 1.5)
    squared = np.exp(2 * log_sigma) * rng.chisquare(2, COUNT) / 2
    of_score, of_kind, of_joint = fit_position_errors(squared, score, kind, joint, 4)
    fitted = np.interp(score, SCORE_KNOTS, of_score) + of_kind[kind] + of_joint[joint]
    assert np.abs(fitted - log_sigma).max() < 0.1


def people(limb: np.ndarray) -> AnnotatedPeople:
    """People of three joints: 10 left and right of the centre, and one `limb` (P,) below."""
    position = np.zeros((len(limb), 4, 2))
    position[:, 0, 0] = -10
    position[:, 1, 0] = 10
    position[:, 2, 1] = limb
    labelled = np.ones((len(limb), 4), dtype=bool)
    return AnnotatedPeople(position, labelled, np.full(len(limb), 20.0))


def test_limbs() -> None:
    lengths = np.linspace(10, 20, 1001)
    truth = [people(lengths)]
    distance = joint_distances(truth)
    assert distance == pytest.approx([0.5, 0.5, 0.75])

    relative = relative_limb_lengths(truth, [(0, 1)], distance)[:, 0]
    assert relative == pytest.approx(20 / 20)  # the median over three joints is 10 / 0.5

    limit, scale = fit_limb(np.linspace(0, 1, 10_001)) or (0.0, 0.0)
    assert limit == pytest.approx(0.99, abs=1e-3)
    assert scale == pytest.approx(0.05 * 0.99, rel=1e-2)  # (0.999 - 0.99) / 2 is smaller
    assert limit + IMPOSSIBLE_SCALES * scale > 0.999
    assert fit_limb(np.full(10, 0.5)) is None  # too few: no prior
