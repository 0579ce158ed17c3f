"""People drawn on their image.

One colour a person. Left limbs are light, right limbs dark shades of it, what lies in the middle has the colour itself;
"left" is the person's own. Joints are dots in the limbs' shades, hollow where a joint was filled in (or, in drawn truth,
where it is hidden).
"""

from __future__ import annotations

import colorsys
from typing import NamedTuple

import cv2
import numpy as np

from duopose.skeletons import Skeleton
from duopose.types import Poses

Colour = tuple[int, int, int]  # RGB

FRACTION_BITS = 4  # cv2 takes coordinates as integers with this many binary digits behind the point
LINE = 0.015  # width of a limb, in sizes of the person (the root of the area that the joints span)
OUTLINE: Colour = (20, 20, 20)
GOLDEN_RATIO = 0.618034  # hues this far apart stay apart however many there are
FAR = 1 << 24  # pixels from the image beyond which nothing is drawn: cv2 calculates with 32 bits


class Shades(NamedTuple):
    """The colours of one person's sides."""

    left: Colour
    right: Colour
    middle: Colour


def draw_people(
    image: np.ndarray, poses: Poses, skeleton: Skeleton, threshold: float = 0.0
) -> np.ndarray:
    """A copy of `image` (H, W, 3) uint8 RGB with the people of `poses` (image frame) on it, the best one on top.

    Joints with a score of at most `threshold` are left out, and so are limbs that lack one end.
    """
    canvas = np.ascontiguousarray(image).copy()
    order = np.argsort(poses.scores, kind="stable")
    for person in order.tolist():
        keypoints = poses.keypoints[person]
        shown = (
            (keypoints[:, 2] > threshold)
            & np.isfinite(keypoints).all(1)
            & (np.abs(keypoints[:, :2]) < FAR).all(1)
        )
        _draw_person(
            canvas, keypoints[:, :2], shown, poses.filled[person], skeleton, person_shades(person)
        )
    return canvas


def draw_truth(image: np.ndarray, keypoints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """The same for annotated people: keypoints (P, K, 3) x, y, visibility; hidden joints (visibility 1) are hollow."""
    return draw_people(
        image, Poses(keypoints, np.ones(len(keypoints)), keypoints[:, :, 2] == 1), skeleton
    )


def person_shades(person: int) -> Shades:
    """The colours of the person with that number."""
    hue = (0.02 + person * GOLDEN_RATIO) % 1.0
    return Shades(
        left=_rgb(hue, 0.45, 1.0), right=_rgb(hue, 1.0, 0.62), middle=_rgb(hue, 0.9, 0.95)
    )


def _draw_person(
    canvas: np.ndarray,
    points: np.ndarray,
    shown: np.ndarray,
    hollow: np.ndarray,
    skeleton: Skeleton,
    shades: Shades,
) -> None:
    if not shown.any():
        return
    width = _line_width(points[shown], canvas)
    colours = [shades[_side(skeleton, joint)] for joint in range(skeleton.num_keypoints)]
    limbs = [pair for pair in skeleton.limb_index_pairs if shown[list(pair)].all()]
    for extra, outline in (
        (max(2, width // 2), True),
        (0, False),
    ):  # all outlines first, so that none cuts another limb
        for a, b in limbs:
            colour = OUTLINE if outline else _limb_colour(colours[a], colours[b], shades)
            draw_line(canvas, points[a], points[b], colour, width + extra)
    for joint in np.flatnonzero(shown).tolist():
        _draw_joint(canvas, points[joint], colours[joint], width, bool(hollow[joint]))


def _draw_joint(
    canvas: np.ndarray, point: np.ndarray, colour: Colour, width: int, hollow: bool
) -> None:
    radius = 0.9 * width + 0.6
    draw_disc(canvas, point, radius + max(1.0, 0.35 * width), OUTLINE)
    draw_disc(canvas, point, radius, colour)
    if hollow:
        draw_disc(canvas, point, 0.6 * radius, (255, 255, 255))


def draw_line(
    canvas: np.ndarray, start: np.ndarray, end: np.ndarray, colour: Colour, width: int
) -> None:
    """An anti-aliased line between points (x, y) in pixel-index coordinates, in place."""
    cv2.line(canvas, _fixed(start), _fixed(end), colour, width, cv2.LINE_AA, FRACTION_BITS)


def draw_disc(canvas: np.ndarray, point: np.ndarray, radius: float, colour: Colour) -> None:
    """A filled anti-aliased circle round a point (x, y) in pixel-index coordinates, in place."""
    cv2.circle(
        canvas,
        _fixed(point),
        round(radius * (1 << FRACTION_BITS)),
        colour,
        -1,
        cv2.LINE_AA,
        FRACTION_BITS,
    )


def _line_width(points: np.ndarray, canvas: np.ndarray) -> int:
    """Wide enough to see, thin enough to see the person: by the person's size, within limits set by the image's."""
    extent = points.max(0) - points.min(0)
    size = float(np.sqrt(max(extent[0] * extent[1], extent.max() ** 2 / 4)))
    largest = max(2.0, min(canvas.shape[:2]) / 110)
    return round(float(np.clip(LINE * size, 1.0, largest)))


def _side(skeleton: Skeleton, joint: int) -> int:
    """Index into `Shades`: the flip pairs list the left joint first."""
    for left, right in skeleton.flip_pairs:
        if skeleton.keypoints[joint] in (left, right):
            return 0 if skeleton.keypoints[joint] == left else 1
    return 2


def _limb_colour(a: Colour, b: Colour, shades: Shades) -> Colour:
    """A limb is of a side if both ends are, or one end and the other lies in the middle; across the body it is middle."""
    sides = {a, b} - {shades.middle}
    return sides.pop() if len(sides) == 1 else shades.middle


def _fixed(point: np.ndarray) -> tuple[int, int]:
    x, y = (round(float(value) * (1 << FRACTION_BITS)) for value in point[:2])
    return x, y


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = (
        round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value)
    )
    return red, green, blue
