"""Coordinates: one convention for images, inputs and maps, and the affine maps between them.

**Convention.** x points right, y down, in *pixel-index* units: the centre of the top-left pixel is
(0, 0) and an image of width W covers [-0.5, W - 0.5]. So

- resizing by s:        x' = s (x + 0.5) - 0.5
- mirroring a width W:  x' = W - 1 - x
- a map of stride t:    cell = (x + 0.5) / t - 0.5

The last line puts the centre of cell 0 in the middle of pixels 0 ... t - 1. `cv2.warpAffine` and
COCO's keypoints use pixel indices too, so the matrix that moves keypoints also warps the image.
Flipping and striding commute, therefore flip averaging is unbiased.

**Legacy alignment** (`legacy_alignment=True`, setting `DATASET.HEATMAP_CENTRES: rounded`) is the
convention of HigherHRNet (Cheng et al., CVPR 2020) and of the public DE code:

- resizing by s:                       x' = s x
- a map of stride t:                   cell = x / t
- centre of the Gaussian in a target:  floor(cell)
- position of a decoded peak:          cell + 0.5

Flooring has a mean bias of -0.5 cell, which the 0.5 of the last line compensates on average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

Points = TypeVar("Points", np.ndarray, torch.Tensor)

# Pixels per unit of "scale" in the training affine: `pixel_std` of HRNet's and HigherHRNet's code,
# after MPII's annotations, whose scale is the person's height / 200 px.
PIXEL_STD = 200.0

# `resize_for_test`: HigherHRNet's `get_multi_scale_size` rounds sides up to multiples of 64.
TEST_SIZE_STEP = 64
# HRNet halves the input five times (lowest branch at stride 32); other sides would not add up.
NETWORK_STRIDE = 32


@dataclass(frozen=True)
class Affine:
    """x' = A x + b on points in pixel-index coordinates.

    matrix: (2, 3) float64 [A | b], the form that `cv2.warpAffine` takes.
    """

    matrix: np.ndarray

    @staticmethod
    def resize(scale_x: float, scale_y: float) -> Affine:
        """Resizing by the given factors: x' = s (x + 0.5) - 0.5 per axis."""
        row_x = [scale_x, 0, 0.5 * scale_x - 0.5]
        row_y = [0, scale_y, 0.5 * scale_y - 0.5]
        return Affine(np.array([row_x, row_y], dtype=np.float64))

    @staticmethod
    def mirror(width: int) -> Affine:
        """Mirroring an image of that width left to right."""
        return Affine(np.array([[-1, 0, width - 1], [0, 1, 0]], dtype=np.float64))

    def then(self, after: Affine) -> Affine:
        """First this one, then `after`."""
        linear = after.matrix[:, :2] @ self.matrix[:, :2]
        shift = after.matrix[:, :2] @ self.matrix[:, 2] + after.matrix[:, 2]
        return Affine(np.column_stack([linear, shift]))

    def inverse(self) -> Affine:
        """The inverse map, exact to float64 rounding; ValueError where there is none."""
        determinant = np.linalg.det(self.matrix[:, :2])
        if not abs(determinant) > 1e-12:
            raise ValueError(f"an affine map with determinant {determinant:.3g} has no inverse")
        linear = np.linalg.inv(self.matrix[:, :2])
        return Affine(np.column_stack([linear, -linear @ self.matrix[:, 2]]))

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Move points (..., >= 2): columns 0 and 1 are x and y, further columns are kept."""
        moved = np.array(points, dtype=np.result_type(points, np.float32))
        moved[..., :2] = np.asarray(points)[..., :2] @ self.matrix[:, :2].T + self.matrix[:, 2]
        return moved

    @property
    def scale(self) -> float:
        """The square root of the factor by which areas grow."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))


@dataclass(frozen=True)
class MapFrame:
    """How the cells of a map of a given stride lie on the network's input.

    `legacy_alignment` selects HigherHRNet's convention, see the module docstring.
    """

    stride: float
    legacy_alignment: bool = False

    def to_cells(self, points: Points) -> Points:
        """Input pixels (..., 2) x, y -> real-valued cells."""
        if self.legacy_alignment:
            return points / self.stride
        return (points + 0.5) / self.stride - 0.5

    def to_input(self, cells: Points) -> Points:
        """Cells (..., 2) x, y -> input pixels; inverse of `to_cells`. Offsets are measured here."""
        if self.legacy_alignment:
            return cells * self.stride
        return (cells + 0.5) * self.stride - 0.5

    @property
    def peak_shift(self) -> float:
        """Cells to add to a heatmap peak before `to_input`.

        0.5 with `legacy_alignment`: HigherHRNet floors coordinates, mean bias 0.5 cell.
        """
        return 0.5 if self.legacy_alignment else 0.0


