"""Sub-pixel positions of Gaussians, which are exact, and of what is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from duopose.decode.subpixel import refine_subpixel
from duopose.types import MapLayer


def gaussian_layer(place: np.ndarray, stride: float, height: float = 1.0) -> MapLayer:
    """One channel with a Gaussian of sigma 2 cells at `place` (x, y) input pixels."""
    cell = (place + 0.5) / stride - 0.5
    rows, columns = np.mgrid[:32, :32]
    maps = height * np.exp(-((columns - cell[0]) ** 2 + (rows - cell[1]) ** 2) / 8)
    shift = np.full(2, 0.5 / stride - 0.5)
    return MapLayer(
        torch.from_numpy(maps.astype(np.float32))[None],
        np.full(2, 1 / stride),
        shift,
        np.array([0]),
    )


@pytest.mark.parametrize("place", [(30.3, 40.9), (21.0, 33.5), (60.2, 18.7)])
def test_a_gaussian_gives_its_position_back(place: tuple[float, float]) -> None:
    truth = np.array(place)
    layers = [gaussian_layer(truth, 4, 0.5), gaussian_layer(truth, 2, 0.9)]
    nearest_cell = np.round((truth + 0.5) / 2 - 0.5) * 2 + 0.5
    found = refine_subpixel(layers, np.array([0]), nearest_cell[None], limit=2.0)
    assert np.abs(found[0] - truth).max() < 1e-3


def test_layers_that_disagree_are_weighted_by_curvature_and_squared_height() -> None:
    one, other = np.array([30.0, 30.0]), np.array([31.0, 30.0])
    layers = [gaussian_layer(one, 2, 0.4), gaussian_layer(other, 2, 0.8)]
    found = refine_subpixel(layers, np.array([0]), np.array([[30.5, 30.5]]), limit=2.0)
    heights = [float(layer.maps[0, 15, 15]) for layer in layers]  # the cell at 30.5
    expected = (heights[0] ** 2 * 30 + heights[1] ** 2 * 31) / (heights[0] ** 2 + heights[1] ** 2)
    assert found[0] == pytest.approx([expected, 30.0], abs=1e-3)


def test_the_correction_is_limited_and_flat_maps_give_none() -> None:
    flat = gaussian_layer(np.array([30.0, 30.0]), 2)._replace(maps=torch.full((1, 32, 32), 0.3))
    assert np.array_equal(
        refine_subpixel([flat], np.array([0]), np.array([[30.5, 30.5]]), 2.0), [[30.5, 30.5]]
    )
    far = gaussian_layer(np.array([36.0, 30.0]), 2)
    assert refine_subpixel([far], np.array([0]), np.array([[30.5, 30.5]]), 0.25)[
        0
    ] == pytest.approx([30.75, 30.25])
