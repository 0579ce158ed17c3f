"""The Mutual Refine Machine on two joints, in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from duopose.decode.mrm import (
    OFFSET_VARIANCE_FACTORS,
    PEAK_FLOOR,
    PEAK_VARIANCE_FACTORS,
    collect_predictions,
    fit_variance_factors,
    person_size,
    precision_weighted_mean,
    refine_positions,
)
from duopose.decode.people import NONE
from duopose.skeletons import COCO, OffsetLayout
from duopose.types import Peaks

ELBOW = COCO.index("left_elbow")
WRIST = COCO.index("left_wrist")
FORWARD = COCO.offset_layout(reverse=False)
BOTH_WAYS = COCO.offset_layout(reverse=True)

ELBOW_POSITION = np.array([100.0, 50.0])
WRIST_POSITION = np.array([140.0, 50.0])
PREDICTED_ELBOW = np.array([104.0, 50.0])  # by the wrist
PREDICTED_WRIST = np.array([140.0, 58.0])  # by the elbow, with reverse offsets


def elbow_and_wrist(layout: OffsetLayout, scores: tuple[float, float]) -> tuple[Peaks, np.ndarray]:
    """The peaks of one person's left elbow and wrist, and peak_index (1, K)."""
    predicted = np.full((2, layout.num_edges, 2), np.nan)
    predicted[0, layout.source == ELBOW] = ELBOW_POSITION
    predicted[1, layout.source == WRIST] = WRIST_POSITION
    predicted[1, layout.edge(WRIST, ELBOW)] = PREDICTED_ELBOW
    if layout.num_edges > layout.num_forward:
        predicted[0, layout.edge(ELBOW, WRIST)] = PREDICTED_WRIST
    peaks = Peaks(
        joint=np.array([ELBOW, WRIST]),
        position=np.array([ELBOW_POSITION, WRIST_POSITION]),
        score=np.array(scores),
        nms_suppressed=np.zeros(2, dtype=bool),
        tag=np.zeros((2, 1)),
        tags_around=np.zeros((2, 9, 1)),
        predicted_target=predicted,
        max_offset_length=np.full(2, 40.0),
        offset_sigma=np.full(2, 5.0),
        predicted_centre=np.full((2, 2), np.nan),
        windows_overlap=np.zeros(2, dtype=bool),
    )
    peak_index = np.full((1, COCO.num_keypoints), NONE)
    peak_index[0, [ELBOW, WRIST]] = [0, 1]
    return peaks, peak_index


def test_predictions_are_collected_in_both_directions() -> None:
    peaks, peak_index = elbow_and_wrist(BOTH_WAYS, (0.5, 0.9))
    predictions = collect_predictions(peaks, peak_index, BOTH_WAYS)
    pairs = list(zip(predictions.source.tolist(), predictions.target.tolist()))
    to_elbow, to_wrist = pairs.index((WRIST, ELBOW)), pairs.index((ELBOW, WRIST))
    assert len(pairs) == 16 and COCO.centre not in predictions.target
    assert predictions.position[0, to_elbow].tolist() == PREDICTED_ELBOW.tolist()
    assert predictions.position[0, to_wrist].tolist() == PREDICTED_WRIST.tolist()

    shoulder = COCO.index("left_shoulder")
    from_shoulder, to_shoulder = pairs.index((shoulder, ELBOW)), pairs.index((ELBOW, shoulder))
    assert predictions.has_source[0, to_shoulder] and not predictions.has_source[0, from_shoulder]
    assert (predictions.position[0, from_shoulder] == 0).all()


def test_mean_of_two_joints_with_known_variances() -> None:
    """x' = (x / v + x_pred / u) / (1 / v + 1 / u): with v = 4 u, four fifths of the way."""
    peaks, peak_index = elbow_and_wrist(FORWARD, (0.5, 0.9))
    predictions = collect_predictions(peaks, peak_index, FORWARD)
    position = np.zeros((1, COCO.num_keypoints, 2))
    position[0, [ELBOW, WRIST]] = peaks.position
    peak_precision = np.zeros((1, COCO.num_keypoints))
    peak_precision[0, [ELBOW, WRIST]] = 1 / 4
    prediction_precision = np.where(predictions.target == ELBOW, 1.0, 0.0)[None]
    prediction_precision *= predictions.has_source

    refined = precision_weighted_mean(position, peak_precision, predictions, prediction_precision)
    assert refined[0, ELBOW] == pytest.approx(np.array([103.2, 50.0]))
    assert refined[0, WRIST] == pytest.approx(WRIST_POSITION)
    assert (np.delete(refined[0], [ELBOW, WRIST], axis=0) == 0).all()


