"""Offset targets against the definition, cell by cell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
import torch

from duopose.geometry import MapFrame
from duopose.skeletons import COCO, CROWDPOSE, MPII, OffsetLayout, Skeleton
from duopose.targets.offsets import find_windows, offset_targets
from duopose.targets.points import append_centres, to_map_points
from duopose.types import OffsetTargets

RADIUS = 3
HEIGHT, WIDTH = 24, 32  # cells
Cells = dict[tuple[int, int, int], np.ndarray]
People = Callable[..., torch.Tensor]


def make(
    keypoints: torch.Tensor, layout: OffsetLayout, frame: MapFrame, radius: int = RADIUS
) -> OffsetTargets:
    complete = append_centres(keypoints)
    points = to_map_points(complete, frame, HEIGHT, WIDTH)
    windows = find_windows(complete, points, layout, torch.device("cpu"))
    return offset_targets(windows, frame, HEIGHT, WIDTH, radius)


def cell_by_cell(keypoints: torch.Tensor, layout: OffsetLayout, frame: MapFrame) -> Cells:
    """(image, edge, cell) -> mean over people of target - cell, y and x, by the definition."""
    complete = append_centres(keypoints).double()
    found_at = defaultdict(list)
    for image, person, entry in np.ndindex(complete.shape[0], complete.shape[1], layout.num_edges):
        source, target = (
            complete[image, person, layout.source[entry]],
            complete[image, person, layout.target[entry]],
        )
        if source[2] == 0 or target[2] == 0:
            continue
        exact = frame.to_cells(source[:2]).numpy()
        middle_x, middle_y = np.floor(exact if frame.legacy_alignment else exact + 0.5).astype(int)
        for y in range(max(0, middle_y - RADIUS), min(HEIGHT, middle_y + RADIUS + 1)):
            for x in range(max(0, middle_x - RADIUS), min(WIDTH, middle_x + RADIUS + 1)):
                pixel = frame.to_input(torch.tensor([x, y], dtype=torch.float64))
                found_at[image, entry, y * WIDTH + x].append((target[:2] - pixel).numpy()[::-1])
    return {key: np.mean(values, axis=0) for key, values in found_at.items()}


def as_cells(targets: OffsetTargets) -> Cells:
    keys = zip(targets.image.tolist(), targets.edge.tolist(), targets.cell.tolist())
    cells = dict(zip(keys, targets.offset.numpy()))
    assert targets.weight.sum().item() == pytest.approx(len(cells), abs=1e-3)
    return cells


@pytest.mark.parametrize("legacy_alignment", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE, MPII], ids=lambda skeleton: skeleton.name)
def test_mean_over_the_people_whose_windows_cover_a_cell(
    people: People, skeleton: Skeleton, reverse: bool, legacy_alignment: bool
) -> None:
    layout, frame = skeleton.offset_layout(reverse), MapFrame(4, legacy_alignment)
    keypoints = people(skeleton, [6, 0, 1], 4 * WIDTH, 4 * HEIGHT)
    ours, expected = (
        as_cells(make(keypoints, layout, frame)),
        cell_by_cell(keypoints, layout, frame),
    )
    assert ours.keys() == expected.keys()
    np.testing.assert_allclose([ours[key] for key in expected], list(expected.values()), atol=1e-4)


def test_people_on_one_spot_share_every_cell(people: People) -> None:
    one = people(COCO, [1], 4 * WIDTH, 4 * HEIGHT)
    three = torch.cat([one, one, one], dim=1)
    ours, expected = (
        as_cells(make(three, COCO.offset_layout(), MapFrame(4))),
        as_cells(make(one, COCO.offset_layout(), MapFrame(4))),
    )
    assert ours.keys() == expected.keys()
    np.testing.assert_allclose([ours[key] for key in expected], list(expected.values()), atol=1e-4)


def test_no_target_without_a_labelled_parent() -> None:
    layout = COCO.offset_layout()
    person = torch.zeros(1, 1, 17, 3)
    elbow, shoulder = COCO.index("left_elbow"), COCO.index("left_shoulder")
    person[0, 0, elbow] = torch.tensor([40.0, 40.0, 2.0])
    assert set(make(person, layout, MapFrame(4)).edge.tolist()) == {layout.edge(elbow, COCO.centre)}
    person[0, 0, shoulder] = torch.tensor([50.0, 30.0, 2.0])
    assert set(make(person, layout, MapFrame(4)).edge.tolist()) == {
        layout.edge(elbow, shoulder),
        layout.edge(elbow, COCO.centre),
    }


def test_the_joint_s_own_cell_points_to_the_parent() -> None:
    layout, frame = COCO.offset_layout(), MapFrame(4)
    elbow, shoulder = COCO.index("left_elbow"), COCO.index("left_shoulder")
    person = torch.zeros(1, 1, 17, 3)
    person[0, 0, elbow] = torch.tensor([41.5, 41.5, 2.0])  # the middle of cell (10, 10)
    person[0, 0, shoulder] = torch.tensor([61.5, 31.5, 2.0])
    y, x = as_cells(make(person, layout, frame))[0, layout.edge(elbow, shoulder), 10 * WIDTH + 10]
    assert (x, y) == (20, -10)


def test_windows_end_at_the_border(people: People) -> None:
    targets = make(
        people(COCO, [4], 4 * WIDTH, 4 * HEIGHT), COCO.offset_layout(), MapFrame(4), radius=40
    )
    assert targets.cell.min() >= 0 and targets.cell.max() < HEIGHT * WIDTH
    assert len(as_cells(targets)) <= len(targets.cell)


@pytest.mark.parametrize("counts", [[], [0, 0]])
def test_no_people(people: People, counts: list[int]) -> None:
    targets = make(people(COCO, counts), COCO.offset_layout(), MapFrame(4))
    assert all(len(field) == 0 for field in targets)
