"""Mosaic: keypoints and masks are where the pixels are, in a known order, the same in every run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.datasets.conftest import tiny_content, write_tiny

from duopose.benchmarks import BENCHMARKS
from duopose.config import load_config
from duopose.datasets.build import build_dataset
from duopose.datasets.dataset import CocoFormatDataset
from duopose.datasets.loader import make_data_loader
from duopose.datasets.mosaic import SPLIT_RANGE, _draw_tiles, compose_mosaic
from duopose.datasets.transforms import Augmentation, augment
from duopose.skeletons import COCO
from duopose.types import Sample

PROJECT = Path(__file__).resolve().parents[2]
SIZE = 256
# A colour per image: no two share a channel pattern.
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
IGNORED_GREY = 90  # pixels of this grey are in the ignored region


def dotted(number: int) -> Sample:
    """A 200 x 160 image with one person: dots of the image's colour at six keypoints."""
    rng = np.random.default_rng(number)
    image = np.zeros((160, 200, 3), np.uint8)
    mask = np.ones((160, 200), np.uint8)
    image[:, :40] = IGNORED_GREY
    mask[:, :40] = 0
    keypoints = np.zeros((1, 17, 3), np.float32)
    positions = [(x, y) for x in (60, 110, 160) for y in (50, 105)]
    for joint, (x, y) in zip((0, 5, 6, 9, 12, 16), positions, strict=True):
        middle = x + int(rng.integers(-8, 8)), y + int(rng.integers(-8, 8))
        cv2.circle(image, middle, 6, COLOURS[number], -1, cv2.LINE_AA)
        keypoints[0, joint] = *middle, 1 + joint % 2
    return Sample(image, keypoints, mask, number)


def mosaic_of(seed: int, max_people: int = 30, flip: float = 0.5) -> Sample:
    samples = [dotted(number) for number in range(4)]
    augmentation = Augmentation(input_size=SIZE, flip=flip)
    rng = np.random.default_rng(seed)
    return compose_mosaic(samples, rng, augmentation, COCO.flip_index, max_people)


def dot_centre(image: np.ndarray, x: float, y: float, colour: tuple[int, ...]) -> np.ndarray:
    """Centroid x, y of a colour in the 15 x 15 pixels around a point; NaN where it is absent."""
    left, top = round(x) - 7, round(y) - 7
    patch = image[top : top + 15, left : left + 15].astype(np.float64)
    is_on = np.array(colour) > 0
    weight = np.clip(patch[..., is_on].min(2) - patch[..., ~is_on].max(2) - 30, 0, None)
    rows, columns = np.mgrid[:15, :15]
    with np.errstate(invalid="ignore"):
        return np.array(
            [
                (columns * weight).sum() / weight.sum() + left,
                (rows * weight).sum() / weight.sum() + top,
            ]
        )


@pytest.mark.parametrize("seed", range(6))
def test_keypoints_are_where_the_pixels_are(seed: int) -> None:
    """Each keypoint is in the middle of a dot, and a person's dots have one image's colour."""
    sample = mosaic_of(seed)
    split = np.array(_draw_tiles(np.random.default_rng(seed), SIZE, 4)[0][2:])
    found = []
    for person in sample.keypoints:
        labelled = person[person[:, 2] > 0, :2].astype(np.float64)
        is_whole = ((labelled > 8) & (labelled < SIZE - 9) & (abs(labelled - split) > 8)).all(1)
        whole = labelled[is_whole]
        errors = {}
        for colour in COLOURS:
            centres = [dot_centre(sample.image, x, y, colour) for x, y in whole]
            errors[colour] = max(np.linalg.norm(np.array(centres) - whole, axis=1), default=0)
        found += [colour for colour, error in errors.items() if len(whole) and error < 0.35]
    assert len(set(found)) == len(found) >= 3
    assert (sample.keypoints[sample.keypoints[..., 2] == 0] == 0).all()


