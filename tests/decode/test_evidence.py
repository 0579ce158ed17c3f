"""Evidence: equation (1), missing measurements, and what is derived from the offsets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from duopose.decode.decoder_settings import OVERLAP_SIGMA
from duopose.decode.evidence import (
    GroupingEvidence,
    log_likelihood_ratio,
    max_offset_length,
    offset_sigma,
    predicted_centres,
    score_term,
    squared_distances,
    tag_term,
)
from duopose.decode.people import NONE, GroupedPeople
from duopose.skeletons import COCO
from duopose.types import Peaks

WRIST = COCO.index("left_wrist")
ELBOW = COCO.index("left_elbow")
SHOULDER = COCO.index("left_shoulder")
LAYOUT = COCO.offset_layout(reverse=False)


def make_peaks(joint: list[int], position: np.ndarray, score: float = 1.0) -> Peaks:
    """Peaks without offsets, all of tag 0 and sigma 1."""
    count = len(joint)
    return Peaks(
        joint=np.array(joint),
        position=position,
        score=np.full(count, score),
        nms_suppressed=np.zeros(count, dtype=bool),
        tag=np.zeros((count, 1)),
        tags_around=np.zeros((count, 9, 1)),
        predicted_target=np.full((count, LAYOUT.num_edges, 2), np.nan),
        max_offset_length=np.zeros(count),
        offset_sigma=np.ones(count),
        predicted_centre=np.full((count, 2), np.nan),
        windows_overlap=np.zeros(count, dtype=bool),
    )


def test_equation_1() -> None:
    squared = np.array([0.0, 4.0, 1e9, np.nan])
    ratio = log_likelihood_ratio(squared, 2.0, log_gain=3.0, outlier_probability=0.02)
    assert ratio == pytest.approx([3.0, 2.0, np.log(0.02), 0.0])

    variance = np.array([1.0, np.nan, 2.0, 1.0])
    ratio = log_likelihood_ratio(np.full(4, 2.0), variance, 3.0, 0.02)
    assert ratio == pytest.approx([2.0, 0.0, 2.5, 2.0])


def test_squared_distances() -> None:
    second = np.array([[3.0, 4.0], [np.nan, 0.0]])
    squared = squared_distances(np.zeros((1, 2)), second)
    assert squared[0] == pytest.approx([25, np.nan], nan_ok=True)


def test_tag_term_has_the_variance_of_a_mean_of_tags(decoder_settings: Callable) -> None:
    peaks = make_peaks([WRIST], np.zeros((1, 2)))
    settings = decoder_settings(tag_sigma=0.5)
    tag, centre = np.array([[1.0], [1.0]]), np.zeros((2, 2))
    people = GroupedPeople.without_joints(np.full(2, NONE), tag, centre, 17)
    people.num_tags = np.array([1, 4])
    expected = [1.5 - 1 / (2 * 0.25 * 2), 1.5 - 1 / (2 * 0.25 * 1.25)]
    assert tag_term(people, peaks, settings)[:, 0] == pytest.approx(expected)


def test_score_term_is_a_power_law_up_to_the_confident_score(decoder_settings: Callable) -> None:
    settings = decoder_settings(confident_score=0.25, score_weight=6.0)
    peaks = make_peaks([0] * 5, np.zeros((5, 2)))
    peaks.score[:] = [0.0625, 0.125, 0.25, 0.5, 1.0]
    expected = [-12 * np.log(2), -6 * np.log(2), 0, 0, 0]
    assert score_term(peaks, settings) == pytest.approx(expected)

    peaks.score[:] = [0.0, -1.0, 0.0, 0.0, 0.0]
    assert np.isfinite(score_term(peaks, settings)).all()


def test_pairwise_evidence_is_symmetric_and_zero_without_an_edge(
    decoder_settings: Callable,
) -> None:
    position = np.array([[10.0, 10.0], [20.0, 10.0], [30.0, 13.0]])
    peaks = make_peaks([SHOULDER, ELBOW, WRIST], position)
    peaks.predicted_target[1, LAYOUT.edge(ELBOW, SHOULDER)] = [10.0, 12.0]
    peaks.predicted_target[2, LAYOUT.edge(WRIST, ELBOW)] = [20.0, 10.0]
    evidence = GroupingEvidence(peaks, COCO, LAYOUT, decoder_settings())

    assert evidence.pairwise[0, 1] == pytest.approx(3.0 - 2.0)
    assert evidence.pairwise[1, 2] == pytest.approx(3.0)
    assert evidence.pairwise[0, 2] == 0
    assert (evidence.pairwise[:3] == evidence.pairwise[:3].T).all()
    assert (evidence.pairwise[NONE] == 0).all()
    assert sorted(evidence.neighbours[ELBOW]) == sorted([SHOULDER, WRIST])


def test_offsets_of_a_peak() -> None:
    position = np.array([[10.0, 10.0], [20.0, 10.0], [7.0, 8.0]])
    peaks = make_peaks([SHOULDER, ELBOW, COCO.centre], position)
    target = peaks.predicted_target
    target[1, LAYOUT.edge(ELBOW, SHOULDER)] = [20.0, 15.0]
    target[1, LAYOUT.edge(ELBOW, COCO.centre)] = [14.0, 18.0]

    length = max_offset_length(position, target, LAYOUT.num_forward)
    assert length == pytest.approx([10.0, 10.0, 10.0])  # of others, where a peak has no offsets

    overlap = np.array([False, True, False])
    sigma = offset_sigma(length, overlap, floor=3.0, relative=0.4)
    assert sigma == pytest.approx([5.0, np.hypot(3, 10 * OVERLAP_SIGMA), 5.0])

    centre = predicted_centres(peaks.joint, position, target, LAYOUT, COCO.centre)
    assert np.isnan(centre[0]).all()
    assert centre[1:] == pytest.approx(np.array([[14.0, 18.0], [7.0, 8.0]]))
