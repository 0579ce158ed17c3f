"""An image of several drawn people on a cluttered background, and its annotations as COCO has them."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from duopose.datasets.sample_data.body import Joints, pose_body
from duopose.datasets.sample_data.figure import (
    PARTS_PER_PERSON,
    Canvas,
    draw_figure,
    is_seen,
    random_look,
)

FINER = 2  # drawn at twice the size and averaged, so that edges are smooth
PEOPLE_SHARES = (0.32, 0.28, 0.2, 0.12, 0.08)  # images with 1, 2 ... 5 people
HEIGHTS = {
    1: (0.5, 0.95),
    2: (0.45, 0.9),
    3: (0.42, 0.8),
    4: (0.4, 0.7),
    5: (0.38, 0.62),
}  # of a person / of the image, by how many there are
MOST_COVERED = 0.55  # a person whose box is covered more than this by a nearer one's is moved
CROWD_SHARE, UNLABELLED_SHARE = (
    0.04,
    0.04,
)  # images with a crowd region, with a person without keypoints


class Person(NamedTuple):
    """One person, placed."""

    joints: Joints  # finer pixels
    height: float  # finer pixels
    box: np.ndarray  # (4,) x1 y1 x2 y2 of the joints, finer pixels


def draw_scene(
    rng: np.random.Generator, size: int, keypoints: tuple[str, ...]
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """An image (size, size, 3) uint8 RGB and its annotations, without their ids."""
    side = size * FINER
    canvas = Canvas(_background(rng, side), np.zeros((side, side), dtype=np.uint8))
    annotations = _draw_bystanders(rng, canvas, keypoints)
    bystanders = [canvas.ids > 0] * len(annotations)
    people = _place_people(rng, side)
    canvas.ids[:] = 0
    for number, person in enumerate(people):
        draw_figure(canvas, person.joints, random_look(rng), person.height, number)
    for annotation, region in zip(annotations, bystanders, strict=True):
        annotation.update(
            _region_fields(region & (canvas.ids == 0), crowd=bool(annotation["iscrowd"]))
        )
    for number, person in enumerate(people):
        annotations.append(_annotate(canvas, person, number, keypoints))
    image = cv2.resize(canvas.image, (size, size), interpolation=cv2.INTER_AREA)
    return _photographed(rng, image), [
        annotation for annotation in annotations if annotation["segmentation"]
    ]


# ---- placing ----


def _place_people(rng: np.random.Generator, side: int) -> list[Person]:
    """Far (small) people first. Who cannot be placed without hiding somebody after some trials stays away."""
    wanted = 1 + int(rng.choice(len(PEOPLE_SHARES), p=PEOPLE_SHARES))
    heights = np.sort(rng.uniform(*HEIGHTS[wanted], size=wanted)) * side
    people: list[Person] = []
    for height in heights:
        for _ in range(12):
            person = _place(rng, side, float(height))
            if all(_covered(other.box, person.box) < MOST_COVERED for other in people):
                people.append(person)
                break
    return people


def _place(rng: np.random.Generator, side: int, height: float) -> Person:
    """Somewhere in the image; about one in six is cut off by its border."""
    joints = {name: point * height for name, point in pose_body(rng).items()}
    points = np.array(list(joints.values()))[:, :2]
    low, high = points.min(0), points.max(0)
    beyond = 0.25 * height if rng.random() < 0.17 else -0.03 * height
    at_least, at_most = -low - beyond, side - 1 - high + beyond
    at_least, at_most = np.minimum(at_least, at_most), np.maximum(at_least, at_most)
    shift = np.append(rng.uniform(at_least, at_most), 0.0)
    return Person(
        {name: point + shift for name, point in joints.items()},
        height,
        np.concatenate([low, high]) + np.tile(shift[:2], 2),
    )


def _covered(box: np.ndarray, by: np.ndarray) -> float:
    """The share of `box` that lies inside `by`."""
    overlap = np.clip(np.minimum(box[2:], by[2:]) - np.maximum(box[:2], by[:2]), 0, None)
    return float(np.prod(overlap) / max(float(np.prod(box[2:] - box[:2])), 1e-6))


def _draw_bystanders(
    rng: np.random.Generator, canvas: Canvas, keypoints: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Small far people that carry no keypoints: now and then a crowd in one region, or one person on its own."""
    kind = rng.random()
    if kind > CROWD_SHARE + UNLABELLED_SHARE:
        return []
    crowd = kind < CROWD_SHARE
    side = canvas.ids.shape[0]
    left, top = rng.uniform(0.15, 0.6, 2) * side
    for _ in range(int(rng.integers(5, 9)) if crowd else 1):
        height = rng.uniform(0.16, 0.24) * side
        shift = np.array(
            [left + rng.uniform(-0.15, 0.25) * side, top + rng.uniform(-0.02, 0.02) * side, 0.0]
        )
        joints = {name: point * height + shift for name, point in pose_body(rng).items()}
        draw_figure(canvas, joints, random_look(rng), height, 0)
    return [{"iscrowd": int(crowd), "num_keypoints": 0, "keypoints": [0] * (3 * len(keypoints))}]


