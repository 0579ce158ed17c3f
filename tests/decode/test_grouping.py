"""Grouping: crossing people, missing centres, permutations, and the state of a person."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from duopose.decode.associative_embedding import TagGrouper
from duopose.decode.evidence import GroupingEvidence
from duopose.decode.grouping import Grouper, assign_joint, greedy_groups
from duopose.decode.people import CENTRE_PEAK_SIGMA, NONE, RADIUS_MARGIN, GroupedPeople, gather
from duopose.skeletons import COCO
from duopose.types import Peaks

LAYOUT = COCO.offset_layout(reverse=True)
NO_EDGES = np.zeros((0, 2))


def peaks_of_people(positions: np.ndarray, tags: np.ndarray, with_centre: np.ndarray) -> Peaks:
    """Perfect peaks of people (P, K, 2): joint by joint, the first person first; then centres."""
    num_people, num_joints = positions.shape[:2]
    centres = positions.mean(axis=1)
    joint = np.repeat(np.arange(num_joints), num_people)
    person = np.tile(np.arange(num_people), num_joints)
    owner_of_centre = np.flatnonzero(with_centre)
    joint = np.append(joint, np.full(len(owner_of_centre), num_joints))
    person = np.append(person, owner_of_centre)

    points = np.concatenate([positions, centres[:, None]], axis=1)
    predicted = np.full((len(joint), LAYOUT.num_edges, 2), np.nan)
    peak, edge = np.nonzero(joint[:, None] == LAYOUT.source)
    predicted[peak, edge] = points[person[peak], LAYOUT.target[edge]]

    predicted_centre = centres[person]
    predicted_centre[np.isin(joint, COCO.torso_indices)] = np.nan
    tag = tags[person, None]
    return Peaks(
        joint=joint,
        position=points[person, joint],
        score=np.ones(len(joint)),
        nms_suppressed=np.zeros(len(joint), dtype=bool),
        tag=tag,
        tags_around=np.repeat(tag[:, None], 9, axis=1),
        predicted_target=predicted,
        max_offset_length=np.full(len(joint), 50.0),
        offset_sigma=np.full(len(joint), 5.0),
        predicted_centre=predicted_centre,
        windows_overlap=np.zeros(len(joint), dtype=bool),
    )


def people_side_by_side(count: int, distance: float) -> np.ndarray:
    """(P, K, 2) different random people whose centres are `distance` pixels apart."""
    generator = np.random.default_rng(1)
    shapes = generator.uniform(-60, 60, (count, COCO.num_keypoints, 2))
    return shapes + 200 + distance * np.arange(count)[:, None, None] * [1, 0]


def found_sets(people: GroupedPeople) -> set[tuple[int, ...]]:
    return {tuple(row.tolist()) for row in people.peak_index}


def true_rows(count: int) -> set[tuple[int, ...]]:
    return {tuple(range(person, 17 * count, count)) for person in range(count)}


@pytest.mark.parametrize("same_tags", [False, True])
def test_two_crossing_people(same_tags: bool, decoder_settings: Callable) -> None:
    """Bodies overlap; with equal tags only the offsets can separate the limbs."""
    tags = np.array([0.0, 0.0 if same_tags else 2.0])
    peaks = peaks_of_people(people_side_by_side(2, 30.0), tags, np.ones(2))
    people = Grouper(COCO, LAYOUT, decoder_settings()).group(peaks)
    assert found_sets(people) == true_rows(2)


def test_a_person_without_a_centre_peak_is_found(decoder_settings: Callable) -> None:
    tags = np.array([0.0, 2.0, 4.0])
    peaks = peaks_of_people(people_side_by_side(3, 80.0), tags, np.array([1, 0, 1]))
    people = Grouper(COCO, LAYOUT, decoder_settings()).group(peaks)
    assert found_sets(people) == true_rows(3)
    assert sorted(people.centre_peak.tolist()) == [NONE, 51, 52]


def test_order_of_people_does_not_matter(decoder_settings: Callable) -> None:
    positions, tags = people_side_by_side(4, 40.0), np.arange(4.0)
    order = np.array([2, 0, 3, 1])
    grouper = Grouper(COCO, LAYOUT, decoder_settings())
    straight = peaks_of_people(positions, tags, np.ones(4))
    permuted = peaks_of_people(positions[order], tags[order], np.ones(4))
    first, second = (
        {tuple(peaks.position[row].ravel()) for row in grouper.group(peaks).peak_index}
        for peaks in (straight, permuted)
    )
    assert first == second and len(first) == 4


def test_a_joint_is_assigned_optimally_not_greedily(decoder_settings: Callable) -> None:
    """Both people prefer peak 0; the sum is largest if the first one takes peak 1."""
    peaks = peaks_of_people(people_side_by_side(2, 30.0), np.zeros(2), np.ones(2))
    evidence = GroupingEvidence(peaks, COCO, LAYOUT, decoder_settings())
    unary = np.zeros((2, 34), np.float32)
    unary[:, :2] = [[5.0, 4.0], [4.0, 1.0]]
    peak_index = np.full((2, 17), NONE)
    assign_joint(0, peak_index, unary, evidence)
    assert peak_index[:, 0].tolist() == [1, 0]

    unary[:, :2] = [[5.0, -1.0], [4.0, -1.0]]  # a peak below the threshold stays free
    assign_joint(0, peak_index, unary, evidence)
    assert peak_index[:, 0].tolist() == [0, NONE]


def test_greedy_groups_take_the_best_peak_of_each_other_joint() -> None:
    affinity = np.array(
        [
            [0.0, 2.0, 3.0, -1.0, 9.0],
            [2.0, 0.0, 0.0, 4.0, 0.0],
            [3.0, 0.0, 0.0, 0.0, 0.0],
            [-1.0, 4.0, 0.0, 0.0, 0.0],
            [9.0, 0.0, 0.0, 0.0, 0.0],
        ]
    )
    groups = greedy_groups(affinity, joint=np.array([0, 1, 1, 2, 0]))
    assert [group.tolist() for group in groups] == [[0, 2], [1, 3], [4]]


def test_people_are_estimated_from_their_peaks() -> None:
    """Mean tag, precision-weighted mean centre, and the farthest joint times the margin."""
    peaks = peaks_of_people(people_side_by_side(1, 0.0), np.zeros(1), np.ones(1))
    nose, eye, centre_peak = 0, 1, 17
    peaks.tag[[nose, eye, centre_peak], 0] = [1.0, 2.0, 6.0]
    peaks.predicted_centre[[nose, eye, centre_peak], 0] = [10.0, 16.0, 13.0]
    peaks.predicted_centre[[nose, eye, centre_peak], 1] = 0.0
    peaks.offset_sigma[[nose, eye]] = [2.0, 4.0]
    peaks.position[[nose, eye]] = [[12.0, 0.0], [12.0, 40.0]]

    people = GroupedPeople.without_joints(np.array([17]), np.zeros((1, 1)), np.zeros((1, 2)), 17)
    people.peak_index[0, :2] = [nose, eye]
    people.update_from_peaks(peaks, offset_sigma=2.0 / CENTRE_PEAK_SIGMA)
    weights = np.array([1 / 4, 1 / 16, 1 / 4])
    centre = weights @ [10.0, 16.0, 13.0] / weights.sum()
    assert people.num_tags[0] == 3 and people.tag[0, 0] == pytest.approx(3.0)
    assert people.centre[0] == pytest.approx([centre, 0.0])
    assert people.radius[0] == pytest.approx(RADIUS_MARGIN * np.hypot(12 - centre, 40))

    people.update_from_peaks(peaks, 4.0, min_radius=1e3)
    assert people.radius[0] == 1e3


def test_torso_joints_alone_have_their_mean_as_centre() -> None:
    peaks = peaks_of_people(people_side_by_side(1, 0.0), np.zeros(1), np.zeros(1))
    torso = list(COCO.torso_indices)
    people = GroupedPeople.without_joints(np.array([NONE]), np.zeros((1, 1)), np.zeros((1, 2)), 17)
    people.peak_index[0, torso] = torso
    people.update_from_peaks(peaks, 4.0)
    assert people.centre[0] == pytest.approx(peaks.position[torso].mean(axis=0))


def test_concatenate_select_and_gather() -> None:
    first = GroupedPeople.without_joints(np.array([3]), np.ones((1, 1)), np.zeros((1, 2)), 17)
    second = GroupedPeople.without_joints(np.array([4, 5]), np.ones((2, 1)), np.zeros((2, 2)), 17)
    people = first.concatenate(second)
    assert len(people) == 3
    assert people.select(np.array([2, 0])).centre_peak.tolist() == [5, 3]
    values = np.array([[1.0], [2.0]])
    assert gather(values, np.array([[1, NONE]]), 7.0).tolist() == [[[2.0], [7.0]]]
    assert gather(NO_EDGES, np.array([NONE]), 0.0).tolist() == [[0.0, 0.0]]


def test_tags_alone_group_people_up_to_the_threshold(decoder_settings: Callable) -> None:
    peaks = peaks_of_people(people_side_by_side(2, 30.0), np.array([0.0, 2.0]), np.zeros(2))
    people = TagGrouper(COCO, decoder_settings(tag_threshold=1.0)).group(peaks)
    assert found_sets(people) == true_rows(2)
    assert people.tag[:, 0].tolist() == [0.0, 2.0]

    first, second = 2 * COCO.index("left_wrist") + np.arange(2)
    peaks.tag[first] = 1.5  # too far from the first person; the second has a nearer peak
    people = TagGrouper(COCO, decoder_settings(tag_threshold=1.0)).group(peaks)
    assert people.peak_index[:, COCO.index("left_wrist")].tolist() == [NONE, second, first]
    assert people.present.sum(axis=1).tolist() == [16, 17, 1]
