"""Numbers for people that stay the same from frame to frame.

Each person of the last frames is moved on by its velocity and compared with the people of the new
frame by OKS, with sigmas that are wider because people move. The assignment of the largest sum is
taken (Hungarian method). docs/predict.md compares it with the trackers of the package `trackers`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from duopose.decode.mrm import person_size
from duopose.skeletons import Skeleton

# Chosen on other drawn videos than those of docs/predict.md.
SIGMA_FACTOR = 3.0  # on the skeleton's sigmas
MIN_SIMILARITY = 0.1
MIN_COMMON_JOINTS = 3
VELOCITY_MEMORY = 0.8  # weight of the earlier velocity, in each frame
MIN_SIZE = 8.0  # pixels


@dataclass
class Track:
    """One person of the video."""

    number: int
    keypoints: np.ndarray  # (K, 3) x, y, score; moved on by the velocity where not seen
    velocity: np.ndarray  # (2,) pixels a frame
    num_missed: int = 0  # frames since it was seen

    def move(self) -> None:
        """To where the person is expected in the next frame."""
        self.keypoints[:, :2] += self.velocity
        self.num_missed += 1

    def update(self, keypoints: np.ndarray) -> None:
        """The person was seen with keypoints (K, 3)."""
        both = (self.keypoints[:, 2] > 0) & (keypoints[:, 2] > 0)
        error = np.median(keypoints[both, :2] - self.keypoints[both, :2], axis=0)
        self.velocity = self.velocity + (1 - VELOCITY_MEMORY) * error / self.num_missed

        seen = keypoints[:, 2] > 0
        self.keypoints[:, :2] += error
        self.keypoints[seen] = keypoints[seen]
        self.num_missed = 0


class PoseTracker:
    """Tracks of one video; people who are away for more than `max_missed` frames get new ids."""

    def __init__(self, skeleton: Skeleton, max_missed: int) -> None:
        self.sigmas = np.array(skeleton.sigmas)
        self.max_missed = max_missed
        self.tracks: list[Track] = []
        self.num_tracks = 0

    def update(self, keypoints: np.ndarray) -> np.ndarray:
        """(P,) ids, from 1, of the people (P, K, 3) of the next frame."""
        for track in self.tracks:
            track.move()
        self.tracks = [track for track in self.tracks if track.num_missed <= self.max_missed + 1]

        similarity = self._similarities(keypoints)
        rows, people = linear_sum_assignment(similarity, maximize=True)
        ids = np.zeros(len(keypoints), dtype=int)
        for row, person in zip(rows, people):
            if similarity[row, person] >= MIN_SIMILARITY:
                self.tracks[row].update(keypoints[person])
                ids[person] = self.tracks[row].number

        for person in np.flatnonzero(ids == 0):
            self.num_tracks += 1
            ids[person] = self.num_tracks
            new = np.array(keypoints[person], dtype=float)
            self.tracks.append(Track(self.num_tracks, new, np.zeros(2)))
        return ids

    def _similarities(self, keypoints: np.ndarray) -> np.ndarray:
        """(tracks, P) OKS with wider sigmas, over the joints that both have; 0 with too few."""
        similarity = np.zeros((len(self.tracks), len(keypoints)))
        size = np.maximum(person_size(keypoints[..., :2], keypoints[..., 2] > 0), MIN_SIZE)
        scale = 2 * SIGMA_FACTOR * self.sigmas * size[:, None]
        for row, track in enumerate(self.tracks):
            both = (track.keypoints[:, 2] > 0) & (keypoints[..., 2] > 0)
            squared = ((keypoints[..., :2] - track.keypoints[:, :2]) ** 2).sum(axis=2)
            total = (np.exp(-squared / (2 * scale**2)) * both).sum(axis=1)
            count = both.sum(axis=1)
            similarity[row] = np.where(count >= MIN_COMMON_JOINTS, total / np.maximum(count, 1), 0)
        return similarity
