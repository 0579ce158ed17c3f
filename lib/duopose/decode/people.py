"""The people of one image during grouping, and what follows from the peaks that they have.

Peaks are referred to by their row in `Peaks`; NONE stands for "no peak" (or "no person"). From
its peaks i (of the joints, and the centre peak c where there is one) a person gets

    tag     (1)  t_p = mean of the tags t_i
    centre  (2)  c_p = sum_i w_i c_i / sum_i w_i,   w_i = 1 / sigma_i^2
    radius  (3)  r_p = RADIUS_MARGIN * max_i |x_i - c_p|

where c_i is the centre predicted by peak i (peak + offset; a centre peak predicts its own
position).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from duopose.types import Peaks

NONE = -1

# Joints that are still to be found may be this much farther from the centre than the farthest
# found joint. Chosen on COCO val annotations with the perfect-network test.
RADIUS_MARGIN = 1.5

# Standard deviation of a centre peak's position, in units of TEST.OFFSET_SIGMA: it is read
# from the heatmap with sub-pixel precision, so it is trusted more than a centre predicted by
# an offset. Chosen on COCO val annotations with the perfect-network test.
CENTRE_PEAK_SIGMA = 0.5

# Smallest radius of a person during grouping, in units of TEST.OFFSET_SIGMA: below it, errors
# of the predicted centres dominate the distances. Chosen like CENTRE_PEAK_SIGMA.
MIN_RADIUS = 2.0


def gather(values: np.ndarray, index: np.ndarray, missing: float) -> np.ndarray:
    """values[index] for values (M, ...) and an index of any shape; `missing` where it is NONE."""
    if not len(values):
        return np.full((*index.shape, *values.shape[1:]), missing)

    taken = values[index]
    taken[index == NONE] = missing
    return taken


@dataclass
class GroupedPeople:
    """P people of one image; K joint types, T numbers a tag. Frame: the merged input."""

    peak_index: np.ndarray  # (P, K) int: row in `Peaks`, NONE where the joint has no peak
    centre_peak: np.ndarray  # (P,) int: row in `Peaks`, NONE for people without a centre peak
    tag: np.ndarray  # (P, T) mean tag
    num_tags: np.ndarray  # (P,) number of tags in the mean
    centre: np.ndarray  # (P, 2) x, y; NaN where unknown
    radius: (
        np.ndarray
    )  # (P,) distance from the centre within which joints are expected, NaN unknown

    @staticmethod
    def without_joints(
        centre_peak: np.ndarray, tag: np.ndarray, centre: np.ndarray, num_joints: int
    ) -> GroupedPeople:
        """People of whom only tag (P, T) and centre (P, 2) are known."""
        count = len(centre_peak)
        return GroupedPeople(
            peak_index=np.full((count, num_joints), NONE),
            centre_peak=centre_peak,
            tag=tag.copy(),
            num_tags=np.ones(count),
            centre=centre.copy(),
            radius=np.full(count, np.nan),
        )

    def __len__(self) -> int:
        return len(self.centre_peak)

    @property
    def present(self) -> np.ndarray:
        """(P, K) bool: the joint has a peak."""
        return self.peak_index != NONE

    def concatenate(self, others: GroupedPeople) -> GroupedPeople:
        """These people, then the others."""
        names = [field.name for field in fields(self)]
        columns = {}
        for name in names:
            columns[name] = np.concatenate([getattr(self, name), getattr(others, name)])
        return GroupedPeople(**columns)

    def select(self, rows: np.ndarray) -> GroupedPeople:
        """The people of an index or a mask."""
        names = [field.name for field in fields(self)]
        return GroupedPeople(**{name: getattr(self, name)[rows] for name in names})

    def update_from_peaks(self, peaks: Peaks, offset_sigma: float, min_radius: float = 0.0) -> None:
        """Tag, centre and radius again, from the peaks that the people have now.

        offset_sigma: TEST.OFFSET_SIGMA in pixels. min_radius: in pixels.
        """
        index = np.column_stack([self.peak_index, self.centre_peak])

        self.num_tags = np.maximum(np.count_nonzero(index != NONE, axis=1), 1)
        self.tag = mean_tag(peaks, index, self.tag)

        self.centre = mean_centre(peaks, index, offset_sigma, self.centre)
        radius = expected_radius(peaks, self.peak_index, self.centre)
        self.radius = np.maximum(radius, min_radius)


def mean_tag(peaks: Peaks, index: np.ndarray, default: np.ndarray) -> np.ndarray:
    """Equation (1): (P, T) mean tag of the peaks `index` (P, N); `default` (P, T) without any."""
    count = np.count_nonzero(index != NONE, axis=1)[:, None]
    total = gather(peaks.tag, index, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), default)


def mean_centre(
    peaks: Peaks, index: np.ndarray, offset_sigma: float, default: np.ndarray
) -> np.ndarray:
    """Equation (2): (P, 2) precision-weighted mean of the centres predicted by the peaks `index`.

    index: (P, K + 1), the last column is the centre peak. People without any predicted centre (all
    their joints are torso joints, or the baseline) get the mean position of their joints; those
    without peaks `default` (P, 2).
    """
    predicted = gather(peaks.predicted_centre, index, np.nan)
    sigma = gather(peaks.offset_sigma, index, np.inf)
    sigma[:, -1] = CENTRE_PEAK_SIGMA * offset_sigma

    known = ~np.isnan(predicted[..., 0])
    weight = np.where(known, 1 / sigma**2, 0.0)
    total = np.where(known[..., None], weight[..., None] * predicted, 0.0).sum(axis=1)
    has_prediction = known.any(axis=1)
    total_weight = np.where(has_prediction, weight.sum(axis=1), 1.0)

    joints = index[:, :-1]
    count = np.count_nonzero(joints != NONE, axis=1)[:, None]
    mean_position = gather(peaks.position, joints, 0.0).sum(axis=1) / np.maximum(count, 1)
    fallback = np.where(count > 0, mean_position, default)

    return np.where(has_prediction[:, None], total / total_weight[:, None], fallback)


def expected_radius(peaks: Peaks, peak_index: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Equation (3): (P,) for peaks (P, K) and centres (P, 2); NaN where it would be 0."""
    position = gather(peaks.position, peak_index, np.nan)
    distance = np.linalg.norm(position - centre[:, None], axis=2)
    farthest = np.where(peak_index != NONE, distance, 0.0).max(axis=1, initial=0.0)
    return np.where(farthest > 0, RADIUS_MARGIN * farthest, np.nan)