# ---- labels ----


def _annotate(
    canvas: Canvas, person: Person, number: int, keypoints: tuple[str, ...]
) -> dict[str, Any]:
    """Keypoints with 2 seen, 1 hidden by somebody or by the own body, 0 outside; region, box and area of what is seen."""
    side = canvas.ids.shape[0]
    flat: list[float] = []
    labelled = 0
    for name in keypoints:
        x, y = person.joints[name][:2]
        if not (0 <= round(x) < side and 0 <= round(y) < side):
            flat += [0, 0, 0]
            continue
        seen = is_seen(canvas, person.joints, person.height, number, name)
        flat += [_coarse(x), _coarse(y), 2 if seen else 1]
        labelled += 1
    region = (canvas.ids > PARTS_PER_PERSON * number) & (
        canvas.ids <= PARTS_PER_PERSON * (number + 1)
    )
    return {"iscrowd": 0, "num_keypoints": labelled, "keypoints": flat} | _region_fields(
        region, crowd=False
    )


def _coarse(value: float) -> float:
    """A finer pixel's index -> the image's, to a hundredth."""
    return round(float((value + 0.5) / FINER - 0.5), 2)


def _region_fields(region: np.ndarray, crowd: bool) -> dict[str, Any]:
    """segmentation (polygons, RLE for crowds), area and box of a region given in finer pixels."""
    area = round(float(np.count_nonzero(region)) / FINER**2, 2)
    ys, xs = np.nonzero(region.any(1))[0], np.nonzero(region.any(0))[0]
    if not len(xs):
        return {"segmentation": [], "area": 0.0, "bbox": [0.0, 0.0, 0.0, 0.0]}
    corners = [xs[0], ys[0], xs[-1] + 1 - xs[0], ys[-1] + 1 - ys[0]]
    return {
        "segmentation": _run_lengths(region) if crowd else _polygons(region),
        "area": area,
        "bbox": [float(c) / FINER for c in corners],
    }


def _polygons(region: np.ndarray) -> list[list[float]]:
    contours, _ = cv2.findContours(
        region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1
    )
    return [
        ((contour.reshape(-1) + 0.5) / FINER).tolist() for contour in contours if len(contour) > 2
    ]


def _run_lengths(region: np.ndarray) -> dict[str, Any]:
    """COCO's uncompressed run lengths of the region in the image's own pixels."""
    coarse = region[::FINER, ::FINER]
    encoded = coco_mask.encode(np.asfortranarray(coarse, dtype=np.uint8))
    edges = np.flatnonzero(np.diff(coarse.flatten(order="F").astype(np.int8), prepend=0)).tolist()
    counts = np.diff([0, *edges, coarse.size]).tolist()
    return {"size": list(encoded["size"]), "counts": counts}


# ---- surroundings ----


def _background(rng: np.random.Generator, side: int) -> np.ndarray:
    """A coloured slope with blots, boxes, sticks and discs, some of them as thick and as coloured as limbs and heads."""
    corners = rng.integers(40, 230, (2, 2, 3)).astype(np.float32)
    image = cv2.resize(corners, (side, side), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    for _ in range(int(rng.integers(8, 22))):
        colour = [int(value) for value in rng.integers(10, 246, 3)]
        start, size, kind = (
            rng.integers(0, side, 2),
            rng.integers(side // 20, side // 3, 2),
            rng.random(),
        )
        if kind < 0.3:
            cv2.rectangle(image, start.tolist(), (start + size).tolist(), colour, -1)
        elif kind < 0.5:
            cv2.ellipse(
                image,
                start.tolist(),
                (size // 2).tolist(),
                float(rng.uniform(0, 180)),
                0,
                360,
                colour,
                -1,
                cv2.LINE_AA,
            )
        elif kind < 0.85:
            end = start + rng.integers(-side // 4, side // 4, 2)
            cv2.line(
                image,
                start.tolist(),
                end.tolist(),
                colour,
                int(rng.integers(2, max(3, side // 20))),
                cv2.LINE_AA,
            )
        else:
            cv2.circle(
                image,
                start.tolist(),
                int(rng.integers(side // 40, side // 14)),
                colour,
                -1,
                cv2.LINE_AA,
            )
    return image


def _photographed(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Other exposure, and noise."""
    noisy = image * np.float32(rng.uniform(0.75, 1.15)) + rng.normal(
        0, rng.uniform(1, 8), image.shape
    ).astype(np.float32)
    return np.clip(noisy, 0, 255).astype(np.uint8)
