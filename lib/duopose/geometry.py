"""Where a point is: the one convention for images, network inputs and maps, and the maps between them.

**Convention.** Coordinates are x right, y down, in *pixel-index* units: the centre of the top-left pixel is (0, 0) and a
image of width W covers [-0.5, W - 0.5]. So

- resizing by s:        x' = s (x + 0.5) - 0.5
- mirroring a width W:  x' = W - 1 - x
- a map of stride t:    cell = (x + 0.5) / t - 0.5      (the centre of cell 0 lies in the middle of pixels 0 .. t-1)

`cv2.warpAffine` uses pixel-index coordinates too, so the matrix that moves keypoints is the one that warps the image.
COCO's keypoints are pixel indices as well. Flipping and striding commute, which keeps flip averaging unbiased.

**The family's convention** (HigherHRNet, public DE) resizes by x' = s x, reads cell = x / t, centres the Gaussian on
floor(cell) and decodes a peak at cell + 0.5; it is kept as `HEATMAP_CENTRES rounded` (`MapFrame(stride, family=True)`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

Points = TypeVar("Points", np.ndarray, torch.Tensor)
PIXEL_STD = 200.0  # the family's unit of "scale" in its training affine


@dataclass(frozen=True)
class Affine:
    """x' = A x + b on points in pixel-index coordinates; `matrix` is (2, 3) float64, as cv2.warpAffine wants it."""

    matrix: np.ndarray

    @staticmethod
    def resize(scale_x: float, scale_y: float) -> Affine:
        """Resizing by the given factors, pixel areas kept aligned (see the module's docstring)."""
        return Affine(
            np.array(
                [[scale_x, 0, 0.5 * scale_x - 0.5], [0, scale_y, 0.5 * scale_y - 0.5]],
                dtype=np.float64,
            )
        )

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
        """The way back; there and back is exact to float64 rounding. ValueError where there is none."""
        determinant = np.linalg.det(self.matrix[:, :2])
        if not abs(determinant) > 1e-12:
            raise ValueError(f"an affine map with determinant {determinant:.3g} has no inverse")
        linear = np.linalg.inv(self.matrix[:, :2])
        return Affine(np.column_stack([linear, -linear @ self.matrix[:, 2]]))

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Move points: any array (..., >= 2) whose first two columns are x and y; further columns are kept."""
        moved = np.array(points, dtype=np.result_type(points, np.float32))
        moved[..., :2] = np.asarray(points)[..., :2] @ self.matrix[:, :2].T + self.matrix[:, 2]
        return moved

    @property
    def scale(self) -> float:
        """The square root of the factor by which areas grow."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))


@dataclass(frozen=True)
class MapFrame:
    """How the cells of a map of some stride lie on the network's input.

    With `family` the public codes' convention (module docstring); by default the unbiased one.
    """

    stride: float
    legacy_alignment: bool = False

    def to_cells(self, points: Points) -> Points:
        """Input pixels (..., 2) x, y -> real-valued cells."""
        return points / self.stride if self.legacy_alignment else (points + 0.5) / self.stride - 0.5

    def to_input(self, cells: Points) -> Points:
        """Cells (..., 2) x, y -> input pixels; inverse of `to_cells`. Offsets are measured from here."""
        return cells * self.stride if self.legacy_alignment else (cells + 0.5) * self.stride - 0.5

    @property
    def peak_shift(self) -> float:
        """What to add to a heatmap peak's cell before `to_input`: the family floors, so on average a half is missing."""
        return 0.5 if self.legacy_alignment else 0.0


def train_affine(
    centre: tuple[float, float],
    source_size: float,
    rotation: float,
    output_size: int,
    mirror: bool = False,
) -> Affine:
    """The augmentation: a square of side `source_size` image pixels round `centre`, turned by `rotation` degrees, fills the output.

    Mirroring comes last, so that one warp does everything. In the family's terms `source_size` is scale * 200.
    """
    scale = output_size / source_size
    radians = np.deg2rad(rotation)
    cos, sin = np.cos(radians) * scale, np.sin(radians) * scale
    linear = np.array([[cos, sin], [-sin, cos]])
    middle = (output_size - 1) / 2.0
    shift = middle - linear @ np.asarray(centre, dtype=np.float64)
    affine = Affine(np.column_stack([linear, shift]))
    return affine.then(Affine.mirror(output_size)) if mirror else affine


def legacy_train_affine(
    centre: tuple[float, float], scale: float, rotation: float, output_size: int
) -> Affine:
    """The family's own training matrix (goldens): `centre` goes to output_size / 2 and `scale` is in units of 200 px."""
    middle = train_affine(centre, scale * PIXEL_STD, rotation, output_size)
    return Affine(middle.matrix + np.array([[0, 0, 0.5], [0, 0, 0.5]]))


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
    """The family's rule: the short side becomes `input_size` (times `scale`), the long side follows, sides multiples of 64.

    width, height: the image in pixels. `scale` is this pass's test scale, `smallest_scale` the smallest of all passes:
    sides are rounded to 64 there and multiplied from there, so that the passes cover the same region of the image.
    The image's centre goes to the input's centre and the long side is padded. Sides that the factor makes no multiple
    of 32 are rounded up to one, as HRNet needs it. `family` puts the centres where HigherHRNet does (half a pixel off).
    """
    if width < 1 or height < 1:
        raise ValueError(f"an image of {width} x {height} pixels cannot be resized")
    short = int((smallest_scale * input_size + 63) // 64 * 64)
    long = int((short / min(width, height) * max(width, height) + 63) // 64 * 64)
    ratio = int(short * scale / smallest_scale) / min(width, height)
    short, long = (-(-int(side * scale / smallest_scale) // 32) * 32 for side in (short, long))
    input_width, input_height = (short, long) if width < height else (long, short)
    if legacy_alignment:
        source, target = (
            np.array([int(width / 2 + 0.5), int(height / 2 + 0.5)]),
            np.array([input_width, input_height]) / 2,
        )
    else:
        source, target = (
            np.array([width - 1, height - 1]) / 2,
            np.array([input_width - 1, input_height - 1]) / 2,
        )
    shift = target - ratio * source
    return InputFrame(
        input_width, input_height, Affine(np.array([[ratio, 0, shift[0]], [0, ratio, shift[1]]]))
    )
