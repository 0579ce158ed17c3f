"""The training warp: image, keypoints and masks are consistent; flips exchange left and right."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from duopose.datasets.transforms import (
    Augmentation,
    augment,
    normalise,
    warp_keypoints,
    warp_masks,
    warp_sample,
)
from duopose.geometry import Affine, legacy_train_affine
from duopose.skeletons import COCO
from duopose.types import Sample

DOTS = np.array([[60.0, 40.0], [100.0, 80.0], [140.0, 50.0], [90.0, 110.0]])


def dotted_sample(width: int = 200, height: int = 150) -> Sample:
    """White blots at the first four keypoints of one person; the fourth is unlabelled."""
    image = np.zeros((height, width, 3), np.uint8)
    ys, xs = np.mgrid[:height, :width]
    for x, y in DOTS:
        image = np.maximum(
            image, (255 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 18))[..., None].astype(np.uint8)
        )
    keypoints = np.zeros((1, 17, 3), np.float32)
    keypoints[0, :4, :2], keypoints[0, :3, 2] = DOTS, 2
    return Sample(image, keypoints, np.ones((height, width), np.uint8), 1)


def blot_near(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """Centre of gravity of the brightness within 9 pixels of a point."""
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]]
    weight = image[..., 0] * (np.hypot(xs - x, ys - y) < 9)
    return np.array([(weight * xs).sum(), (weight * ys).sum()]) / weight.sum()


def test_keypoints_stay_on_the_image() -> None:
    augmentation = Augmentation(input_size=256, max_translate=10)
    for seed in range(20):
        out = augment(
            dotted_sample(), np.random.default_rng(seed), augmentation, COCO.flip_index, 30
        )
        assert out.image.shape == (256, 256, 3) and out.keypoints.shape == (1, 17, 3)
        for x, y, v in out.keypoints[0]:
            if v and 12 < x < 243 and 12 < y < 243:
                assert np.hypot(*(blot_near(out.image, x, y) - (x, y))) < 0.15


def test_mirroring_swaps_names_and_nothing_else() -> None:
    sample = dotted_sample()
    rng = np.random.default_rng(0)
    plain = Augmentation(input_size=128, flip=0.0).affine(
        200, 150, 150.0, 20.0, (3.0, -5.0), mirror=False
    )
    mirrored = plain.then(Affine.mirror(128))
    sample.keypoints[0, 5:] = rng.uniform(60, 100, (12, 3))
    sample.keypoints[0, 5:, 2] = 2
    one = warp_sample(sample, plain, None, (128, 128), (4, 2), 30)
    two = warp_sample(sample, mirrored, COCO.flip_index, (128, 128), (4, 2), 30)
    assert np.abs(one.image[:, ::-1].astype(int) - two.image).max() <= 12 and np.array_equal(
        one.masks[0], two.masks[0]
    )
    back = two.keypoints[0][COCO.flip_index]
    back[back[:, 2] > 0, 0] = 127 - back[back[:, 2] > 0, 0]
    np.testing.assert_allclose(back, one.keypoints[0], atol=1e-4)


def test_keypoints_outside_the_square_and_unlabelled_ones_are_zero() -> None:
    keypoints = np.zeros((1, 3, 3), np.float32)
    keypoints[0] = np.array([[-0.4, 0, 2], [63.6, 5, 2], [10, 10, 0]])
    moved = warp_keypoints(keypoints, Affine.resize(1, 1), None, (64, 64))
    assert moved[0, 0, 2] == 2 and (moved[0, 1:] == 0).all()


def test_the_largest_people_stay_and_the_invisible_leave() -> None:
    sample = dotted_sample()
    people = np.repeat(sample.keypoints, 40, axis=0)
    people[:, :, 0] += np.arange(40)[:, None] * 0.5
    people[0, :, 0] = -5000
    crowded = Sample(sample.image, people, sample.mask, 1)
    affine = Augmentation(input_size=128).affine(200, 150, 220.0, 0.0, (0, 0), False)
    kept = warp_sample(crowded, affine, None, (128, 128), (4, 2), 30).keypoints
    assert len(kept) == 30
    np.testing.assert_allclose(kept[0], warp_keypoints(people[1:2], affine, None, (128, 128))[0])


def test_samples_without_people() -> None:
    sample = dotted_sample()
    empty = Sample(sample.image, np.zeros((0, 17, 3), np.float32), sample.mask, 1)
    out = augment(empty, np.random.default_rng(0), Augmentation(128), COCO.flip_index, 30)
    assert out.keypoints.shape == (0, 17, 3)


def test_masks_follow_the_image_and_outside_counts() -> None:
    mask = np.ones((100, 100), np.uint8)
    mask[20:60, 30:80] = 0
    affine = Augmentation(input_size=128).affine(100, 100, 130.0, 25.0, (4.0, -3.0), True)
    levels = warp_masks(mask, affine, (128, 128), (4, 2))
    assert [level.shape for level in levels] == [(32, 32), (64, 64)] and set(
        np.unique(levels[0])
    ) == {0, 1}
    for level, stride in zip(levels, (4, 2), strict=True):
        ys, xs = np.mgrid[: level.shape[0], : level.shape[1]]
        cells = np.stack([xs, ys], -1).reshape(-1, 2)
        points = affine.inverse().apply((cells + 0.5) * stride - 0.5)
        inside = (
            (points[:, 0] > 29.5)
            & (points[:, 0] < 79.5)
            & (points[:, 1] > 19.5)
            & (points[:, 1] < 59.5)
        )
        assert (level.reshape(-1) == ~inside).mean() > 0.985
    assert levels[0][0, 0] == 1


def test_scale_translation_rotation_and_flip_keep_to_their_bounds() -> None:
    augmentation = Augmentation(
        input_size=512, max_rotation=30, min_scale=0.75, max_scale=1.5, max_translate=40, flip=0.5
    )
    rng = np.random.default_rng(1)
    scales, angles, shifts, mirrors = [], [], [], []
    for _ in range(500):
        affine, mirrored = augmentation.draw(rng, 640, 480)
        linear = affine.matrix[:, :2] * (np.array([[-1], [1]]) if mirrored else 1)
        scale = 512 / affine.scale
        scales.append(scale / 480)
        angles.append(np.degrees(np.arctan2(linear[0, 1], linear[0, 0])))
        shifts.append((affine.inverse().apply(np.array([255.5, 255.5])) - (319.5, 239.5)) / scale)
        mirrors.append(mirrored)
    assert 0.75 <= min(scales) < 0.77 and 1.48 < max(scales) <= 1.5
    assert -30 <= min(angles) < -29 and 29 < max(angles) <= 30
    assert 0.19 < np.abs(shifts).max() <= 0.2 + 1e-9 and 0.4 < np.mean(mirrors) < 0.6


def test_long_scale_shows_the_long_side() -> None:
    augmentation = Augmentation(
        input_size=100,
        min_scale=1,
        max_scale=1,
        max_rotation=0,
        max_translate=0,
        scale_type="long",
        flip=0,
    )
    affine, _ = augmentation.draw(np.random.default_rng(0), 400, 200)
    np.testing.assert_allclose(
        affine.apply(np.array([[-0.5, 99.5], [399.5, 99.5]])),
        [[-0.5, 49.5], [99.5, 49.5]],
        atol=1e-9,
    )


def test_legacy_alignment_maps_the_images_middle_to_the_inputs_middle() -> None:
    augmentation = Augmentation(input_size=256, legacy_alignment=True)
    affine = augmentation.affine(640, 427, 300.0, 25.0, (4.0, -3.0), mirror=False)
    expected = legacy_train_affine((324.0, 210.5), 1.5, 25.0, 256)
    np.testing.assert_array_equal(affine.matrix, expected.matrix)
    np.testing.assert_allclose(affine.apply(np.array([324.0, 210.5])), [128, 128])
    mirrored = augmentation.affine(640, 427, 300.0, 25.0, (4.0, -3.0), mirror=True)
    np.testing.assert_allclose(mirrored.apply(np.array([324.0, 210.5])), [127, 128])


def test_normalise_is_imagenets() -> None:
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    expected = (images / 255.0 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    torch.testing.assert_close(normalise(images), expected)


def test_the_warp_is_opencvs_and_uint8() -> None:
    sample = dotted_sample()
    affine = Augmentation(128).affine(200, 150, 150.0, 10.0, (0, 0), False)
    out = warp_sample(sample, affine, None, (128, 128), (4, 2), 30)
    assert out.image.dtype == np.uint8
    np.testing.assert_array_equal(
        out.image, cv2.warpAffine(sample.image, affine.matrix, (128, 128))
    )
