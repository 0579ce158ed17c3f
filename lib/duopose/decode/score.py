"""Scores by which people are ranked, and duplicates.

The score of a person is the mean of its joint scores over all K joints; a missing joint counts 0. A
person with few or low peaks is less likely to match an annotated one.

A person at the position of a person with a higher score is usually a duplicate: networks give
second peaks beside the first. It is moved to the end of the ranking: a true positive there still
counts, and a false positive there does not lower AP.
"""

from __future__ import annotations

import numpy as np

# Two joints are at the same position when nearer than this fraction of the person's extent.
# Not critical: AP 55.65, 55.64, 55.59 with 0.02, 0.05, 0.15 (demo network, 200 validation images).
SAME_POSITION = 0.05
MIN_SAME_POSITION = 1.0  # pixels; for people of one joint, whose extent is 0
# A person is a duplicate when more than this fraction of its joints is at a better one's positions.
# Not critical: AP 55.64, 55.64, 55.67 with 0.3, 0.5, 0.7 (as above).
SAME_JOINTS = 0.5


def person_scores(scores: np.ndarray) -> np.ndarray:
    """(P,) from joint scores (P, K), 0 where missing."""
    return scores.mean(axis=1)


def find_duplicates(position: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(P,) bool: people most of whose found joints are at the positions of a better person's.

    position: (P, K, 2), in ranking order, best first. found: (P, K) bool. A duplicate is not
    compared with: three people in a row are not duplicates of each other one by one.
    """
    duplicate = np.zeros(len(position), dtype=bool)
    if len(position) < 2:
        return duplicate

    same_person = _same_person(position, found)
    for person in range(1, len(position)):
        better = ~duplicate[:person]
        duplicate[person] = (same_person[person, :person] & better).any()
    return duplicate


def _same_person(position: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(P, P) bool [i, j]: most of the found joints of person i are at person j's positions."""
    lowest = np.where(found[..., None], position, np.inf).min(axis=1)
    highest = np.where(found[..., None], position, -np.inf).max(axis=1)
    extent = np.maximum((highest - lowest).max(axis=1), 0)
    limit = np.maximum(SAME_POSITION * extent, MIN_SAME_POSITION).astype(np.float32)

    # NaN: a joint that was not found is at no position
    x, y = np.where(found, np.moveaxis(position, 2, 0), np.nan).astype(np.float32)
    squared = (x[:, None] - x) ** 2 + (y[:, None] - y) ** 2  # (P, P, K)
    near = squared < limit[:, None, None] ** 2
    return near.sum(axis=2) > SAME_JOINTS * found.sum(axis=1)[:, None]