def test_precision_mode_is_equation_1_with_the_fitted_factors(decoder_settings: Callable) -> None:
    settings = decoder_settings(mrm="precision", peak_sigma=0.5, offset_sigma=4.0)
    peaks, peak_index = elbow_and_wrist(FORWARD, (0.2, 1.0))
    size = person_size(peaks.position[None], np.ones((1, 2), dtype=bool))[0]
    peak_variance = (0.5 * 0.8 * size) ** 2
    residual = ((PREDICTED_ELBOW - ELBOW_POSITION) ** 2).mean()
    a, b = fit_variance_factors(
        np.array([residual]), np.array([peak_variance]), np.zeros(1), settings.offset_sigma**2
    )
    v, u = a * peak_variance + PEAK_FLOOR**2, b * settings.offset_sigma**2
    expected = (ELBOW_POSITION / v + PREDICTED_ELBOW / u) / (1 / v + 1 / u)

    refined = refine_positions(peaks, peak_index, FORWARD, settings)
    assert refined[0, ELBOW] == pytest.approx(expected)
    assert refined[0, WRIST] == pytest.approx(WRIST_POSITION)  # nothing predicts it


def test_a_prediction_far_from_the_peak_is_not_used(decoder_settings: Callable) -> None:
    settings = decoder_settings(mrm="precision", peak_sigma=0.01, offset_sigma=1.0)
    peaks, peak_index = elbow_and_wrist(FORWARD, (0.9, 0.9))
    peaks.predicted_target[1, FORWARD.edge(WRIST, ELBOW)] = [200.0, 50.0]
    refined = refine_positions(peaks, peak_index, FORWARD, settings)
    assert refined[0, ELBOW] == pytest.approx(ELBOW_POSITION)


@pytest.mark.parametrize("a", PEAK_VARIANCE_FACTORS[1:].tolist())
@pytest.mark.parametrize("b", OFFSET_VARIANCE_FACTORS.tolist())
def test_the_factors_that_made_the_residuals_are_fitted(a: float, b: float) -> None:
    generator = np.random.default_rng(0)
    peak_variance = generator.uniform(0, 400, 20000)
    variance = a * peak_variance + b * 16.0 + PEAK_FLOOR**2
    residual = (generator.normal(0, np.sqrt(variance), (2, 20000)) ** 2).mean(axis=0)
    assert fit_variance_factors(residual, peak_variance, np.zeros(20000), 16.0) == (a, b)


def test_the_published_formula(decoder_settings: Callable) -> None:
    """Equation (5): a wrist of score 0.9 moves an elbow of score 0.5."""
    settings = decoder_settings(mrm="paper")
    peaks, peak_index = elbow_and_wrist(FORWARD, (0.5, 0.9))
    refined = refine_positions(peaks, peak_index, FORWARD, settings)
    expected = (0.5 * ELBOW_POSITION + 0.9 * PREDICTED_ELBOW) / 1.4
    assert refined[0, ELBOW] == pytest.approx(expected)
    assert refined[0, WRIST] == pytest.approx(WRIST_POSITION)

    peaks.score[1] = 0.7  # not above MRM_MIN_SCORE
    refined = refine_positions(peaks, peak_index, FORWARD, settings)
    assert refined[0, ELBOW] == pytest.approx(ELBOW_POSITION)


def test_the_published_formula_from_parent_to_child(decoder_settings: Callable) -> None:
    """Equation (6) without reverse offsets: x_parent - d; with them the parent's own prediction."""
    settings = decoder_settings(mrm="paper")
    peaks, peak_index = elbow_and_wrist(FORWARD, (0.9, 0.5))
    refined = refine_positions(peaks, peak_index, FORWARD, settings)
    displacement = PREDICTED_ELBOW - WRIST_POSITION
    expected = (0.5 * WRIST_POSITION + 0.9 * (ELBOW_POSITION - displacement)) / 1.4
    assert refined[0, WRIST] == pytest.approx(expected)

    peaks, peak_index = elbow_and_wrist(BOTH_WAYS, (0.9, 0.5))
    refined = refine_positions(peaks, peak_index, BOTH_WAYS, settings)
    expected = (0.5 * WRIST_POSITION + 0.9 * PREDICTED_WRIST) / 1.4
    assert refined[0, WRIST] == pytest.approx(expected)


def test_off_keeps_the_peaks(decoder_settings: Callable) -> None:
    peaks, peak_index = elbow_and_wrist(FORWARD, (0.2, 1.0))
    refined = refine_positions(peaks, peak_index, FORWARD, decoder_settings(mrm="off"))
    assert refined[0, [ELBOW, WRIST]].tolist() == peaks.position.tolist()
    assert (np.delete(refined[0], [ELBOW, WRIST], axis=0) == 0).all()
