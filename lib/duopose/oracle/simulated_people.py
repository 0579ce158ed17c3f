"""The people of one image as a simulated network predicts them, before maps are rendered.

`ideal_people` makes the predictions of a perfect network from annotations, `noise` disturbs them,
`ideal_maps` renders them. Positions are in one frame; `in_other_frame` and `mirrored` change it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from duopose.skeletons import OffsetLayout, Skeleton


@dataclass(frozen=True)
class FalsePeaks:
    """N heatmap peaks that belong to no person."""

    joint: np.ndarray  # (N,) int
    position: np.ndarray  # (N, 2) x, y
    score: np.ndarray  # (N,)
    tag: np.ndarray  # (2, N) in the plain and in the mirrored pass


NO_FALSE_PEAKS = FalsePeaks(
    joint=np.zeros(0, int), position=np.zeros((0, 2)), score=np.zeros(0), tag=np.zeros((2, 0))
)


@dataclass(frozen=True)
class SimulatedPeople:
    """P people with the ground truth and the predictions of each joint; joint K is the centre.

    Positions are x, y in pixels of one network input. E: edges of the `OffsetLayout`.
    """

    position: np.ndarray  # (P, K+1, 2) ground truth; offsets point to it
    labelled: np.ndarray  # (P, K+1) bool
    # (P, K+1, 2) predicted: position of the heatmap peak, of the tags and of the offset window
    peak_position: np.ndarray
    peak_score: np.ndarray  # (P, K+1) value of the heatmap peak; 0: there is none
    tag: np.ndarray  # (2, P, K+1) in the plain and in the mirrored pass
    offset_error: np.ndarray  # (P, E, 2) x, y added to each offset, input pixels
    person_size: np.ndarray  # (P,) square root of the person's area, input pixels
    false_peaks: FalsePeaks


def ideal_people(
    keypoints: np.ndarray, person_size: np.ndarray, layout: OffsetLayout
) -> SimulatedPeople:
    """Predictions without errors: scores 1, and the index of the person as its tag.

    keypoints: (P, K, 3) x, y, visibility in pixels of the network input, at least one labelled
    joint a person. person_size: (P,). The centre is the mean position of the labelled joints.
    """
    num_people = len(keypoints)
    is_labelled = keypoints[..., 2] > 0
    positions = keypoints[..., :2]

    total = np.where(is_labelled[..., None], positions, 0).sum(axis=1)
    centre = total / is_labelled.sum(axis=1)[:, None]
    with_centre = np.concatenate([positions, centre[:, None]], axis=1).astype(np.float64)
    labelled = np.column_stack([is_labelled, np.ones(num_people, dtype=bool)])

    person_index = np.arange(num_people, dtype=np.float64)
    tag = np.broadcast_to(person_index[None, :, None], (2, *labelled.shape))
    return SimulatedPeople(
        position=with_centre,
        labelled=labelled,
        peak_position=with_centre.copy(),
        peak_score=labelled.astype(np.float64),
        tag=tag.copy(),
        offset_error=np.zeros((num_people, layout.num_edges, 2)),
        person_size=person_size,
        false_peaks=NO_FALSE_PEAKS,
    )


def mirrored(
    people: SimulatedPeople, width: int, skeleton: Skeleton, layout: OffsetLayout
) -> SimulatedPeople:
    """The same people in the mirrored input of that width: x' = width - 1 - x.

    Left and right joints change places, and so do the tags of the two passes.
    """
    flip_index = skeleton.flip_index_with_centre
    sign = np.array([-1.0, 1.0])
    shift = np.array([width - 1.0, 0.0])
    false_peaks = people.false_peaks

    return SimulatedPeople(
        position=people.position[:, flip_index] * sign + shift,
        labelled=people.labelled[:, flip_index],
        peak_position=people.peak_position[:, flip_index] * sign + shift,
        peak_score=people.peak_score[:, flip_index],
        tag=people.tag[::-1, :, flip_index],
        offset_error=people.offset_error[:, layout.flip_edge] * sign,
        person_size=people.person_size,
        false_peaks=FalsePeaks(
            joint=flip_index[false_peaks.joint],
            position=false_peaks.position * sign + shift,
            score=false_peaks.score,
            tag=false_peaks.tag[::-1],
        ),
    )


def in_other_frame(
    people: SimulatedPeople, factor: np.ndarray, shift: np.ndarray
) -> SimulatedPeople:
    """The people in another frame: x' = factor x + shift, (2,) each.

    Offset errors keep their numbers: they are in pixels of the input, whatever its scale is.
    """
    false_peaks = people.false_peaks
    return replace(
        people,
        position=people.position * factor + shift,
        peak_position=people.peak_position * factor + shift,
        person_size=people.person_size * factor.mean(),
        false_peaks=replace(false_peaks, position=false_peaks.position * factor + shift),
    )
