"""Which test images are drawn, and what is on them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.datasets.conftest import HEIGHT, WIDTH, tiny_content, write_tiny

from duopose.benchmarks import BENCHMARKS
from duopose.config import load_config
from duopose.datasets import build_dataset
from duopose.datasets.dataset import CocoFormatDataset
from duopose.inference.drawing import (
    DRAWN_SIDE,
    DrawnImages,
    keypoint_similarity,
    sum_of_mistakes,
)
from duopose.skeletons import COCO
from duopose.types import ImageResult, Poses

NOBODY = Poses(np.zeros((0, 17, 3)), np.zeros(0), np.zeros((0, 17), dtype=bool))


@pytest.fixture
def dataset(tmp_path: Path) -> CocoFormatDataset:
    """Images 10 (two people), 20, 30 and 40 (nobody with keypoints)."""
    root = write_tiny(tmp_path, tiny_content())
    cfg = load_config(None, ["DATASET.ROOT", str(root)])
    return build_dataset(cfg, COCO, BENCHMARKS["coco"].layout, "train2017", train=False)


def poses(keypoints: np.ndarray, *scores: float) -> Poses:
    return Poses(keypoints, np.array(scores), np.zeros(keypoints.shape[:2], dtype=bool))


def results(dataset: CocoFormatDataset) -> list[ImageResult]:
    """Both people of image 10 found exactly; in 30 a sure false person, in 20 an unsure one."""
    truth = dataset.people.of_image(0).astype(np.float64)
    found = {10: poses(truth, 0.9, 0.8), 20: poses(truth[:1], 0.2), 30: poses(truth[:1], 0.7)}
    return [
        ImageResult(image_id, found.get(int(image_id), NOBODY)) for image_id in (10, 20, 30, 40)
    ]


def drawing(choice: str, number: int = 2, seed: int = 0) -> DrawnImages:
    return DrawnImages(number, choice, threshold=0.0, seed=seed)


def test_first_worst_and_random(dataset: CocoFormatDataset) -> None:
    found = results(dataset)
    assert drawing("first").choose(dataset, found) == [0, 1]
    assert drawing("worst").choose(dataset, found) == [2, 1], "errors .7, .2; images 10, 40: 0"
    assert drawing("worst", 9).choose(dataset, found)[:2] == [2, 1]
    picks = [tuple(drawing("random", 2, seed).choose(dataset, found)) for seed in range(20)]
    assert len(set(picks)) > 2 and all(len(set(pick)) == 2 for pick in picks)
    assert picks[3] == tuple(drawing("random", 2, 3).choose(dataset, found))
    assert drawing("worst", 0).choose(dataset, found) == []


def test_mistakes_count_missed_false_and_displaced_people(dataset: CocoFormatDataset) -> None:
    truth = dataset.people.of_image(0).astype(np.float64)
    assert sum_of_mistakes(truth, poses(truth, 0.9, 0.8), COCO) == pytest.approx(0)
    assert sum_of_mistakes(truth, poses(truth[:1], 0.9), COCO) == pytest.approx(1, abs=1e-3)
    assert sum_of_mistakes(truth, NOBODY, COCO) == 2
    assert sum_of_mistakes(truth[:0], poses(truth, 0.9, 0.8), COCO) == pytest.approx(1.7)

    shifted = truth + np.array([1.0, 0.0, 0.0])
    similarity = keypoint_similarity(truth, shifted, COCO)
    area = 16.0 * 16.0
    expected = np.exp(-1 / (2 * area * (2 * np.array(COCO.sigmas)) ** 2)).mean()
    assert similarity[0, 0] == pytest.approx(expected)
    assert sum_of_mistakes(truth, poses(shifted, 1.0, 1.0), COCO) == pytest.approx(
        4 * (1 - expected), abs=1e-3
    )


def test_files_hold_prediction_and_truth_side_by_side(
    dataset: CocoFormatDataset, tmp_path: Path
) -> None:
    written = drawing("first").draw(dataset, results(dataset), tmp_path / "images")
    assert [path.name for path in written] == ["000001_10.png", "000002_20.png"]
    factor = DRAWN_SIDE // WIDTH
    sheet = cv2.imread(str(written[0]))
    assert sheet is not None
    assert sheet.shape[1] > 2 * factor * WIDTH and sheet.shape[0] > factor * HEIGHT

    worst = drawing("worst").draw(dataset, results(dataset), tmp_path / "images")
    assert [path.relative_to(tmp_path).as_posix() for path in worst] == [
        "images_worst/1_000003_30.png",
        "images_worst/2_000002_20.png",
    ]


def test_scores_are_written(dataset: CocoFormatDataset, tmp_path: Path) -> None:
    """The same people with other scores give another left half, and the same right half."""
    truth = dataset.people.of_image(0).astype(np.float64)
    halves = []
    for score in (0.91, 0.37):
        found = [ImageResult(10, poses(truth, score, score)), *results(dataset)[1:]]
        (path,) = drawing("first", 1).draw(dataset, found, tmp_path / str(score))
        sheet = cv2.imread(str(path))
        assert sheet is not None
        halves.append(np.split(sheet[:, : sheet.shape[1] // 2 * 2], 2, axis=1))
    assert (halves[0][0] != halves[1][0]).any()
    assert (halves[0][1] == halves[1][1]).all()
