"""The joint fit of grouping: its likelihood by hand, and what it does with dependent evidence."""

from __future__ import annotations

import numpy as np
import pytest

from duopose.calibration.fit_grouping import Choices, negative_log_likelihood

# log tag sigma, gain, log offset sigma, its two relative parts, gain, log outlier probability, cost
PARAMETERS = np.array([0.0, 2.0, np.log(3.0), np.log(0.1), np.log(0.2), 1.5, -4.0, 0.5])
NO_OFFSET = np.nan


def choices(first: list[int], is_true: list[bool], **columns: list[float]) -> Choices:
    """Peaks without neighbours; columns that are not given are 0."""
    size = len(is_true)
    zeros = np.zeros(size)
    values = {name: np.array(value, dtype=float) for name, value in columns.items()}
    residual = values.get("residual", np.full(size, NO_OFFSET))
    return Choices(
        first=np.array(first),
        is_true=np.array(is_true),
        peak=values.get("peak", zeros),
        tag=values.get("tag", zeros),
        distance=zeros,
        residual=residual[:, None],
        length=values.get("length", zeros)[:, None],
        overlap=np.zeros((size, 1), dtype=bool),
    )


def test_one_choice_of_two_peaks_or_none() -> None:
    """Logits: 1 + 2 - 0 - 0.5 = 2.5 and 0 + 2 - 8/2 - 0.5 = -2.5."""
    two = choices([0], [True, False], peak=[1.0, 0.0], tag=[0.0, 8.0])
    total = 1 + np.exp(2.5) + np.exp(-2.5)
    assert negative_log_likelihood(two, PARAMETERS) == pytest.approx(np.log(total) - 2.5)

    none = choices([0], [False, False], peak=[1.0, 0.0], tag=[0.0, 8.0])
    assert negative_log_likelihood(none, PARAMETERS) == pytest.approx(np.log(total))


def test_the_mean_over_choices_of_different_size() -> None:
    both = choices([0, 1], [True, False, True], tag=[0.0, 0.0, 8.0])
    alone = choices([0], [True], tag=[0.0])
    pair = choices([0], [False, True], tag=[0.0, 8.0])
    parts = [negative_log_likelihood(part, PARAMETERS) for part in (alone, pair)]
    assert negative_log_likelihood(both, PARAMETERS) == pytest.approx(np.mean(parts))


def test_an_offset_counts_by_its_variance_and_not_at_all_where_there_is_none() -> None:
    """Variance 3^2 + (0.1 * 40)^2 = 25, ratio 1.5 - 50 / (2 * 25) = 0.5."""
    one = choices([0], [True], residual=[50.0], length=[40.0])
    logit = 2.0 + 0.5 - 0.5
    assert negative_log_likelihood(one, PARAMETERS) == pytest.approx(np.log1p(np.exp(-logit)))

    without = choices([0], [True])
    logit = 2.0 - 0.5
    assert negative_log_likelihood(without, PARAMETERS) == pytest.approx(np.log1p(np.exp(-logit)))


def test_far_offsets_end_at_the_outlier_probability() -> None:
    far = choices([0], [True], residual=[1e6], length=[40.0])
    logit = 2.0 - 4.0 - 0.5
    assert negative_log_likelihood(far, PARAMETERS) == pytest.approx(np.log1p(np.exp(-logit)))
