"""Ranking, and people found twice."""

from __future__ import annotations

import numpy as np
import pytest

from duopose.decode.score import not_duplicates, person_scores


def people(count: int) -> np.ndarray:
    """(count, 5, 2) people a hundred pixels tall, far from each other."""
    shape = np.array([[0, 0], [20, 30], [-20, 30], [10, 100], [-10, 100]], dtype=float)
    return shape + np.arange(count)[:, None, None] * [300.0, 0.0]


def test_a_missing_joint_counts_nothing() -> None:
    assert person_scores(np.array([[1.0, 0.5, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0]])) == pytest.approx(
        [0.5, 0.0]
    )


def test_who_lies_where_a_better_one_does_is_a_duplicate() -> None:
    place, found = people(4), np.ones((4, 5), dtype=bool)
    place[2] = place[0] + 3  # nearer than a twentieth of the extent, 5 pixels
    place[3] = place[1] + 8
    assert not_duplicates(place, found).tolist() == [True, True, False, True]


def test_most_of_the_found_joints_decide() -> None:
    place, found = people(2), np.ones((2, 5), dtype=bool)
    place[1, :2] = place[0, :2]
    assert not_duplicates(place, found).tolist() == [True, True]  # two of five
    found[1, 3:] = False
    assert not_duplicates(place, found).tolist() == [True, False]  # two of three
    found[0, 0] = False
    assert not_duplicates(place, found).tolist() == [
        True,
        True,
    ]  # what the better one lacks is shared with nobody


def test_a_duplicate_hides_nobody() -> None:
    """Three in a row, each near the one before only: the third is near a duplicate, which does not count."""
    place, found = people(3), np.ones((3, 5), dtype=bool)
    place[1], place[2] = place[0] + [4, 0], place[0] + [8, 0]
    assert not_duplicates(place, found).tolist() == [True, False, True]
    assert not_duplicates(place[:0], found[:0]).tolist() == []
