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

    position: (P, K, 2). found: (P, K) bool.  Joints are the same place when they are nearer than a twentieth of
    the smaller person's extent.
    """
    keep = np.ones(len(position), dtype=bool)
    for person in range(1, len(position)):
        better = np.flatnonzero(keep[:person])
        both = found[better] & found[person]
        extent = np.ptp(position[person][found[person]], axis=0).max(initial=0)
        near = np.linalg.norm(position[better] - position[person], axis=2) < max(0.05 * extent, 1.0)
        shared = (near & both).sum(axis=1) / max(found[person].sum(), 1)
        keep[person] = not (shared > 0.5).any()
    return keep
