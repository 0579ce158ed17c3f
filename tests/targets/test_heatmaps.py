"""Heatmaps against the definition, cell by cell."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from duopose.geometry import MapFrame
from duopose.targets.heatmaps import render_heatmaps
from duopose.targets.points import to_map_points


def cell_by_cell(
    keypoints: torch.Tensor, frame: MapFrame, height: int, width: int, sigma: float
) -> np.ndarray:
    images, people, joints, _ = keypoints.shape
    maps = np.zeros((images, joints, height, width))
    rows, columns = np.mgrid[:height, :width]
    for image, person, joint in np.ndindex(images, people, joints):
        if keypoints[image, person, joint, 2] > 0:
            x, y = frame.to_cells(keypoints[image, person, joint, :2].double()).tolist()
            if frame.legacy_alignment:
                x, y = int(x), int(y)
            cell_x, cell_y = np.floor(x + 0.5), np.floor(y + 0.5)
            inside = (np.abs(columns - cell_x) <= int(3 * sigma + 1)) & (
                np.abs(rows - cell_y) <= int(3 * sigma + 1)
            )
            gaussian = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
            assert gaussian[~inside].max() < 0.011
            maps[image, joint] = np.maximum(maps[image, joint], gaussian * inside)
    return maps


@pytest.mark.parametrize("legacy_alignment", [False, True])
@pytest.mark.parametrize("sigma", [1.0, 2.0, 2.5])
def test_maximum_of_gaussians(legacy_alignment: bool, sigma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    keypoints = torch.cat(
        [
            torch.rand(2, 5, 3, 2, generator=generator) * torch.tensor([79.0, 47.0]),
            torch.full((2, 5, 3, 1), 2.0),
        ],
        dim=-1,
    )
    keypoints[0, 3:, :, 2] = 0
    frame = MapFrame(2, legacy_alignment)
    maps = render_heatmaps(to_map_points(keypoints, frame, 24, 40), 24, 40, sigma)
    np.testing.assert_allclose(
        maps.numpy(), cell_by_cell(keypoints, frame, 24, 40, sigma), atol=1e-6
    )
    assert maps.max() <= 1


def test_the_peak_is_where_the_keypoint_is() -> None:
    keypoints = torch.tensor(
        [[[[30.5, 18.5, 2.0]]]]
    )  # the middle of four pixels, that is of cell (15, 9) at stride 2
    maps = render_heatmaps(to_map_points(keypoints, MapFrame(2), 16, 32), 16, 32, 2.0)
    assert maps[0, 0, 9, 15] == 1


def test_a_window_at_the_border_does_not_wrap_round() -> None:
    keypoints = torch.tensor([[[[31.0, 8.0, 2.0]]]])
    maps = render_heatmaps(to_map_points(keypoints, MapFrame(2), 16, 16), 16, 16, 2.0)
    assert (maps[0, 0, :, :8] == 0).all() and maps[0, 0, 4, 15] > 0.9


def test_no_people() -> None:
    maps = render_heatmaps(to_map_points(torch.zeros(2, 0, 3, 3), MapFrame(2), 8, 8), 8, 8, 2.0)
    assert maps.shape == (2, 3, 8, 8) and (maps == 0).all()
