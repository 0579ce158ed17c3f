"""Ranking, and people found twice."""

from __future__ import annotations

import numpy as np
import pytest

from duopose.decode.score import find_duplicates, person_scores


def row_of_people(count: int) -> np.ndarray:
    """(count, 5, 2) people a hundred pixels tall, far from each other."""
    shape = np.array([[0, 0], [20, 30], [-20, 30], [10, 100], [-10, 100]], dtype=float)
    return shape + np.arange(count)[:, None, None] * [300.0, 0.0]


def test_a_missing_joint_counts_0() -> None:
    scores = np.array([[1.0, 0.5, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
    assert person_scores(scores) == pytest.approx([0.5, 0.0])


def test_a_person_at_the_position_of_a_better_one_is_a_duplicate() -> None:
    position = row_of_people(4)
    found = np.ones((4, 5), dtype=bool)
    position[2] = position[0] + 3  # nearer than 0.05 of the extent, 5 pixels
    position[3] = position[1] + 8
    assert find_duplicates(position, found).tolist() == [False, False, True, False]


def test_more_than_half_of_the_found_joints_decide() -> None:
    position = row_of_people(2)
    found = np.ones((2, 5), dtype=bool)
    position[1, :2] = position[0, :2]
    assert find_duplicates(position, found).tolist() == [False, False]  # two of five
    found[1, 3:] = False
    assert find_duplicates(position, found).tolist() == [False, True]  # two of three
    found[0, 0] = False  # one of three: the better person has no such joint
    assert find_duplicates(position, found).tolist() == [False, False]


def test_people_of_one_joint_are_the_same_within_one_pixel() -> None:
    position = np.zeros((3, 5, 2))
    position[1, 0] = [0.9, 0.0]
    position[2, 0] = [0.0, 1.1]
    found = np.zeros((3, 5), dtype=bool)
    found[:, 0] = True
    assert find_duplicates(position, found).tolist() == [False, True, False]


def test_duplicates_are_not_compared_with_others() -> None:
    """Three in a row, each near the one before only; the second one is a duplicate."""
    position = row_of_people(3)
    found = np.ones((3, 5), dtype=bool)
    position[1] = position[0] + [4, 0]
    position[2] = position[0] + [8, 0]
    assert find_duplicates(position, found).tolist() == [False, True, False]
    assert find_duplicates(position[:0], found[:0]).tolist() == []
