"""Differences between variants with an interval, by the bootstrap over images and seeds.

For b in 1 .. B:
    weights of the images ~ multinomial: N images drawn with replacement
    seeds drawn with replacement
    d_b = mean over the drawn seeds of AP(variant, seed, weights) - AP(reference, seed, weights)
interval = 2.5 % and 97.5 % quantile of d_b

Both variants get the same images and seeds in a draw (paired). An image is drawn as a whole, since
its people are not independent. The draws depend on the number of images and seeds only, so a report
can be repeated. Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 6 and 13.

With n seeds the bootstrap's variance over seeds is (n - 1) / n of the unbiased one: with three
seeds that part of the interval is too narrow by a factor of 0.82.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from yacs.config import CfgNode

from duopose.benchmarks import build_benchmark
from duopose.coco_annotations import AnnotationFile
from duopose.config import build_skeleton
from duopose.config.build import json_memory
from duopose.datasets.split_files import find_annotations
from duopose.evaluate.coco import OksMatches, OksScoring
from duopose.evaluate.crowdpose import with_areas
from duopose.evaluate.ground_truth import open_annotations
from duopose.evaluate.results import read_entries

RESAMPLES = 200
QUANTILES = (2.5, 97.5)  # percent
OKS_BENCHMARKS = ("coco", "crowdpose")  # those whose headline is COCO's AP

MatchesOfSeeds = Mapping[int, OksMatches]  # seed -> matches of its results


@dataclass(frozen=True)
class Difference:
    """Mean difference of AP to the reference over the seeds that both have, and its interval."""

    mean: float
    low: float
    high: float


def read_matches(cfg: CfgNode, results: Path) -> OksMatches | None:
    """The matches of a results file under the settings that made it; None for other metrics."""
    benchmark = build_benchmark(cfg)
    if benchmark.name not in OKS_BENCHMARKS:
        return None

    file = read_ground_truth(cfg)
    entries = read_entries(results, json_memory(cfg))
    image_ids = scored_images(cfg, file)
    scoring = OksScoring.prepare(file, entries, build_skeleton(cfg), image_ids, "hotcoco")
    return scoring.matches()


def scored_images(cfg: CfgNode, file: AnnotationFile) -> list[int | str]:
    """Ids of the images that are scored, in the order of `OksMatches.num_people`."""
    return [image["id"] for image in file.images[: cfg.DATASET.LIMIT or None]]


def read_ground_truth(cfg: CfgNode) -> AnnotationFile:
    """The annotations of DATASET.TEST, with CrowdPose's areas where it is CrowdPose."""
    data = cfg.DATASET
    benchmark = build_benchmark(cfg)
    path = find_annotations(Path(data.ROOT), benchmark.layout, data.TEST, data.TEST_ANNOTATIONS)
    file = open_annotations(path, json_memory(cfg))
    return with_areas(file) if benchmark.name == "crowdpose" else file


def difference(
    variant: MatchesOfSeeds, reference: MatchesOfSeeds, resamples: int = RESAMPLES
) -> Difference | None:
    """The difference of two variants that were evaluated on the same images.

    None where they have no seed in common, or their images differ.
    """
    seeds = sorted(set(variant) & set(reference))
    if not seeds:
        return None
    people = [matches[seed].num_people for matches in (variant, reference) for seed in seeds]
    if not all(np.array_equal(people[0], other) for other in people):
        return None

    num_images = len(people[0])
    generator = np.random.default_rng(0)
    observed = _differences(variant, reference, seeds, np.ones(num_images))
    drawn = []
    for _ in range(resamples):
        weights = generator.multinomial(num_images, np.full(num_images, 1 / num_images))
        drawn_seeds = generator.integers(0, len(seeds), len(seeds))
        per_seed = _differences(variant, reference, seeds, weights.astype(float))
        drawn.append(per_seed[drawn_seeds].mean())

    low, high = np.percentile(drawn, QUANTILES)
    return Difference(float(observed.mean()), float(low), float(high))


def _differences(
    variant: MatchesOfSeeds, reference: MatchesOfSeeds, seeds: list[int], weights: np.ndarray
) -> np.ndarray:
    """AP(variant) - AP(reference) per seed; an AP without people counts as 0."""
    values = []
    for seed in seeds:
        ap = variant[seed].average_precision(weights) or 0.0
        ap_reference = reference[seed].average_precision(weights) or 0.0
        values.append(ap - ap_reference)
    return np.array(values)


def people_range_ap(matches: OksMatches, fewest: int, most: int) -> float | None:
    """AP over the images with `fewest` to `most` people that count."""
    people = matches.num_people
    selected = (people >= fewest) & (people <= most)
    return matches.average_precision(selected.astype(float))


def hidden_range_ap(
    matches: OksMatches, hidden: np.ndarray, lowest: int, highest: int
) -> float | None:
    """AP over the images of which `lowest` to less than `highest` percent is hidden.

    hidden: (N,) of `hidden_fractions`. Nothing is above 100 percent, so 100 itself is included.
    """
    percent = 100 * hidden
    selected = (percent >= lowest) & ((percent < highest) | (highest == 100))
    return matches.average_precision(selected.astype(float))


def hidden_fractions(file: AnnotationFile, image_ids: Sequence[int | str]) -> np.ndarray:
    """(N,) how many of an image's labelled keypoints are hidden (visibility 1 of COCO), 0 .. 1."""
    index_of = {image_id: index for index, image_id in enumerate(image_ids)}
    hidden = np.zeros(len(index_of))
    labelled = np.zeros(len(index_of))
    for annotation in file.annotations:
        index = index_of.get(annotation["image_id"])
        if index is None:
            continue
        visibility = np.array(annotation.get("keypoints", [])[2::3])
        hidden[index] += np.count_nonzero(visibility == 1)
        labelled[index] += np.count_nonzero(visibility > 0)
    return hidden / np.maximum(labelled, 1)


def mean_and_spread(values: list[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); None for the latter where n is 1."""
    spread = statistics.stdev(values) if len(values) > 1 else None
    return statistics.fmean(values), spread
