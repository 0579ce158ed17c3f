"""What is read from maps at points, against loops over the definition."""

from __future__ import annotations

import numpy as np
import torch

from duopose.decode.map_reading import read_cells, count_window_overlaps
from duopose.types import MapLayer


def layer(factor: float) -> MapLayer:
    return MapLayer(
        torch.zeros(1, 4, 4), np.array([factor, abs(factor)]), np.zeros(2), np.array([0])
    )


def test_overlaps_are_counted_within_a_joint_type_and_per_layer() -> None:
    generator = np.random.default_rng(0)
    joint, points = np.sort(generator.integers(0, 4, 30)), generator.uniform(0, 100, (30, 2))
    layers = [layer(0.25), layer(-0.25), layer(0.5)]
    found = count_window_overlaps(layers, joint, points, radius=4)
    for index, reach in enumerate((20, 20, 10)):
        for one in range(30):
            near = np.abs(points - points[one]).max(axis=1) <= reach
            assert found[one, index] == np.count_nonzero(near & (joint == joint[one])) - 1


def test_overlaps_of_nobody_and_without_layers() -> None:
    nothing = np.zeros(0, int)
    assert count_window_overlaps([layer(0.5)], nothing, np.zeros((0, 2)), 7).shape == (0, 1)
    assert count_window_overlaps([], np.array([0, 0]), np.zeros((2, 2)), 7).shape == (2, 0)


def test_gather_reads_any_layout_and_type() -> None:
    maps = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    channel, row, column = np.array([1, 0]), np.array([[2, 1], [0, 2]]), np.array([[3, 0], [1, 2]])
    expected = maps.numpy()[np.broadcast_to(channel, row.shape), row, column]
    assert np.array_equal(read_cells(maps, channel, row, column), expected)
    turned = maps.permute(0, 2, 1).contiguous().permute(0, 2, 1)
    assert np.array_equal(read_cells(turned, channel, row, column), expected)
    assert np.array_equal(read_cells(maps.half(), channel, row, column), expected)
