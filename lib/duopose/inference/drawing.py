"""Drawn test images: the people found, with their scores, beside the annotated ones.

DEBUG.DRAW chooses the images. `worst` are those with the largest sum of mistakes

    sum over people (1 - OKS)  +  sum over detections score * (1 - OKS),

where people and detections of an image are paired so that the sum of the OKS is largest, and the
OKS of an unpaired one is 0. The area in the OKS is that of the box around the labelled keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from duopose.datasets.dataset import CocoFormatDataset
from duopose.errors import BadSample, counted
from duopose.geometry import Affine
from duopose.image_files import output_stem, write_image
from duopose.skeletons import Skeleton
from duopose.types import ImageResult, Poses
from duopose.visualize.draw import draw_ground_truth, draw_people
from duopose.visualize.maps import enlarge_image, make_grid

# Pixels. An image whose long side fits into it several times is enlarged before drawing: on the
# demo's 128-pixel images joints would hide each other.
DRAWN_SIDE = 640
MIN_AREA = 1.0  # square pixels: of people with a single labelled keypoint


@dataclass(frozen=True)
class DrawnImages:
    """Which images to draw, and how; see the DEBUG settings."""

    number: int
    choice: str  # first | worst | random
    threshold: float  # smallest score of a person
    seed: int

    def draw(
        self, dataset: CocoFormatDataset, results: Sequence[ImageResult], folder: Path
    ) -> tuple[Path, ...]:
        """Write PNG files and return their paths. results: in the order of the data set.

        folder: gets files <place in the list>_<id>.png; for other choices than `first` a folder
        beside it, FOLDER_worst or FOLDER_random, and for `worst` the files begin with the rank.
        """
        if self.choice != "first":
            folder = folder.with_name(f"{folder.name}_{self.choice}")
        chosen = self.choose(dataset, results)
        width = len(str(len(chosen)))

        written = []
        for rank, index in enumerate(chosen, start=1):
            prefix = f"{rank:0{width}}_" if self.choice == "worst" else ""
            try:
                drawn = self._draw_image(dataset, index, results[index].poses)
            except BadSample:
                if dataset.skip_bad:
                    continue
                raise
            path = folder / f"{prefix}{output_stem(index + 1, results[index].image_id)}.png"
            write_image(path, drawn)
            written.append(path)
        return tuple(written)

    def choose(self, dataset: CocoFormatDataset, results: Sequence[ImageResult]) -> list[int]:
        """Indices of the images to draw."""
        number = min(self.number, len(results))
        if self.choice == "random":
            order = np.random.default_rng(self.seed).permutation(len(results))
            return sorted(order[:number].tolist())
        if self.choice == "first" or not number:
            return list(range(number))

        mistakes = [
            sum_of_mistakes(dataset.people.of_image(index), result.poses, dataset.skeleton)
            for index, result in enumerate(results)
        ]
        return np.argsort(-np.array(mistakes), kind="stable")[:number].tolist()

    def _draw_image(self, dataset: CocoFormatDataset, index: int, poses: Poses) -> np.ndarray:
        """People found and, where the split has annotations, people annotated."""
        image = dataset.read(index)
        factor = max(1, DRAWN_SIDE // max(image.shape[:2]))
        enlarged = enlarge_image(image, factor)
        to_enlarged = Affine.resize(factor, factor)

        good = poses.scores >= self.threshold
        shown = Poses(
            to_enlarged.apply(poses.keypoints[good]), poses.scores[good], poses.filled[good]
        )
        labels = [f"{score:.2f}" for score in shown.scores]
        panels = [draw_people(enlarged, shown, dataset.skeleton, labels=labels)]
        titles = [f"found: {counted(len(labels), 'person', 'people')}"]

        if len(dataset.people.keypoints):
            truth = to_enlarged.apply(dataset.people.of_image(index))
            panels.append(draw_ground_truth(enlarged, truth, dataset.skeleton))
            titles.append(f"annotated: {counted(len(truth), 'person', 'people')}")
        return make_grid(panels, titles, columns=len(panels))


def sum_of_mistakes(truth: np.ndarray, poses: Poses, skeleton: Skeleton) -> float:
    """The measure of `worst`, see above. truth: (P, K, 3) x, y, visibility."""
    similarities = keypoint_similarity(truth, poses.keypoints, skeleton)
    people, detections = linear_sum_assignment(-similarities)
    paired = similarities[people, detections]

    missed = len(truth) - paired.sum()
    false = poses.scores.sum() - (poses.scores[detections] * paired).sum()
    return float(missed + false)


def keypoint_similarity(truth: np.ndarray, found: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """(P, D) OKS of annotated people (P, K, 3) and detections (D, K, 3), as in `evaluate.coco`."""
    labelled = truth[:, :, 2] > 0
    low = np.where(labelled[..., None], truth[:, :, :2], np.inf).min(axis=1)
    high = np.where(labelled[..., None], truth[:, :, :2], -np.inf).max(axis=1)
    area = np.maximum((high - low).prod(axis=1), MIN_AREA)

    difference = truth[:, None, :, :2] - found[None, :, :, :2]
    squared = (difference**2).sum(axis=-1)
    variance = (2 * np.array(skeleton.sigmas)) ** 2
    similarity = np.exp(-squared / (2 * area[:, None, None] * variance))
    counts = labelled[:, None, :]
    number = np.maximum(counts.sum(axis=-1), 1)
    result: np.ndarray = (similarity * counts).sum(axis=-1) / number
    return result
