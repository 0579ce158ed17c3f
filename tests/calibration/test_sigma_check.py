"""Bins of stated against observed errors, on errors that are known."""

from __future__ import annotations

import numpy as np
import pytest

from duopose.calibration import sigma_check
from duopose.calibration.calibrate import DecodedPeople
from duopose.calibration.sigma_check import SigmaCheck, check_sigmas, sigma_bins


def decoded(factor: float) -> DecodedPeople:
    """1,000 people whose errors are `factor` times as large as stated."""
    rng = np.random.default_rng(0)
    sigma = rng.uniform(1, 6, (1000, 17))
    error = np.abs(rng.normal(0, factor * sigma))
    is_outlier = np.zeros(sigma.shape, dtype=bool)
    error[:, 0] = np.nan
    is_outlier[:, 0] = True
    sigma[:, 1] = 0  # not found
    ones = np.ones(1000)
    kind = np.zeros(sigma.shape, dtype=int)
    return DecodedPeople(ones[:, None], ones, ones, sigma, kind, error, sigma, is_outlier)


def check(monkeypatch: pytest.MonkeyPatch, factor: float) -> SigmaCheck:
    monkeypatch.setattr(sigma_check, "decode_people", lambda *_: decoded(factor))
    return check_sigmas(None, [])  # type: ignore[arg-type]


def test_true_sigmas(monkeypatch: pytest.MonkeyPatch) -> None:
    result = check(monkeypatch, 1.0)
    assert result.num_joints == 15_000 and result.num_outliers == 1000
    assert [one.count for one in result.bins] == [3000] * 5
    assert all(0.93 < one.ratio < 1.07 for one in result.bins)
    stated = [one.stated for one in result.bins]
    assert stated == sorted(stated) and stated[0] < 2 and stated[-1] > 5
    assert result.rank_correlation > 0.3
    assert len(result.table().splitlines()) == 8


def test_sigmas_that_are_half_of_the_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(1.9 < one.ratio < 2.1 for one in check(monkeypatch, 2.0).bins)


def test_sigmas_without_information() -> None:
    bins = sigma_bins(np.ones(100), np.linspace(0, 1, 100))
    assert [one.count for one in bins] == [20] * 5 and bins[0].stated == 1
