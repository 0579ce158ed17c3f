"""Crowded scenes: 2 to 12 people of very different sizes, who stand in groups and hide each other.

With them the grouping of joints into people limits a model, while finding the joints is as easy as
in the default scenes.

    largest height L of the image, then all heights log-uniform in [L / 5, L]
    each person stands beside, before or behind an earlier one, or anywhere
    depth order: by height times a random factor, so that small people also hide large ones
"""

from __future__ import annotations

import numpy as np

from duopose.datasets.sample_data.scene import (
    MAX_TRIALS,
    Person,
    SceneStyle,
    covered_fraction,
    moved_person,
    pose_person,
    shifts_into_image,
)

# Set by eye on drawn images, as the constants of `body`: people are recognisable at 160 pixels,
# and crowdIndex covers CrowdPose's three levels.
MIN_PEOPLE = 2
MAX_PEOPLE = 12
LARGEST_HEIGHTS = (0.5, 0.95)  # of the largest person / height of the image
SMALLEST_HEIGHT = 0.15  # of anybody / height of the image
MAX_HEIGHT_RATIO = 5.0  # largest / smallest person of an image
DEPTH_SPREAD = 0.25  # standard deviation of the logarithm of the factor of the depth order
GROUP_PROBABILITIES = (0.1, 0.9)  # range over images: that a person stands beside another one
MAX_GROUP_DISTANCE = 0.8  # between two centres / half the sum of the two boxes' sides
MAX_COVERED_IN_CROWD = 0.75  # a person who would cover more of another one's box is moved
MAX_HIDDEN_DISTANCE = 0.08  # heights; about half a forearm
MIN_VISIBLE_FRACTION = 0.15


def place_crowd(rng: np.random.Generator, side: int) -> list[Person]:
    """2 to 12 people, farthest first; fewer where no position is free for one."""
    wanted = int(rng.integers(MIN_PEOPLE, MAX_PEOPLE + 1))
    heights = _draw_heights(rng, wanted) * side
    group_probability = rng.uniform(*GROUP_PROBABILITIES)
    depth_order = np.argsort(heights * np.exp(rng.normal(0, DEPTH_SPREAD, wanted)))

    people: list[Person] = []
    for height in heights[depth_order]:
        for _ in range(MAX_TRIALS):
            person = pose_person(rng, float(height))
            is_beside = bool(people) and rng.random() < group_probability
            neighbour = people[int(rng.integers(len(people)))] if is_beside else None
            person = _placed(rng, side, person, neighbour)
            covered = [covered_fraction(other.box, person.box) for other in people]
            if all(fraction < MAX_COVERED_IN_CROWD for fraction in covered):
                people.append(person)
                break
    return people


def _draw_heights(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count,) heights / height of the image; the first one is the largest."""
    largest = rng.uniform(*LARGEST_HEIGHTS)
    smallest = max(largest / MAX_HEIGHT_RATIO, SMALLEST_HEIGHT)
    heights = np.exp(rng.uniform(np.log(smallest), np.log(largest), count))
    heights[0] = largest
    return heights


def _placed(
    rng: np.random.Generator, side: int, person: Person, neighbour: Person | None
) -> Person:
    """The person beside its neighbour, or anywhere in the image where there is none."""
    first, last = shifts_into_image(rng, person, side)
    low = np.minimum(first, last)
    high = np.maximum(first, last)
    if neighbour is None:
        return moved_person(person, rng.uniform(low, high))

    half_sides = (_sides(person.box) + _sides(neighbour.box)) / 2
    step = rng.uniform(-1, 1, 2) * MAX_GROUP_DISTANCE * half_sides
    shift = _centre(neighbour.box) + step - _centre(person.box)
    return moved_person(person, np.clip(shift, low, high))


def _sides(box: np.ndarray) -> np.ndarray:
    """(2,) width, height of a box x1 y1 x2 y2."""
    return box[2:] - box[:2]


def _centre(box: np.ndarray) -> np.ndarray:
    return (box[:2] + box[2:]) / 2


CROWD_STYLE = SceneStyle(place_crowd, MAX_HIDDEN_DISTANCE, MIN_VISIBLE_FRACTION)
