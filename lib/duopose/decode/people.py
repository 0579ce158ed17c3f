"""What is known of the people of one image while they are put together, and what follows from the peaks they have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duopose.types import Peaks

NOBODY = -1
RADIUS_MARGIN = 1.5  # joints may lie so much further from the centre than the furthest found one


@dataclass
class People:
    """P people; rows are people, never tags."""

    member: np.ndarray  # (P, K) index of the peak, NOBODY where there is none
    seed: np.ndarray  # (P,) index of the centre peak, NOBODY for people without
    tag: np.ndarray  # (P, T)
    evidence: np.ndarray  # (P,) number of tags averaged
    centre: np.ndarray  # (P, 2), NaN where nothing says where it is
    radius: np.ndarray  # (P,) how far from the centre joints may lie, NaN where unknown

    @staticmethod
    def start(seed: np.ndarray, tag: np.ndarray, centre: np.ndarray, joints: int) -> People:
        """People of whom only tag and centre are known."""
        member = np.full((len(seed), joints), NOBODY)
        return People(
            member, seed, tag.copy(), np.ones(len(seed)), centre.copy(), np.full(len(seed), np.nan)
        )

    @property
    def present(self) -> np.ndarray:
        """(P, K) bool."""
        return self.member != NOBODY

    def join(self, more: People) -> People:
        """These people, then `more`."""
        return People(
            *(
                np.concatenate([getattr(self, name), getattr(more, name)])
                for name in self.__dataclass_fields__
            )
        )

    def only(self, keep: np.ndarray) -> People:
        """The people of an index or mask."""
        return People(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))

    def estimate(
        self, peaks: Peaks, votes: np.ndarray, precision: np.ndarray, seed_precision: float
    ) -> None:
        """Tags, centres and radii from the members.

        votes: (M, 2) of the peaks for their person's centre, NaN where they have none; precision: (M,) 1 / variance of a vote;
        seed_precision: of a centre peak. Who has neither gets the mean of the members' places as centre.
        """
        present, seeded = self.present, self.seed != NOBODY
        index = np.where(present, self.member, 0)
        tags = np.where(present[..., None], peaks.tag[index], 0).sum(axis=1) + np.where(
            seeded[:, None], peaks.tag[self.seed], 0
        )
        count = present.sum(axis=1)
        self.evidence = np.maximum(count + seeded, 1)
        known = count + seeded > 0
        self.tag = np.where(known[:, None], tags / self.evidence[:, None], self.tag)
        usable = present & ~np.isnan(votes[index, 0])
        weight = np.where(usable, precision[index], 0.0)
        total = (weight[..., None] * np.where(usable[..., None], votes[index], 0)).sum(axis=1)
        own = seed_precision * seeded
        total += own[:, None] * np.where(seeded[:, None], peaks.position[self.seed], 0)
        weights = weight.sum(axis=1) + own
        place = np.where(present[..., None], peaks.position[index], 0)
        mean = place.sum(axis=1) / np.maximum(count, 1)[:, None]
        voted = (weights > 0)[:, None]
        fallback = np.where((count > 0)[:, None], mean, self.centre)
        self.centre = np.where(voted, total / np.where(voted, weights[:, None], 1), fallback)
        distance = np.where(
            present, np.linalg.norm(peaks.position[index] - self.centre[:, None], axis=2), 0
        )
        furthest = distance.max(axis=1, initial=0)
        self.radius = np.where(furthest > 0, RADIUS_MARGIN * furthest, np.nan)
