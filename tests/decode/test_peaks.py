"""Peaks against their definition, cell by cell."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from duopose.decode.peaks import candidates_by_dilation, candidates_by_pooling, find_peak_cells

RADIUS = np.array([1, 2, 3])
THRESHOLD = 0.5


def is_largest(maps: np.ndarray, cell: tuple[int, int, int], radius: int) -> bool:
    """No cell of the window is larger, and none that is equal comes before in reading order."""
    channel, row, column = cell
    own = maps[cell]
    for y in range(max(row - radius, 0), min(row + radius + 1, maps.shape[1])):
        for x in range(max(column - radius, 0), min(column + radius + 1, maps.shape[2])):
            other = maps[channel, y, x]
            if other > own or (other == own and (y, x) < (row, column)):
                return False
    return True


def peaks_by_definition(maps: np.ndarray) -> dict[tuple[int, int, int], bool]:
    """Cell -> whether it is NMS-suppressed."""
    peaks = {}
    for channel, row, column in np.argwhere(maps > THRESHOLD).tolist():
        cell = (channel, row, column)
        if is_largest(maps, cell, radius=1):
            peaks[cell] = not is_largest(maps, cell, radius=int(RADIUS[channel]))
    return peaks


def random_maps(size: tuple[int, int], levels: int, density: float) -> np.ndarray:
    """(3, *size) in [0, 1], `levels` different values (0: any), a fraction `density` above 0."""
    generator = np.random.default_rng(levels)
    maps = generator.random((3, *size)).astype(np.float32)
    if levels:
        maps = np.round(maps * levels) / np.float32(levels)
    maps[generator.random(maps.shape) > density] = 0
    return maps


@pytest.mark.parametrize("size", [(9, 8), (7, 5), (1, 16), (16, 1), (54, 48)])
@pytest.mark.parametrize("levels", [0, 4])
@pytest.mark.parametrize("density", [1.0, 0.02])
def test_peaks_are_as_defined(size: tuple[int, int], levels: int, density: float) -> None:
    """Also at borders, and (few levels) on plateaus."""
    maps = random_maps(size, levels, density)
    cells, scores, nms_suppressed = find_peak_cells(torch.from_numpy(maps), THRESHOLD, RADIUS, 1000)
    found = dict(zip(map(tuple, cells.tolist()), nms_suppressed.tolist(), strict=True))
    assert found == peaks_by_definition(maps)
    assert np.array_equal(scores, maps[tuple(cells.T)])


@pytest.mark.parametrize("levels", [0, 4])
def test_dilation_and_pooling_find_the_same_candidates(
    levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = random_maps((23, 17), levels, 0.5)
    maps[0] = 0.1  # nothing above the threshold
    maps[1, 3, 4] = np.nan
    by_dilation = candidates_by_dilation(maps, THRESHOLD)
    given = torch.from_numpy(maps)
    by_pooling, squares = candidates_by_pooling(given, THRESHOLD, radius=2, limit=1000)
    few = candidates_by_pooling(given, THRESHOLD, radius=2, limit=5)
    monkeypatch.delattr(torch, "nonzero_static")  # Apple's GPUs lack it in torch 2.11
    without = candidates_by_pooling(given, THRESHOLD, radius=2, limit=0)
    for cells, around in (few, without):
        assert np.array_equal(cells, by_pooling)
        assert np.array_equal(around, squares, equal_nan=True)
    middle = maps[tuple(by_pooling.T)]
    assert np.array_equal(squares[:, 2, 2], middle, equal_nan=True)
    far_from_nan = np.abs(by_dilation[:, 1:] - [3, 4]).max(axis=1) > 1
    far_from_nan_too = np.abs(by_pooling[:, 1:] - [3, 4]).max(axis=1) > 1
    assert len(by_dilation) > 20
    assert np.array_equal(by_dilation[far_from_nan], by_pooling[far_from_nan_too])
    assert [1, 3, 4] in by_dilation.tolist()
    assert [1, 3, 4] in by_pooling.tolist()


def test_memory_format_does_not_matter() -> None:
    maps = torch.from_numpy(random_maps((23, 17), 0, 1.0))
    channels_last = maps[None].contiguous(memory_format=torch.channels_last)[0]
    assert not channels_last.is_contiguous()
    plain = find_peak_cells(maps, THRESHOLD, RADIUS, 1000)
    other = find_peak_cells(channels_last, THRESHOLD, RADIUS, 1000)
    for one, two in zip(plain, other, strict=True):
        assert np.array_equal(one, two)


def test_best_first_and_never_more_than_the_limit() -> None:
    maps = torch.zeros(2, 32, 32)
    maps[0, 4::8, 4::8] = torch.linspace(0.6, 0.9, 16).reshape(4, 4)
    cells, scores, _ = find_peak_cells(maps, THRESHOLD, np.array([2, 2]), limit=5)
    assert cells.shape == (5, 3)
    assert (cells[:, 0] == 0).all()
    assert np.allclose(scores, np.linspace(0.9, 0.6, 16)[:5])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("cell", [(1, 0, 0), (1, 3, 4), (1, 8, 7)])
def test_an_error_names_the_channel_of_nan_or_infinity(
    value: float, cell: tuple[int, int, int]
) -> None:
    maps = torch.zeros(3, 9, 8)
    maps[cell] = value
    with pytest.raises(ValueError, match="channel 1"):
        find_peak_cells(maps, THRESHOLD, RADIUS, limit=10)
