"""From an image to a training sample: one affine warp for image, keypoints and masks; and what the device does on top."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from duopose.geometry import PIXEL_STD, Affine, legacy_train_affine, train_affine
from duopose.types import STRIDES, Sample

# Mean and standard deviation of ImageNet's RGB, on which HRNet's backbones were trained (torchvision's values, in 0 ... 255).
MEAN = tuple(255 * value for value in (0.485, 0.456, 0.406))
STD = tuple(255 * value for value in (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image; the family's recipe and names.

    A square of side `scale` * the image's short (or long) side fills the input, `scale` uniform in min_scale ... max_scale,
    turned by at most `max_rotation` degrees, its centre moved by at most `max_translate` / 200 of its side along x and y
    (in the family's terms: max_translate pixels times the scale in units of 200 px), and mirrored with probability `flip`.
    """

    input_size: int = 512
    max_rotation: float = 30.0
    min_scale: float = 0.75
    max_scale: float = 1.5
    scale_type: str = "short"  # short | long
    max_translate: float = 40.0
    flip: float = 0.5
    strides: tuple[int, ...] = STRIDES  # of the maps, for which masks are made
    legacy_alignment: bool = (
        False  # the family's own matrix, half a pixel off (geometry.family_train_affine)
    )

    def draw(self, rng: np.random.Generator, width: int, height: int) -> tuple[Affine, bool]:
        """A random affine image -> input, and whether it mirrors."""
        scale, turn, mirror = (
            rng.uniform(self.min_scale, self.max_scale),
            rng.uniform(-1, 1),
            bool(rng.random() < self.flip),
        )
        side = scale * (min(width, height) if self.scale_type == "short" else max(width, height))
        shift = rng.uniform(-1, 1, 2) * self.max_translate / PIXEL_STD * side
        return self.affine(
            width,
            height,
            side,
            turn * self.max_rotation,
            (float(shift[0]), float(shift[1])),
            mirror,
        ), mirror

    def affine(
        self,
        width: int,
        height: int,
        side: float,
        rotation: float,
        shift: tuple[float, float],
        mirror: bool,
    ) -> Affine:
        """The affine of given choices: a square of `side` image pixels round the image's middle + `shift`, turned by degrees."""
        if not self.legacy_alignment:
            centre = ((width - 1) / 2 + shift[0], (height - 1) / 2 + shift[1])
            return train_affine(centre, side, rotation, self.input_size, mirror)
        affine = legacy_train_affine(
            (width / 2 + shift[0], height / 2 + shift[1]),
            side / PIXEL_STD,
            rotation,
            self.input_size,
        )
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
        augmentation.input_size,
        augmentation.strides,
        max_people,
    )


def warp_sample(
    sample: Sample,
    affine: Affine,
    flip_index: np.ndarray | None,
    input_size: int,
    strides: tuple[int, ...],
    max_people: int,
) -> Sample:
    """The sample seen through `affine` (image frame -> input frame), in a square of side `input_size`.

    flip_index: (K,) given where the affine mirrors, so that left and right swap their names. Keypoints that leave the
    square become unlabelled, people of whom none is left drop out, and of more than `max_people` the first ones stay (the
    data set sorts by size). Outside the image the square is black and counts as background.
    """
    image = cv2.warpAffine(
        sample.image, affine.matrix, (input_size, input_size), flags=cv2.INTER_LINEAR
    )
    masks = warp_masks(sample.mask, affine, input_size, strides)
    keypoints = warp_keypoints(sample.keypoints, affine, flip_index, input_size)
    keypoints = keypoints[(keypoints[:, :, 2] > 0).any(1)][:max_people]
    return Sample(
        image=image, keypoints=keypoints, mask=sample.mask, image_id=sample.image_id, masks=masks
    )


def warp_keypoints(
    keypoints: np.ndarray, affine: Affine, flip_index: np.ndarray | None, input_size: int
) -> np.ndarray:
    """(P, K, 3) float32 in the input frame; those outside the square, and the unlabelled, are 0, 0, 0."""
    moved = affine.apply(keypoints if flip_index is None else keypoints[:, flip_index]).astype(
        np.float32
    )
    inside = ((moved[..., :2] >= -0.5) & (moved[..., :2] <= input_size - 0.5)).all(-1)
    moved[~(inside & (moved[..., 2] > 0))] = 0
    return moved


def warp_masks(
    mask: np.ndarray, affine: Affine, input_size: int, strides: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """The mask per stride, (input_size / stride,) * 2 uint8 of 0 and 1, straight from the image's mask."""
    sizes = [input_size // stride for stride in strides]
    if mask.all():
        return tuple(np.ones((size, size), dtype=np.uint8) for size in sizes)
    return tuple(
        _warp_mask(mask * np.uint8(255), affine, size, stride)
        for size, stride in zip(sizes, strides, strict=True)
    )


def _warp_mask(mask: np.ndarray, affine: Affine, size: int, stride: int) -> np.ndarray:
    to_cells = affine.then(Affine.resize(1 / stride, 1 / stride))
    warped = cv2.warpAffine(
        mask,
        to_cells.matrix,
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=255,
    )
    return (warped > 127).astype(np.uint8)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) uint8 RGB -> float32, ImageNet's mean taken off and divided by its deviation; on the images' device."""
    mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(1, 3, 1, 1)
    return (images.float() - mean) / std
