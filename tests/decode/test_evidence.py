"""Evidence: the quick form against the formula, and what is not known."""

from __future__ import annotations

import numpy as np
import pytest

from duopose.decode.evidence import (
    LOG_GAIN_OFFSET,
    RatioTable,
    height_ratio,
    log_ratio,
    squared_distances,
)


def test_a_table_of_ratios_is_the_formula() -> None:
    generator = np.random.default_rng(0)
    fixed, points = generator.uniform(0, 2000, (40, 2)), generator.uniform(0, 2000, (9, 2))
    points[:5] = fixed[:5] + generator.normal(0, 4, (5, 2))
    precision, factor = generator.uniform(0.01, 0.1, 40), generator.uniform(0.5, 2, 9)
    found = RatioTable(fixed, precision, LOG_GAIN_OFFSET, 0.02).ratio(points, factor)
    exact = ((points[:, None] - fixed[None]) ** 2).sum(axis=2) * factor[:, None] * precision
    assert np.allclose(
        found, log_ratio(exact, LOG_GAIN_OFFSET, 0.02), atol=0.05
    )  # float32, of squares of thousands of pixels
    assert found.max() > 1 and found.min() == pytest.approx(np.log(0.02))


def test_what_is_not_known_says_nothing() -> None:
    fixed = np.array([[1.0, 2.0], [np.nan, np.nan], [300.0, 2.0]])
    table = RatioTable(fixed, np.ones(3), 3.0, 0.02)
    found = table.ratio(
        np.array([[1.0, 2.0], [np.nan, np.nan], [1.0, 2.0]]), np.array([1.0, 1.0, np.nan])
    )
    assert found[0] == pytest.approx([3.0, 0.0, np.log(0.02)], abs=1e-4)
    assert (found[1:] == 0).all()
    assert RatioTable(fixed[1:2], np.ones(1), 3.0, 0.02).ratio(fixed[:1])[0, 0] == 0


def test_low_peaks_are_doubted_by_a_power_law_and_high_ones_all_alike() -> None:
    found = height_ratio(np.array([0.0625, 0.125, 0.25, 0.5, 1.0]), 0.25, 6.0)
    assert found == pytest.approx([-12 * np.log(2), -6 * np.log(2), 0, 0, 0])
    assert np.isfinite(height_ratio(np.array([0.0, -1.0]), 0.25, 6.0)).all()


def test_squared_distances() -> None:
    assert squared_distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [np.nan, 0.0]]))[
        0
    ] == pytest.approx([25, np.nan], nan_ok=True)
