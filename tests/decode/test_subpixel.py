"""Sub-pixel positions: exact for Gaussians, limited elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from duopose.decode.map_reading import read_together
from duopose.decode.subpixel import subpixel_positions
from duopose.types import MapLayer


def gaussian_layer(position: np.ndarray, stride: float, score: float = 1.0) -> MapLayer:
    """One channel with a Gaussian of sigma 2 cells at `position` (x, y) input pixels."""
    cell = (position + 0.5) / stride - 0.5
    rows, columns = np.mgrid[:32, :32]
    maps = score * np.exp(-((columns - cell[0]) ** 2 + (rows - cell[1]) ** 2) / 8)
    shift = np.full(2, 0.5 / stride - 0.5)
    return MapLayer(
        torch.from_numpy(maps.astype(np.float32))[None],
        np.full(2, 1 / stride),
        shift,
        np.array([0]),
    )


def refine_subpixel(
    layers: Sequence[MapLayer], joint: np.ndarray, points: np.ndarray, limit: float
) -> np.ndarray:
    return read_together(subpixel_positions(layers, joint, points, limit))[0]


@pytest.mark.parametrize("position", [(30.3, 40.9), (21.0, 33.5), (60.2, 18.7)])
def test_a_gaussian_gives_its_position_back(position: tuple[float, float]) -> None:
    truth = np.array(position)
    layers = [gaussian_layer(truth, 4, 0.5), gaussian_layer(truth, 2, 0.9)]
    nearest_cell = np.round((truth + 0.5) / 2 - 0.5) * 2 + 0.5
    found = refine_subpixel(layers, np.array([0]), nearest_cell[None], limit=2.0)
    assert np.abs(found[0] - truth).max() < 1e-3


def test_layers_are_weighted_by_curvature_and_squared_score() -> None:
    layers = [
        gaussian_layer(np.array([30.0, 30.0]), 2, 0.4),
        gaussian_layer(np.array([31.0, 30.0]), 2, 0.8),
    ]
    found = refine_subpixel(layers, np.array([0]), np.array([[30.5, 30.5]]), limit=2.0)
    low, high = (float(layer.maps[0, 15, 15]) ** 2 for layer in layers)  # the cell at 30.5
    expected = (low * 30 + high * 31) / (low + high)
    assert found[0] == pytest.approx([expected, 30.0], abs=1e-3)


def test_flat_maps_correct_nothing() -> None:
    layer = gaussian_layer(np.array([30.0, 30.0]), 2)
    flat = layer._replace(maps=torch.full((1, 32, 32), 0.3))
    points = np.array([[30.5, 30.5]])
    assert np.array_equal(refine_subpixel([flat], np.array([0]), points, limit=2.0), points)
    assert np.array_equal(refine_subpixel([], np.array([0]), points, limit=2.0), points)


def test_the_correction_is_limited() -> None:
    layer = gaussian_layer(np.array([36.0, 30.0]), 2)
    points = np.array([[30.5, 30.5]])
    found = refine_subpixel([layer], np.array([0]), points, limit=0.25)
    assert found[0] == pytest.approx([30.75, 30.25])