@pytest.mark.parametrize("seed", range(6))
def test_masks_are_where_the_pixels_are(seed: int) -> None:
    sample = mosaic_of(seed)
    is_grey = np.abs(sample.image.astype(int) - IGNORED_GREY).max(2) < 12
    for mask, stride in zip(sample.masks, (4, 2), strict=True):
        cells = is_grey.reshape(SIZE // stride, stride, SIZE // stride, stride).mean((1, 3))
        assert mask.shape == cells.shape
        assert (mask[cells == 1] == 0).mean() > 0.995 and (mask[cells == 0] == 1).mean() > 0.995
    assert 0 < (sample.masks[0] == 0).mean() < 0.5


def test_mirrored_tiles_swap_left_and_right() -> None:
    """With as many flips as can be, visible joints keep colour but carry the mirrored names."""
    names = {
        joint
        for person in mosaic_of(1, flip=1.0).keypoints
        for joint in np.flatnonzero(person[:, 2])
    }
    allowed = {int(COCO.flip_index[joint]) for joint in (0, 5, 6, 9, 12, 16)}
    assert names and names <= allowed


def test_split_points_are_whole_cells_and_tiles_cover_the_canvas() -> None:
    for seed in range(50):
        tiles = _draw_tiles(np.random.default_rng(seed), 128, 4)
        covered = np.zeros((128, 128), int)
        for left, top, width, height in tiles:
            covered[top : top + height, left : left + width] += 1
            assert not any(value % 4 for value in (left, top, width, height))
        assert (covered == 1).all()
        assert SPLIT_RANGE[0] * 128 - 2 <= tiles[0][2] <= SPLIT_RANGE[1] * 128 + 2


def test_people_are_bounded_and_the_largest_stay() -> None:
    everybody = mosaic_of(3).keypoints
    kept = mosaic_of(3, max_people=2).keypoints
    assert len(everybody) == 4 and np.array_equal(kept, everybody[:2])
    areas = []
    for person in everybody:
        points = person[person[:, 2] > 0, :2]
        areas.append(np.prod(points.max(0) - points.min(0)))
    assert areas == sorted(areas, reverse=True)


# ---- in the data set ----


def dataset_with(root: Path, mosaic: float) -> CocoFormatDataset:
    cfg = load_config(
        PROJECT / "experiments/sample/demo.yaml",
        ["DATASET.ROOT", str(root), "DATASET.MOSAIC", str(mosaic), "DATASET.INPUT_SIZE", "64"],
    )
    return build_dataset(cfg, COCO, BENCHMARKS["coco"].layout, "train2017", train=True)


def equal(one: Sample, other: Sample) -> bool:
    pairs = [(one.image, other.image), (one.keypoints, other.keypoints)]
    pairs += list(zip(one.masks, other.masks, strict=True))
    return all(np.array_equal(*pair) for pair in pairs)


def test_off_is_the_plain_augmentation(tiny_root: Path) -> None:
    dataset = dataset_with(tiny_root, 0.0)
    augmentation = dataset.augmentation
    assert augmentation is not None
    for epoch, index in ((0, 0), (3, 1)):
        rng = np.random.default_rng([dataset.seed, epoch, index])
        sample = dataset.load(index)
        plain = augment(sample, rng, augmentation, COCO.flip_index, dataset.max_people)
        assert equal(dataset[(epoch, index)], plain)


def test_a_key_gives_one_sample_with_any_number_of_workers(tmp_path: Path) -> None:
    dataset = dataset_with(write_tiny(tmp_path, tiny_content()), 0.5)
    keys = [(epoch, index) for epoch in range(4) for index in range(3)]
    batches = [keys[:6], keys[6:]]
    alone = list(make_data_loader(dataset, batches, workers=0))
    shared = list(make_data_loader(dataset, batches, workers=2))
    for one, other in zip(alone, shared, strict=True):
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.keypoints, other.keypoints)
        assert one.image_ids == other.image_ids
    assert equal(dataset[(2, 1)], dataset[(2, 1)])
    assert not equal(dataset[(2, 1)], dataset[(3, 1)])


def test_probability_of_a_mosaic(tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = dataset_with(tiny_root, 0.25)
    made = []
    real = compose_mosaic

    def counting(samples: Sequence[Sample], *args: Any) -> Sample:
        made.append(len(samples))
        return real(samples, *args)

    monkeypatch.setattr("duopose.datasets.dataset.compose_mosaic", counting)
    for epoch in range(200):
        dataset[(epoch, 0)]
    assert set(made) == {4} and 30 <= len(made) <= 72  # 50, five standard deviations of 6.1 below
    assert dataset_with(tiny_root, 1.0)[(0, 2)].image_id == 30
