"""The convention of pixels, cells, flips and resizes; HigherHRNet's matrices are reproduced."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duopose.geometry import Affine, MapFrame, legacy_train_affine, resize_for_test, train_affine

SIZES = st.integers(1, 3000)


def test_affine_round_trip_is_exact() -> None:
    points = np.random.default_rng(0).uniform(-100, 2000, (50, 2))
    affine = train_affine((311.5, 207.25), 733.0, 27.3, 512, mirror=True)
    assert np.abs(affine.inverse().apply(affine.apply(points)) - points).max() < 1e-9
    float32 = affine.inverse().apply(affine.apply(points.astype(np.float32)))
    assert np.abs(float32 - points).max() < 1e-3


def test_a_flat_affine_has_no_inverse() -> None:
    with pytest.raises(ValueError, match=r"\b0\b"):
        Affine(np.zeros((2, 3))).inverse()


def test_further_columns_are_kept() -> None:
    moved = Affine.resize(2, 2).apply(np.array([[1.0, 1.0, 0.7]]))
    assert moved.tolist() == [[2.5, 2.5, 0.7]]


def test_keypoints_move_as_the_pixels_do() -> None:
    """A warped bright blob lies where the matrix puts its centre."""
    image = np.zeros((200, 300), np.float32)
    yy, xx = np.mgrid[:200, :300]
    image += np.exp(-((xx - 180.3) ** 2 + (yy - 90.6) ** 2) / (2 * 6.0**2))
    affine = train_affine((150, 100), 220, 20, 256, mirror=True)
    warped = cv2.warpAffine(image, affine.matrix, (256, 256), flags=cv2.INTER_LINEAR).astype(
        np.float64
    )
    yy, xx = np.mgrid[:256, :256]
    found = np.array([(warped * xx).sum(), (warped * yy).sum()]) / warped.sum()
    assert np.abs(found - affine.apply(np.array([180.3, 90.6]))).max() < 0.05


def test_mirror_of_a_resize_is_the_resize_of_the_mirror() -> None:
    points = np.array([[3.0, 4.0], [99.0, 10.0]])
    one = Affine.mirror(100).then(Affine.resize(2.56, 2.56)).apply(points)
    other = Affine.resize(2.56, 2.56).then(Affine.mirror(256)).apply(points)
    assert np.abs(one - other).max() < 1e-9


@pytest.mark.parametrize("stride", [2, 4])
def test_striding_commutes_with_mirroring(stride: int) -> None:
    frame = MapFrame(stride)
    points = np.array([[0.0, 0.0], [17.3, 5.0], [511.0, 2.0]])
    mirrored_first = frame.to_cells(Affine.mirror(512).apply(points))
    strided_first = Affine.mirror(512 // stride).apply(frame.to_cells(points))
    assert np.abs(mirrored_first - strided_first).max() < 1e-9


@pytest.mark.parametrize("legacy_alignment", [False, True])
def test_cells_round_trip(legacy_alignment: bool) -> None:
    frame = MapFrame(4, legacy_alignment)
    points = np.random.default_rng(1).uniform(0, 512, (20, 2))
    assert np.abs(frame.to_input(frame.to_cells(points)) - points).max() < 1e-9


def test_legacy_peak_shift_compensates_the_floor() -> None:
    frame = MapFrame(4, legacy_alignment=True)
    points = np.random.default_rng(2).uniform(0, 512, (20000, 2))
    decoded = frame.to_input(np.floor(frame.to_cells(points)) + frame.peak_shift)
    assert abs((decoded - points).mean()) < 0.03


def higher_hrnet_affine(
    centre: tuple[float, float], scale: float, rotation: float, size: int
) -> np.ndarray:
    """HigherHRNet's `_get_affine_matrix`: resize, then rotate around the output's centre."""
    side = 200 * scale
    resize = np.array(
        [
            [size / side, 0, size * (0.5 - centre[0] / side)],
            [0, size / side, size * (0.5 - centre[1] / side)],
            [0, 0, 1],
        ]
    )
    cos = np.cos(-np.deg2rad(rotation))
    sin = np.sin(-np.deg2rad(rotation))
    rotate = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    to_centre = np.array([[1, 0, -size / 2], [0, 1, -size / 2], [0, 0, 1]])
    return (np.linalg.inv(to_centre) @ rotate @ to_centre @ resize)[:2]


@pytest.mark.parametrize("size", [128, 512])
@pytest.mark.parametrize(
    ("centre", "scale", "rotation"),
    [((320.0, 213.5), 2.1, 0.0), ((100.5, 50.0), 0.7, 30.0), ((400.0, 300.0), 3.3, -17.25)],
)
def test_legacy_train_affine_is_higher_hrnets(
    centre: tuple[float, float], scale: float, rotation: float, size: int
) -> None:
    matrix = legacy_train_affine(centre, scale, rotation, size).matrix
    np.testing.assert_allclose(
        matrix, higher_hrnet_affine(centre, scale, rotation, size), atol=1e-10
    )


def test_legacy_train_affine_equals_the_goldens(golden: Path) -> None:
    data = np.load(golden / "targets" / "affine.npz")
    for case in range(3):
        for size in (128, 256, 512):
            centre = (float(data[f"center{case}"][0]), float(data[f"center{case}"][1]))
            matrix = legacy_train_affine(
                centre, float(data[f"scale{case}"]), float(data[f"rot{case}"]), size
            ).matrix
            assert np.abs(matrix - data[f"mat{case}_{size}"][:2]).max() < 1e-10


def higher_hrnet_size(
    width: int, height: int, input_size: int, scale: float, smallest: float
) -> tuple[int, int]:
    """HigherHRNet's rule for the input size, an independent implementation."""
    base = int((smallest * input_size + 63) // 64 * 64)
    short = int(base * scale / smallest)
    long = int(
        int((base / min(width, height) * max(width, height) + 63) // 64 * 64) * scale / smallest
    )
    return (short, long) if width < height else (long, short)


@given(SIZES, SIZES, st.sampled_from([(1.0, 1.0), (0.5, 0.5), (1.0, 0.5), (2.0, 0.5), (2.0, 1.0)]))
def test_input_sizes_are_higher_hrnets(
    width: int, height: int, scales: tuple[float, float]
) -> None:
    frame = resize_for_test(width, height, 512, *scales)
    assert (frame.width, frame.height) == higher_hrnet_size(width, height, 512, *scales)


@given(SIZES, SIZES, st.floats(0.3, 2.5), st.floats(0.3, 1.0))
def test_inputs_suit_hrnet_and_hold_the_image(
    width: int, height: int, scale: float, smallest: float
) -> None:
    frame = resize_for_test(width, height, 512, scale, smallest)
    assert frame.width % 32 == 0 and frame.height % 32 == 0
    corners = frame.affine.apply(np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]]))
    assert (
        corners.min() >= -1.5
        and corners[1, 0] <= frame.width + 0.5
        and corners[1, 1] <= frame.height + 0.5
    )
    middle = frame.affine.apply(np.array([(width - 1) / 2, (height - 1) / 2]))
    assert np.abs(middle - [(frame.width - 1) / 2, (frame.height - 1) / 2]).max() < 1e-6


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(ValueError, match="0 x 10"):
        resize_for_test(0, 10, 512)
