"""An image of several drawn people on a cluttered background, and its annotations as in COCO.

A `SceneStyle` says where people stand and which joints are labelled: `DEFAULT_STYLE` here,
`crowd.CROWD_STYLE` for images in which people hide each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from duopose.coco_annotations import Record
from duopose.datasets.sample_data.body import Joints, pose_body
from duopose.datasets.sample_data.figure import (
    PARTS_PER_PERSON,
    Canvas,
    draw_figure,
    is_visible,
    random_look,
)

OVERSAMPLING = 2  # the canvas is that much larger and is averaged, so that edges are smooth
PEOPLE_PROBABILITIES = (0.32, 0.28, 0.2, 0.12, 0.08)  # of 1, 2 ... 5 people in an image
# Number of people -> smallest and largest height of a person / height of the image.
HEIGHTS = {
    1: (0.5, 0.95),
    2: (0.45, 0.9),
    3: (0.42, 0.8),
    4: (0.4, 0.7),
    5: (0.38, 0.62),
}
MAX_COVERED = 0.55  # a person who would cover more of another one's box is moved
MAX_TRIALS = 12  # a person without a position after so many trials is left out
CROWD_PROBABILITY = 0.04  # of a crowd region in an image
UNLABELLED_PROBABILITY = 0.04  # of a person without keypoints


class Person(NamedTuple):
    """One person at its position."""

    joints: Joints  # canvas pixels
    height: float  # canvas pixels
    box: np.ndarray  # (4,) x1 y1 x2 y2 of the joints, canvas pixels


@dataclass(frozen=True)
class SceneStyle:
    """Where people stand, and which of them and of their hidden joints are labelled."""

    # Called as place_people(rng, side of the canvas): the people, farthest first.
    place_people: Callable[[np.random.Generator, int], list[Person]]
    # A joint behind another person is labelled up to this distance from the visible part of its
    # own body, in heights of the person; an annotator cannot guess the others.
    max_hidden_distance: float = float("inf")
    # A person of whom less than this fraction is visible gets no keypoints.
    min_visible_fraction: float = 0.0


def draw_scene(
    rng: np.random.Generator, size: int, keypoints: tuple[str, ...], style: SceneStyle
) -> tuple[np.ndarray, list[Record]]:
    """An image (size, size, 3) uint8 RGB and its annotations, without their ids."""
    side = size * OVERSAMPLING
    canvas = Canvas(_background(rng, side), np.zeros((side, side), dtype=np.uint8))

    bystanders = _draw_bystanders(rng, canvas, keypoints)
    bystander_region = canvas.ids > 0
    people = style.place_people(rng, side)
    canvas.ids[:] = 0
    drawn_areas = []
    for number, person in enumerate(people):
        draw_figure(canvas, person.joints, random_look(rng), person.height, number)
        drawn_areas.append(int(_region_of(canvas, number).sum()))

    annotations = []
    for annotation in bystanders:
        uncovered = bystander_region & (canvas.ids == 0)
        fields = _region_fields(uncovered, is_crowd=bool(annotation["iscrowd"]))
        annotations.append(annotation | fields)
    for number, person in enumerate(people):
        annotation = annotate(canvas, person, number, keypoints, style, drawn_areas[number])
        annotations.append(annotation)

    image = cv2.resize(canvas.image, (size, size), interpolation=cv2.INTER_AREA)
    visible = [annotation for annotation in annotations if annotation["segmentation"]]
    return _photographed(rng, image), visible


# ---- positions ----


def place_few_people(rng: np.random.Generator, side: int) -> list[Person]:
    """One to five people, far (small) ones first; fewer where no position is free for one."""
    wanted = 1 + int(rng.choice(len(PEOPLE_PROBABILITIES), p=PEOPLE_PROBABILITIES))
    heights = np.sort(rng.uniform(*HEIGHTS[wanted], size=wanted)) * side

    people: list[Person] = []
    for height in heights:
        for _ in range(MAX_TRIALS):
            person = place_person(rng, side, float(height))
            covered = [covered_fraction(other.box, person.box) for other in people]
            if all(fraction < MAX_COVERED for fraction in covered):
                people.append(person)
                break
    return people


DEFAULT_STYLE = SceneStyle(place_few_people)


def place_person(rng: np.random.Generator, side: int, height: float) -> Person:
    """A random pose at a random position; about one in six is cut off by the image's border."""
    person = pose_person(rng, height)
    first, last = shifts_into_image(rng, person, side)
    shift = rng.uniform(np.minimum(first, last), np.maximum(first, last))
    return moved_person(person, shift)


