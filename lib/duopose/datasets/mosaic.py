"""Mosaic: four training images on one canvas (`DATASET.MOSAIC`).

Bochkovskiy et al., "YOLOv4: Optimal Speed and Accuracy of Object Detection", 2020, introduced it.
It helps small data sets. Where each photograph has one person, grouping is learned from mosaics
alone: no other training image has two people whose tags must differ.

    split point (x, y), random         ->  tiles  0 | 1
                                                  2 | 3
    per tile of w x h pixels:
        A = Augmentation.draw(...)         the usual random warp to the input square
        A' = resize(sqrt(w h) / input) A   so a tile's people are about half as large
        the centre of the square goes to the centre of the tile; the tile cuts it
    masks, keypoints and pixels of a tile use the same A'
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from duopose.datasets.transforms import Augmentation, warp_sample
from duopose.geometry import Affine
from duopose.types import Sample

NUM_TILES = 4
# Range of the split point / side of the canvas. Tiles stay nearly square, so that the body of an
# upright or lying person fits.
SPLIT_RANGE = (0.35, 0.65)

Tile = tuple[int, int, int, int]  # left, top, width, height in canvas pixels


def compose_mosaic(
    samples: Sequence[Sample],
    rng: np.random.Generator,
    augmentation: Augmentation,
    flip_index: np.ndarray,
    max_people: int,
) -> Sample:
    """Four samples (image frame), in random order, as one training sample (input frame).

    Keypoints outside their tile become unlabelled, and the `max_people` largest people are kept.
    `image_id` and `mask` are those of samples[0].
    """
    size = augmentation.input_size
    image = np.zeros((size, size, 3), dtype=np.uint8)
    masks = tuple(
        np.ones((size // stride, size // stride), dtype=np.uint8) for stride in augmentation.strides
    )
    people: list[np.ndarray] = []
    tiles = _draw_tiles(rng, size, max(augmentation.strides))
    order = rng.permutation(NUM_TILES)

    for tile, number in zip(tiles, order.tolist(), strict=True):
        left, top, width, height = tile
        warped = _warp_to_tile(samples[number], rng, augmentation, flip_index, tile)
        image[top : top + height, left : left + width] = warped.image
        for mask, part, stride in zip(masks, warped.masks, augmentation.strides, strict=True):
            rows = slice(top // stride, (top + height) // stride)
            columns = slice(left // stride, (left + width) // stride)
            mask[rows, columns] = part

        is_labelled = warped.keypoints[..., 2:] > 0
        shift = np.array([left, top, 0], dtype=np.float32)
        people.append(warped.keypoints + is_labelled * shift)

    keypoints = _largest(np.concatenate(people), max_people)
    first = samples[0]
    return Sample(image, keypoints, first.mask, first.image_id, masks)


def _draw_tiles(rng: np.random.Generator, size: int, step: int) -> list[Tile]:
    """Four tiles of a square canvas; the split point is a multiple of `step` pixels.

    With the largest map stride as the step no map cell lies in two tiles.
    """
    split = rng.uniform(*SPLIT_RANGE, 2) * size
    x, y = (np.rint(split / step).astype(int) * step).tolist()
    right = size - x
    lower = size - y
    return [(0, 0, x, y), (x, 0, right, y), (0, y, x, lower), (x, y, right, lower)]


def _warp_to_tile(
    sample: Sample,
    rng: np.random.Generator,
    augmentation: Augmentation,
    flip_index: np.ndarray,
    tile: Tile,
) -> Sample:
    """The sample augmented as usual, in the frame of its tile."""
    image_height, image_width = sample.image.shape[:2]
    to_square, mirror = augmentation.draw(rng, image_width, image_height)

    _, _, width, height = tile
    side = np.sqrt(width * height)
    resize = Affine.resize(side / augmentation.input_size, side / augmentation.input_size)
    to_centre = Affine(np.array([[1, 0, (width - side) / 2], [0, 1, (height - side) / 2]]))
    affine = to_square.then(resize).then(to_centre)

    return warp_sample(
        sample,
        affine,
        flip_index if mirror else None,
        (width, height),
        augmentation.strides,
        len(sample.keypoints),
    )


def _largest(keypoints: np.ndarray, max_people: int) -> np.ndarray:
    """The people (P, K, 3) with the largest boxes around labelled keypoints, largest first."""
    if not len(keypoints):
        return keypoints
    labelled = keypoints[..., 2:] > 0
    low = np.where(labelled, keypoints[..., :2], np.inf).min(1)
    high = np.where(labelled, keypoints[..., :2], -np.inf).max(1)
    areas = np.prod(high - low, axis=1)
    return keypoints[np.argsort(-areas, kind="stable")[:max_people]]
