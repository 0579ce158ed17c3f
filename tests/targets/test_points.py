"""Centres, and which cell a keypoint is in."""

from __future__ import annotations

import pytest
import torch

from duopose.geometry import MapFrame
from duopose.targets.points import append_centres, to_map_points


def test_the_centre_is_the_mean_of_the_labelled_keypoints() -> None:
    person = torch.tensor([[[[10.0, 20.0, 2.0], [30.0, 60.0, 1.0], [torch.nan, 999.0, 0.0]]]])
    assert append_centres(person)[0, 0, 3].tolist() == [20, 40, 1]


def test_a_person_without_keypoints_has_no_centre() -> None:
    assert append_centres(torch.zeros(1, 1, 3, 3))[0, 0, 3].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("x", "legacy_alignment", "cell"),
    [(3.4, False, 0), (3.6, False, 1), (3.9, True, 0), (4.0, True, 1), (-0.4, False, 0)],
)
def test_the_cell_is_the_one_that_contains_the_point(
    x: float, legacy_alignment: bool, cell: int
) -> None:
    points = to_map_points(torch.tensor([[[[x, 0.0, 2.0]]]]), MapFrame(4, legacy_alignment), 8, 8)
    assert points.cell[0, 0, 0, 0] == cell and points.valid.all()


@pytest.mark.parametrize(
    ("x", "y", "visible"), [(-0.6, 0, 2), (31.6, 0, 2), (0, 15.6, 2), (0, -0.6, 2), (5, 5, 0)]
)
def test_outside_or_unlabelled_is_not_valid(x: float, y: float, visible: float) -> None:
    assert not to_map_points(torch.tensor([[[[x, y, visible]]]]), MapFrame(4), 4, 8).valid.any()
