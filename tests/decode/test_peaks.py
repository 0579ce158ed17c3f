"""Peaks against their definition, cell by cell."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from duopose.decode.peaks import find_peak_cells

RADIUS = np.array([1, 2, 3])
THRESHOLD = 0.5


def is_largest(maps: np.ndarray, channel: int, row: int, column: int, side: int) -> bool:
    """Larger than every cell of the square that comes earlier in reading order, and not smaller than the later ones."""
    own = maps[channel, row, column]
    for y in range(max(row - side, 0), min(row + side + 1, maps.shape[1])):
        for x in range(max(column - side, 0), min(column + side + 1, maps.shape[2])):
            other = maps[channel, y, x]
            if other > own or (other == own and (y, x) < (row, column)):
                return False
    return True


def defined_peaks(maps: np.ndarray) -> dict[tuple[int, ...], bool]:
    """Cell -> whether it is secondary."""
    passing = [
        tuple(cell)
        for cell in np.argwhere(maps > THRESHOLD).tolist()
        if is_largest(maps, *cell, side=1)
    ]
    return {cell: not is_largest(maps, *cell, side=int(RADIUS[cell[0]])) for cell in passing}


@pytest.mark.parametrize("size", [(9, 8), (7, 5), (1, 16), (16, 1)])
@pytest.mark.parametrize("levels", [0, 4])
@pytest.mark.parametrize(
    "share", [1.0, 0.02]
)  # of the cells that are more than 0: by dilation, and cell by cell
def test_peaks_are_what_the_definition_says(
    size: tuple[int, int], levels: int, share: float
) -> None:
    """Also at borders, and (few levels) with many equal neighbours."""
    generator = np.random.default_rng(levels)
    tiles = 1 if share == 1 else 6
    size = (size[0] * tiles, size[1] * tiles)
    maps = generator.random((3, *size)).astype(np.float32)
    if levels:
        maps = np.round(maps * levels) / levels
    corner = (slice(None), slice(0, 3), slice(-4, None)) if share < 1 else ...
    lit = np.zeros(maps.shape, dtype=bool)
    lit[corner] = True
    maps[~lit & (generator.random(maps.shape) > share)] = 0
    cells, scores, nms_suppressed = find_peak_cells(
        torch.from_numpy(maps), THRESHOLD, RADIUS, limit=1000
    )
    assert {
        tuple(cell): bool(shadow) for cell, shadow in zip(cells.tolist(), nms_suppressed)
    } == defined_peaks(maps)
    assert np.array_equal(scores, maps[tuple(cells.T)])


def test_best_first_and_never_more_than_the_limit() -> None:
    maps = torch.zeros(2, 32, 32)
    maps[0, 4::8, 4::8] = torch.linspace(0.6, 0.9, 16).reshape(4, 4)
    cells, scores, _ = find_peak_cells(maps, THRESHOLD, np.array([2, 2]), limit=5)
    assert cells.shape == (5, 3) and (cells[:, 0] == 0).all()
    assert np.allclose(scores, np.linspace(0.9, 0.6, 16)[:5])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [(1, 0, 0), (1, 3, 4), (1, 8, 7)])
def test_a_broken_cell_anywhere_is_an_error_that_names_its_channel(
    value: float, place: tuple[int, ...]
) -> None:
    maps = torch.zeros(3, 9, 8)
    maps[place] = value
    with pytest.raises(ValueError, match="channel 1 holds NaN or infinity"):
        find_peak_cells(maps, THRESHOLD, RADIUS, limit=10)
