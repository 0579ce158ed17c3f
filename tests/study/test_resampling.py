"""AP from kept matches, and the interval of a difference."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from duopose.evaluate.coco import OksMatches, OksScoring
from duopose.evaluate.ground_truth import open_annotations
from duopose.skeletons import COCO
from duopose.study.resampling import (
    difference,
    hidden_fractions,
    hidden_range_ap,
    mean_and_spread,
    people_range_ap,
)

ANNOTATIONS = Path("data/annotations/person_keypoints_val2017.json")


def noisy_results(content: dict, seed: int) -> list[dict]:
    """Two noisy detections per person, each person with its own noise."""
    generator = np.random.default_rng(seed)
    people = []
    for person in content["annotations"] * 2:
        keypoints = np.reshape(person["keypoints"], (17, 3)).astype(float)
        keypoints[:, :2] += generator.normal(0, generator.uniform(0.5, 6), (17, 2))
        entry = {"image_id": person["image_id"], "category_id": 1, "score": generator.random()}
        people.append(entry | {"keypoints": keypoints.ravel().tolist()})
    return people


def scoring(content: dict, results: list[dict]) -> OksScoring:
    return OksScoring.prepare(open_annotations(content), results, COCO, None, "hotcoco")


def of_image(records: list[dict], image_id: int, new_id: int) -> list[dict]:
    """The records of an image, with another image id."""
    return [record | {"image_id": new_id} for record in records if record["image_id"] == image_id]


def test_ap_of_resampled_images_is_that_of_copied_images(project: Path) -> None:
    content = json.loads(ANNOTATIONS.read_text())
    results = noisy_results(content, 1)
    once = scoring(content, results)
    matches = once.matches()
    assert matches.average_precision() == pytest.approx(once.metrics()["AP"], abs=1e-12)

    weights = np.random.default_rng(2).multinomial(12, np.full(12, 1 / 12))
    assert weights.max() >= 2 and weights.min() == 0
    copied = copy.deepcopy(content)
    copied["images"] = []
    copied["annotations"] = []
    copied_results: list[dict] = []
    for image, count in zip(content["images"], weights, strict=True):
        for number in range(count):
            new_id = image["id"] + 1000 * number
            copied["images"].append(image | {"id": new_id})
            for records, target in (
                (content["annotations"], copied["annotations"]),
                (results, copied_results),
            ):
                own = [record for record in records if record["image_id"] == image["id"]]
                target += [record | {"image_id": new_id} for record in own]
    expected = scoring(copied, copied_results).metrics()["AP"]
    assert expected is not None and 0.1 < expected < 0.9
    assert matches.average_precision(weights.astype(float)) == pytest.approx(expected, abs=1e-12)


def test_ap_by_number_of_people(project: Path) -> None:
    content = json.loads(ANNOTATIONS.read_text())
    all_images = scoring(content, noisy_results(content, 3))
    odd = [image["id"] for image in content["images"] if image["id"] % 2]
    expected = all_images.metrics(odd)["AP"]
    assert people_range_ap(all_images.matches(), 2, 5) == pytest.approx(expected, abs=1e-12)
    assert people_range_ap(all_images.matches(), 6, 9) is None


def test_ap_by_hidden_keypoints(project: Path) -> None:
    """In the image of number i, i of the 17 keypoints of each person are hidden; 12 images."""
    content = json.loads(ANNOTATIONS.read_text())
    number_of = {image["id"]: number for number, image in enumerate(content["images"])}
    for person in content["annotations"]:
        number = number_of[person["image_id"]]
        person["keypoints"][2::3] = [1] * number + [2] * (17 - number)

    all_images = scoring(content, noisy_results(content, 3))
    hidden = hidden_fractions(all_images.file, all_images.image_ids)
    assert hidden == pytest.approx(np.arange(12) / 17, abs=1e-12)

    few = [image_id for image_id, number in number_of.items() if 3 <= number <= 5]
    expected = all_images.metrics(few)["AP"]
    percent = [100 * number / 17 for number in (3, 6)]
    lowest, highest = int(percent[0]), int(percent[1])
    ap = hidden_range_ap(all_images.matches(), hidden, lowest, highest)
    assert ap == pytest.approx(expected, abs=1e-12)

    every = hidden_range_ap(all_images.matches(), np.ones(12), 50, 100)
    assert every == pytest.approx(all_images.metrics()["AP"], abs=1e-12)


def found(hits: np.ndarray) -> OksMatches:
    """One person an image; image i has one detection, which is right, where hits[i]."""
    images = np.flatnonzero(hits)
    is_true = np.ones((10, len(images)), bool)
    return OksMatches(images, is_true, ~is_true, np.ones(len(hits)))


def test_interval_of_a_known_difference() -> None:
    """Recall of half of n images: AP 1/2, standard error sqrt(1/4 / n) over images."""
    num_images = 400
    hits = np.arange(num_images) % 2 == 0
    reference = {seed: found(hits) for seed in range(3)}
    variant = {seed: found(np.ones(num_images, bool)) for seed in range(3)}
    result = difference(variant, reference, resamples=400)
    assert result is not None
    assert result.mean == pytest.approx(0.5, abs=0.01)
    expected_width = 2 * 1.96 * 0.5 / num_images**0.5
    assert result.high - result.low == pytest.approx(expected_width, rel=0.15)
    assert result == difference(variant, reference, resamples=400)


def test_seeds_widen_the_interval() -> None:
    """All images alike within a seed, so that only the seeds differ: 0, .5 and 1 of the images."""
    reference = {seed: found(np.zeros(50, bool)) for seed in range(3)}
    fractions = [found(np.zeros(50, bool)), found(np.ones(50, bool)), found(np.ones(50, bool))]
    variant = dict(enumerate(fractions))
    result = difference(variant, reference, resamples=400)
    assert result is not None and result.mean == pytest.approx(2 / 3)
    assert (result.low, result.high) == pytest.approx((0.0, 1.0))


def test_the_same_weights_have_no_difference() -> None:
    hits = np.random.default_rng(0).random(50) < 0.5
    same = {seed: found(hits) for seed in range(3)}
    result = difference(same, same)
    assert result is not None and (result.mean, result.low, result.high) == (0, 0, 0)
    assert difference(same, {7: found(hits)}) is None
    assert difference(same, {0: found(hits[:20])}) is None


def test_spread_is_the_sample_standard_deviation() -> None:
    assert mean_and_spread([0.1, 0.2, 0.3]) == pytest.approx((0.2, 0.1))
    assert mean_and_spread([0.1]) == (0.1, None)