def pose_person(rng: np.random.Generator, height: float) -> Person:
    """A random pose with the hips at the canvas' origin."""
    joints = {name: point * height for name, point in pose_body(rng).items()}
    points = np.array(list(joints.values()))[:, :2]
    return Person(joints, height, np.concatenate([points.min(0), points.max(0)]))


def shifts_into_image(
    rng: np.random.Generator, person: Person, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Shifts (2,) x, y to the image's top left and to its bottom right.

    One person in six may be cut off by the border, the others stay inside.
    """
    may_leave = rng.random() < 0.17
    margin = 0.25 * person.height if may_leave else -0.03 * person.height
    return -person.box[:2] - margin, side - 1 - person.box[2:] + margin


def moved_person(person: Person, shift: np.ndarray) -> Person:
    """The person moved by (2,) x, y."""
    joints = {name: point + np.append(shift, 0.0) for name, point in person.joints.items()}
    return Person(joints, person.height, person.box + np.tile(shift, 2))


def covered_fraction(box: np.ndarray, by: np.ndarray) -> float:
    """The fraction of the area of `box` that is inside `by`."""
    overlap = np.clip(np.minimum(box[2:], by[2:]) - np.maximum(box[:2], by[:2]), 0, None)
    area = float(np.prod(box[2:] - box[:2]))
    return float(np.prod(overlap) / max(area, 1e-6))


def _draw_bystanders(
    rng: np.random.Generator, canvas: Canvas, keypoints: tuple[str, ...]
) -> list[Record]:
    """Draw nobody, a crowd, or one small person without labels; at most one annotation."""
    kind = rng.random()
    if kind > CROWD_PROBABILITY + UNLABELLED_PROBABILITY:
        return []

    is_crowd = kind < CROWD_PROBABILITY
    side = canvas.ids.shape[0]
    left, top = rng.uniform(0.15, 0.6, 2) * side
    for _ in range(int(rng.integers(5, 9)) if is_crowd else 1):
        height = rng.uniform(0.16, 0.24) * side
        x = left + rng.uniform(-0.15, 0.25) * side
        y = top + rng.uniform(-0.02, 0.02) * side
        shift = np.array([x, y, 0.0])
        joints = {name: point * height + shift for name, point in pose_body(rng).items()}
        draw_figure(canvas, joints, random_look(rng), height, 0)

    flat = [0] * (3 * len(keypoints))
    return [{"iscrowd": int(is_crowd), "num_keypoints": 0, "keypoints": flat}]


# ---- annotations ----


def annotate(
    canvas: Canvas,
    person: Person,
    number: int,
    keypoints: tuple[str, ...],
    style: SceneStyle,
    drawn_area: int,
) -> Record:
    """Keypoints of a person, and the region, box and area of its visible pixels.

    Visibility: 2 visible, 1 hidden by a person or by the body itself, 0 outside the image or, as
    the style says, hidden too deeply. number: of the person in `canvas.ids`; drawn_area: pixels of
    the person before others were drawn over it.
    """
    region = _region_of(canvas, number)
    is_labelled_person = int(region.sum()) >= style.min_visible_fraction * drawn_area
    max_distance = style.max_hidden_distance * person.height
    distances = _distances_to(region) if np.isfinite(max_distance) else None

    flat: list[float] = []
    for name in keypoints:
        x, y = person.joints[name][:2]
        position = round(y), round(x)
        is_inside = all(0 <= value < canvas.ids.shape[0] for value in position)
        if not (is_inside and is_labelled_person):
            flat += [0, 0, 0]
        elif is_visible(canvas, person.joints, person.height, number, name):
            flat += [_to_image(x), _to_image(y), 2]
        elif distances is not None and distances[position] > max_distance:
            flat += [0, 0, 0]
        else:
            flat += [_to_image(x), _to_image(y), 1]

    num_labelled = sum(visibility > 0 for visibility in flat[2::3])
    annotation = {"iscrowd": 0, "num_keypoints": num_labelled, "keypoints": flat}
    return annotation | _region_fields(region, is_crowd=False)


def _region_of(canvas: Canvas, number: int) -> np.ndarray:
    """(H, W) bool: the pixels where a person is on top."""
    first_id = PARTS_PER_PERSON * number + 1
    return (canvas.ids >= first_id) & (canvas.ids < first_id + PARTS_PER_PERSON)


def _distances_to(region: np.ndarray) -> np.ndarray:
    """(H, W) distance of each pixel to the region, canvas pixels; infinite where it is empty."""
    if not region.any():
        return np.full(region.shape, np.inf)
    not_in_region = (~region).astype(np.uint8)
    return cv2.distanceTransform(not_in_region, cv2.DIST_L2, cv2.DIST_MASK_5)  # 2 % exact


def _to_image(value: float) -> float:
    """A coordinate of the canvas -> of the image, rounded to 0.01 pixel."""
    return round(float((value + 0.5) / OVERSAMPLING - 0.5), 2)


def _region_fields(region: np.ndarray, is_crowd: bool) -> Record:
    """Segmentation (polygons; run lengths for crowds), area and box of a region of the canvas."""
    rows = np.nonzero(region.any(1))[0]
    columns = np.nonzero(region.any(0))[0]
    if not len(columns):
        return {"segmentation": [], "area": 0.0, "bbox": [0.0, 0.0, 0.0, 0.0]}

    left = columns[0]
    top = rows[0]
    box = [left, top, columns[-1] + 1 - left, rows[-1] + 1 - top]
    return {
        "segmentation": _run_lengths(region) if is_crowd else _polygons(region),
        "area": round(float(np.count_nonzero(region)) / OVERSAMPLING**2, 2),
        "bbox": [float(value) / OVERSAMPLING for value in box],
    }


def _polygons(region: np.ndarray) -> list[list[float]]:
    contours, _ = cv2.findContours(
        region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1
    )
    polygons = []
    for contour in contours:
        if len(contour) > 2:
            polygons.append(((contour.reshape(-1) + 0.5) / OVERSAMPLING).tolist())
    return polygons


def _run_lengths(region: np.ndarray) -> Record:
    """COCO's uncompressed run lengths of the region, in image pixels."""
    coarse = region[::OVERSAMPLING, ::OVERSAMPLING]
    encoded = coco_mask.encode(np.asfortranarray(coarse, dtype=np.uint8))
    columns = coarse.flatten(order="F").astype(np.int8)
    edges = np.flatnonzero(np.diff(columns, prepend=0)).tolist()
    counts = np.diff([0, *edges, coarse.size]).tolist()
    return {"size": list(encoded["size"]), "counts": counts}


# ---- background and camera ----


def _background(rng: np.random.Generator, side: int) -> np.ndarray:
    """A colour gradient with shapes, some of them as thick and as coloured as limbs and heads."""
    corners = rng.integers(40, 230, (2, 2, 3)).astype(np.float32)
    image = cv2.resize(corners, (side, side), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    for _ in range(int(rng.integers(8, 22))):
        _draw_clutter(rng, image, side)
    return image


def _draw_clutter(rng: np.random.Generator, image: np.ndarray, side: int) -> None:
    """A rectangle, an ellipse, a line or a disc."""
    colour = [int(value) for value in rng.integers(10, 246, 3)]
    start = rng.integers(0, side, 2)
    size = rng.integers(side // 20, side // 3, 2)
    kind = rng.random()
    origin = start.tolist()

    if kind < 0.3:
        cv2.rectangle(image, origin, (start + size).tolist(), colour, -1)
    elif kind < 0.5:
        axes = (size // 2).tolist()
        angle = float(rng.uniform(0, 180))
        cv2.ellipse(image, origin, axes, angle, 0, 360, colour, -1, cv2.LINE_AA)
    elif kind < 0.85:
        end = (start + rng.integers(-side // 4, side // 4, 2)).tolist()
        thickness = int(rng.integers(2, max(3, side // 20)))
        cv2.line(image, origin, end, colour, thickness, cv2.LINE_AA)
    else:
        radius = int(rng.integers(side // 40, side // 14))
        cv2.circle(image, origin, radius, colour, -1, cv2.LINE_AA)


def _photographed(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Another exposure, and noise."""
    exposed = image * np.float32(rng.uniform(0.75, 1.15))
    noise = rng.normal(0, rng.uniform(1, 8), image.shape).astype(np.float32)
    return np.clip(exposed + noise, 0, 255).astype(np.uint8)