def train_affine(
    centre: tuple[float, float],
    source_size: float,
    rotation: float,
    output_size: int,
    mirror: bool = False,
) -> Affine:
    """The augmentation: a rotated square of the image fills the output.

        x' = m + s R (x - centre),    s = output_size / source_size,    m = (output_size - 1) / 2

    centre: x, y of the square's centre in image pixels; source_size: its side in image pixels (in
    HigherHRNet's terms scale * PIXEL_STD); rotation: degrees; output_size: side of the output.
    mirror: mirror the output afterwards; the result is still one affine map, hence one warp.
    """
    scale = output_size / source_size
    radians = np.deg2rad(rotation)
    cos = np.cos(radians) * scale
    sin = np.sin(radians) * scale
    linear = np.array([[cos, sin], [-sin, cos]])

    middle = (output_size - 1) / 2.0
    shift = middle - linear @ np.asarray(centre, dtype=np.float64)
    affine = Affine(np.column_stack([linear, shift]))

    return affine.then(Affine.mirror(output_size)) if mirror else affine


def legacy_train_affine(
    centre: tuple[float, float], scale: float, rotation: float, output_size: int
) -> Affine:
    """HigherHRNet's training matrix (`_get_affine_matrix`), used with `legacy_alignment`.

    It maps `centre` to output_size / 2, half a pixel from `train_affine`; `scale` is the side of
    the square in units of PIXEL_STD.
    """
    affine = train_affine(centre, scale * PIXEL_STD, rotation, output_size)
    half_pixel = np.array([[0, 0, 0.5], [0, 0, 0.5]])
    return Affine(affine.matrix + half_pixel)


@dataclass(frozen=True)
class InputFrame:
    """The network input made of a whole image: its size in pixels and the map image -> input."""

    width: int
    height: int
    affine: Affine


def resize_for_test(
    width: int,
    height: int,
    input_size: int,
    scale: float = 1.0,
    smallest_scale: float = 1.0,
    legacy_alignment: bool = False,
) -> InputFrame:
    """The network input of one test pass, by HigherHRNet's rule (`get_multi_scale_size`).

    width, height: the image in pixels. scale: test scale of this pass; smallest_scale: the smallest
    test scale of all passes. With short = min(width, height) and long = max(width, height):

        base_short = up64(smallest_scale * input_size)
        base_long  = up64(base_short * long / short)
        side       = up32(floor(base_side * scale / smallest_scale))     for both sides
        ratio      = floor(base_short * scale / smallest_scale) / short  input px per image px

    upN rounds up to a multiple of N. Rounding to 64 happens at the smallest scale, so that all
    passes cover the same region of the image; rounding to 32 (NETWORK_STRIDE) is ours and changes
    only sizes that HRNet cannot process. The image's centre goes to the input's centre and the long
    side is padded. With `legacy_alignment` the centres are HigherHRNet's (half a pixel off).
    ValueError for an image without pixels.
    """
    if width < 1 or height < 1:
        raise ValueError(f"an image of {width} x {height} pixels cannot be resized")
    image_short = min(width, height)
    image_long = max(width, height)

    base_short = _round_up_to_64(smallest_scale * input_size)
    base_long = _round_up_to_64(base_short / image_short * image_long)

    scaled_short = int(base_short * scale / smallest_scale)
    scaled_long = int(base_long * scale / smallest_scale)
    ratio = scaled_short / image_short

    input_short = _round_up_to_network_stride(scaled_short)
    input_long = _round_up_to_network_stride(scaled_long)
    is_portrait = width < height
    input_width = input_short if is_portrait else input_long
    input_height = input_long if is_portrait else input_short

    if legacy_alignment:
        source = np.array([int(width / 2 + 0.5), int(height / 2 + 0.5)])
        target = np.array([input_width, input_height]) / 2
    else:
        source = np.array([width - 1, height - 1]) / 2
        target = np.array([input_width - 1, input_height - 1]) / 2
    shift = target - ratio * source

    affine = Affine(np.array([[ratio, 0, shift[0]], [0, ratio, shift[1]]]))
    return InputFrame(input_width, input_height, affine)


def _round_up_to_64(side: float) -> int:
    """HigherHRNet's `int((side + 63) // 64 * 64)`; a fraction of a pixel does not round up."""
    return int((side + TEST_SIZE_STEP - 1) // TEST_SIZE_STEP * TEST_SIZE_STEP)


def _round_up_to_network_stride(side: int) -> int:
    """The next multiple of NETWORK_STRIDE."""
    return -(-side // NETWORK_STRIDE) * NETWORK_STRIDE
