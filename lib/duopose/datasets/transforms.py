"""Augmentation: one random affine warp for image, keypoints and masks; normalisation on the device.

A = Augmentation.draw(...)                       image frame -> input frame
image'     = cv2.warpAffine(image, A)            the pixels and the keypoints
keypoints' = A keypoints                         use the same matrix (`geometry`)
mask'_t    = cv2.warpAffine(mask, resize(1/t) A) per map stride t
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from duopose.device_tensors import constant
from duopose.geometry import PIXEL_STD, Affine, legacy_train_affine, train_affine
from duopose.types import STRIDES, Sample

# ImageNet's RGB mean and standard deviation (torchvision) for pixels 0 ... 255: HRNet's backbones
# were trained with them.
IMAGENET_MEAN = tuple(255 * value for value in (0.485, 0.456, 0.406))
IMAGENET_STD = tuple(255 * value for value in (0.229, 0.224, 0.225))

MASK_THRESHOLD = 127  # of 255: a map cell counts where at least half of its area counts


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random warp; names and defaults are HigherHRNet's.

    A square of the image fills the input. Its side is scale * the short (or long) side of the
    image, scale uniform in [min_scale, max_scale]. It is rotated by at most `max_rotation` degrees,
    its centre is moved by at most max_translate / PIXEL_STD of its side along x and y, and it is
    mirrored with probability `flip`. All draws are uniform.
    """

    input_size: int = 512
    max_rotation: float = 30.0
    min_scale: float = 0.75
    max_scale: float = 1.5
    scale_type: str = "short"  # short | long
    max_translate: float = 40.0
    flip: float = 0.5
    strides: tuple[int, ...] = STRIDES  # of the maps for which masks are made
    legacy_alignment: bool = False  # HigherHRNet's matrix (`geometry.legacy_train_affine`)

    def draw(self, rng: np.random.Generator, width: int, height: int) -> tuple[Affine, bool]:
        """A random affine map image -> input, and whether it mirrors."""
        scale = rng.uniform(self.min_scale, self.max_scale)
        rotation = rng.uniform(-1, 1) * self.max_rotation
        mirror = bool(rng.random() < self.flip)

        image_side = min(width, height) if self.scale_type == "short" else max(width, height)
        side = scale * image_side
        shift = rng.uniform(-1, 1, 2) * self.max_translate / PIXEL_STD * side

        shift_xy = (float(shift[0]), float(shift[1]))
        return self.affine(width, height, side, rotation, shift_xy, mirror), mirror

    def affine(
        self,
        width: int,
        height: int,
        side: float,
        rotation: float,
        shift: tuple[float, float],
        mirror: bool,
    ) -> Affine:
        """The affine map of given values.

        side: of the square, image pixels; shift: x, y of the square's centre relative to the
        image's centre, image pixels; rotation: degrees.
        """
        if not self.legacy_alignment:
            centre = ((width - 1) / 2 + shift[0], (height - 1) / 2 + shift[1])
            return train_affine(centre, side, rotation, self.input_size, mirror)

        legacy_centre = (width / 2 + shift[0], height / 2 + shift[1])
        affine = legacy_train_affine(legacy_centre, side / PIXEL_STD, rotation, self.input_size)
        return affine.then(Affine.mirror(self.input_size)) if mirror else affine


def augment(
    sample: Sample,
    rng: np.random.Generator,
    augmentation: Augmentation,
    flip_index: np.ndarray,
    max_people: int,
) -> Sample:
    """A random training sample of an image; see `warp_sample`."""
    height, width = sample.image.shape[:2]
    affine, mirror = augmentation.draw(rng, width, height)
    return warp_sample(
        sample,
        affine,
        flip_index if mirror else None,
        (augmentation.input_size, augmentation.input_size),
        augmentation.strides,
        max_people,
    )


def warp_sample(
    sample: Sample,
    affine: Affine,
    flip_index: np.ndarray | None,
    size: tuple[int, int],
    strides: tuple[int, ...],
    max_people: int,
) -> Sample:
    """The sample warped by `affine` (image frame -> input frame) to `size` = width, height.

    flip_index: (K,) where the affine map mirrors (left and right keypoints swap), else None.
    Keypoints outside the output become unlabelled, people without any labelled keypoint are
    removed, and the first `max_people` are kept (the data set sorts by area). Pixels outside the
    image are black and count as background.
    """
    image = cv2.warpAffine(sample.image, affine.matrix, size, flags=cv2.INTER_LINEAR)
    masks = warp_masks(sample.mask, affine, size, strides)

    keypoints = warp_keypoints(sample.keypoints, affine, flip_index, size)
    is_labelled = (keypoints[:, :, 2] > 0).any(1)
    keypoints = keypoints[is_labelled][:max_people]

    return Sample(
        image=image, keypoints=keypoints, mask=sample.mask, image_id=sample.image_id, masks=masks
    )


def mirror_sample(
    sample: Sample, augmentation: Augmentation, flip_index: np.ndarray, max_people: int
) -> Sample:
    """The whole image, mirrored, as a training sample: to look at the data."""
    height, width = sample.image.shape[:2]
    affine = augmentation.affine(width, height, max(width, height), 0.0, (0.0, 0.0), mirror=True)
    return warp_sample(
        sample,
        affine,
        flip_index,
        (augmentation.input_size, augmentation.input_size),
        augmentation.strides,
        max_people,
    )


def warp_keypoints(
    keypoints: np.ndarray, affine: Affine, flip_index: np.ndarray | None, size: tuple[int, int]
) -> np.ndarray:
    """(P, K, 3) float32 in the input frame; unlabelled keypoints and those outside are 0, 0, 0."""
    if flip_index is not None:
        keypoints = keypoints[:, flip_index]
    moved = affine.apply(keypoints).astype(np.float32)

    position = moved[..., :2]
    is_inside = ((position >= -0.5) & (position <= np.subtract(size, 0.5))).all(-1)
    labelled = moved[..., 2] > 0
    moved[~(is_inside & labelled)] = 0
    return moved


def warp_masks(
    mask: np.ndarray, affine: Affine, size: tuple[int, int], strides: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """The mask (H, W) of the image per stride, (height / stride, width / stride) uint8 of 0 and 1.

    size: width, height of the output in input pixels.
    """
    width, height = size
    sizes = [(width // stride, height // stride) for stride in strides]
    if mask.all():
        return tuple(np.ones((rows, columns), dtype=np.uint8) for columns, rows in sizes)

    grey = mask * np.uint8(255)
    return tuple(
        _warp_mask(grey, affine, cells, stride)
        for cells, stride in zip(sizes, strides, strict=True)
    )


def _warp_mask(grey: np.ndarray, affine: Affine, size: tuple[int, int], stride: int) -> np.ndarray:
    """grey: (H, W) uint8 of 0 and 255; size: columns, rows. Cells outside the image are 1."""
    to_cells = affine.then(Affine.resize(1 / stride, 1 / stride))
    warped = cv2.warpAffine(
        grey,
        to_cells.matrix,
        size,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=255,
    )
    return (warped > MASK_THRESHOLD).astype(np.uint8)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) uint8 RGB -> float32 (x - IMAGENET_MEAN) / IMAGENET_STD, on the same device."""
    mean = constant(IMAGENET_MEAN, torch.float32, images.device).view(1, 3, 1, 1)
    std = constant(IMAGENET_STD, torch.float32, images.device).view(1, 3, 1, 1)
    return (images.float() - mean) / std
