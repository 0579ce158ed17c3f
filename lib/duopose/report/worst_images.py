"""Which images are worst, at the score threshold that a user would choose.

The threshold is the one with the largest F1 of precision and recall at OKS .5 over all images. The
mistakes of an image are its missed people and its false detections from that score on, each mean
over the OKS thresholds .50 to .95, so that a bad position counts in part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duopose.report.matching import NONE, Matching


@dataclass(frozen=True)
class ImageMistakes:
    """Mistakes of each of N images at one score threshold."""

    threshold: float  # detections with a lower score are left out
    missed: np.ndarray  # (N,) people, mean over the OKS thresholds
    false: np.ndarray  # (N,) detections, the same

    @property
    def total(self) -> np.ndarray:
        """(N,)."""
        return self.missed + self.false


def find_mistakes(matching: Matching) -> ImageMistakes:
    """Missed people and false detections of each image."""
    truth = matching.truth
    found = matching.detections
    threshold = best_threshold(matching)
    shown = found.score >= threshold

    missed = np.zeros(matching.num_images)
    false = np.zeros(matching.num_images)
    for person, ignored in zip(found.person_at, found.ignored_at, strict=True):
        is_found = np.zeros(len(truth.image), dtype=bool)
        is_found[person[(person != NONE) & shown]] = True
        is_missed = truth.counts & ~is_found
        is_false = shown & (person == NONE) & ~ignored
        missed += np.bincount(truth.image[is_missed], minlength=matching.num_images)
        false += np.bincount(found.image[is_false], minlength=matching.num_images)

    number_of_thresholds = len(found.person_at)
    return ImageMistakes(threshold, missed / number_of_thresholds, false / number_of_thresholds)


def best_threshold(matching: Matching) -> float:
    """The score from which F1 at OKS .5 is largest; 0 where there are no detections."""
    matches = matching.select()
    score = matching.detections.score
    if not len(score):
        return 0.0

    right = np.cumsum(matches.is_true[0])
    false = np.cumsum(matches.is_false[0])
    f1 = 2 * right / np.maximum(right + false + matches.num_people.sum(), 1)
    # A threshold cannot separate equal scores.
    is_last_of_score = np.append(score[1:] != score[:-1], True)
    return float(score[np.argmax(np.where(is_last_of_score, f1, -1))])


def worst_images(total: np.ndarray, number: int) -> list[int]:
    """Indices of the images with the most mistakes, worst first; images without are left out."""
    order = np.argsort(-total, kind="stable")[:number]
    return [int(index) for index in order if total[index] > 0]
