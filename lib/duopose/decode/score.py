"""The score by which people are ranked: the mean over all K joints of their scores, a missing joint counting 0.

A person of whom little was found, or found in faint peaks, is less likely to match a real one well. One who lies where
a better one does (learned maps have second peaks beside the first) is most often the same person found twice: such people
go to the end of the ranking, where a real one is still found and a false one costs nothing.
"""

from __future__ import annotations

import numpy as np


def person_scores(score: np.ndarray) -> np.ndarray:
    """(P,) from joint scores (P, K)."""
    return score.mean(axis=1)


def not_duplicates(position: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(P,) bool: False for people, in ranking order, most of whose found joints lie where a better person's do.

    position: (P, K, 2). found: (P, K) bool. Joints are the same place when they are nearer than a twentieth of the extent of
    the person ranked lower.
    """
    keep = np.ones(len(position), dtype=bool)
    if len(position) < 2:
        return keep
    low, high = (np.where(found[..., None], position, other) for other in (np.inf, -np.inf))
    extent = np.maximum((high.max(axis=1) - low.min(axis=1)).max(axis=1), 0)
    limit = np.maximum(0.05 * extent, 1.0).astype(np.float32)
    places = np.where(found[..., None], position, np.nan).astype(
        np.float32
    )  # what was not found is near nothing
    x, y = np.ascontiguousarray(places.T)
    apart = (x[:, :, None] - x[:, None]) ** 2 + (y[:, :, None] - y[:, None]) ** 2
    near = np.count_nonzero(apart < limit[:, None] ** 2, axis=0)
    same = np.tril(near > 0.5 * found.sum(axis=1)[:, None], k=-1)
    for person in np.flatnonzero(same.any(axis=1)):
        keep[person] = not (same[person] & keep).any()
    return keep
