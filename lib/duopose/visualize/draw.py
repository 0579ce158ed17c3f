"""People drawn on their image.

Every person has a colour of its own: left limbs are a light shade of it, right limbs a dark one,
limbs in the middle have the colour itself. "Left" is the person's own left. Joints are discs in the
same shades; a hollow disc is a joint that was filled in (of ground truth: a hidden joint).
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from duopose.skeletons import Skeleton
from duopose.types import Poses

Colour = tuple[int, int, int]  # RGB

SUBPIXEL_BITS = 4  # cv2's drawing takes coordinates as integers with this many fractional bits
SUBPIXELS = 1 << SUBPIXEL_BITS
MAX_COORDINATE = 1 << 24  # joints further away are not drawn: cv2 computes with 32 bits

# Chosen by eye, on images from 128 to 2000 pixels.
LIMB_WIDTH = 0.015  # in sizes of the person: the root of the area that the joints span
MAX_LIMB_WIDTH = 1 / 110  # of the image's short side, and at least 2 pixels
OUTLINE: Colour = (20, 20, 20)
WHITE: Colour = (255, 255, 255)
GOLDEN_RATIO = 0.618034  # hues this far apart stay distinct, however many there are


class Shades(NamedTuple):
    """The colours of one person's sides."""

    left: Colour
    right: Colour
    middle: Colour


def draw_people(
    image: np.ndarray,
    poses: Poses,
    skeleton: Skeleton,
    threshold: float = 0.0,
    track_ids: np.ndarray | None = None,
    labels: Sequence[str] | None = None,
) -> np.ndarray:
    """A copy of `image` (H, W, 3) uint8 RGB with the people of `poses` (image frame) on it.

    People with higher scores are drawn later, on top. Joints with a score of at most `threshold`
    are left out, and so are limbs without both ends. track_ids: (P,) numbers to write above the
    people; their colours follow the numbers, so that they stay the same in a video.
    labels: P texts to write instead.
    """
    canvas = np.ascontiguousarray(image).copy()
    for person in np.argsort(poses.scores, kind="stable").tolist():
        keypoints = poses.keypoints[person]
        is_near = (np.abs(keypoints[:, :2]) < MAX_COORDINATE).all(axis=1)
        is_drawn = (keypoints[:, 2] > threshold) & np.isfinite(keypoints).all(axis=1) & is_near
        filled = poses.filled[person]
        number = person if track_ids is None else int(track_ids[person])
        shades = person_shades(number)
        _draw_person(canvas, keypoints[:, :2], is_drawn, filled, skeleton, shades)
        label = "" if track_ids is None else str(number)
        if labels is not None:
            label = labels[person]
        if label and is_drawn.any():
            _draw_label(canvas, keypoints[is_drawn, :2], label, shades.left)
    return canvas


def draw_ground_truth(image: np.ndarray, keypoints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """`draw_people` for annotated people, keypoints (P, K, 3) x, y, visibility.

    Hidden joints (visibility 1) are hollow.
    """
    hidden = keypoints[:, :, 2] == 1
    poses = Poses(keypoints, np.ones(len(keypoints)), hidden)
    return draw_people(image, poses, skeleton)


def person_shades(person: int) -> Shades:
    """The colours of the person with that index."""
    hue = (0.02 + person * GOLDEN_RATIO) % 1.0
    return Shades(
        left=_rgb(hue, 0.45, 1.0),
        right=_rgb(hue, 1.0, 0.62),
        middle=_rgb(hue, 0.9, 0.95),
    )


def draw_line(
    canvas: np.ndarray, start: np.ndarray, end: np.ndarray, colour: Colour, width: int
) -> None:
    """An anti-aliased line between points (x, y) in pixel-index coordinates, in place."""
    ends = (_to_subpixels(start), _to_subpixels(end))
    cv2.line(canvas, *ends, colour, width, cv2.LINE_AA, SUBPIXEL_BITS)


def draw_disc(canvas: np.ndarray, centre: np.ndarray, radius: float, colour: Colour) -> None:
    """A filled anti-aliased circle around (x, y) in pixel-index coordinates, in place."""
    position = _to_subpixels(centre)
    size = round(radius * SUBPIXELS)
    cv2.circle(canvas, position, size, colour, cv2.FILLED, cv2.LINE_AA, SUBPIXEL_BITS)


def _draw_person(
    canvas: np.ndarray,
    positions: np.ndarray,
    is_drawn: np.ndarray,
    is_hollow: np.ndarray,
    skeleton: Skeleton,
    shades: Shades,
) -> None:
    if not is_drawn.any():
        return
    width = _limb_width(positions[is_drawn], canvas)
    colours = [shades[_side(skeleton, joint)] for joint in range(skeleton.num_keypoints)]
    limbs = [pair for pair in skeleton.limb_index_pairs if is_drawn[list(pair)].all()]

    # All outlines first, so that none covers another limb.
    for a, b in limbs:
        draw_line(canvas, positions[a], positions[b], OUTLINE, width + max(2, width // 2))
    for a, b in limbs:
        colour = _limb_colour(colours[a], colours[b], shades)
        draw_line(canvas, positions[a], positions[b], colour, width)

    for joint in np.flatnonzero(is_drawn).tolist():
        _draw_joint(canvas, positions[joint], colours[joint], width, bool(is_hollow[joint]))


def _draw_joint(
    canvas: np.ndarray, position: np.ndarray, colour: Colour, width: int, is_hollow: bool
) -> None:
    radius = 0.9 * width + 0.6
    draw_disc(canvas, position, radius + max(1.0, 0.35 * width), OUTLINE)
    draw_disc(canvas, position, radius, colour)
    if is_hollow:
        draw_disc(canvas, position, 0.6 * radius, WHITE)


def _draw_label(canvas: np.ndarray, positions: np.ndarray, text: str, colour: Colour) -> None:
    """A text above the joints (N, 2), or at the border where they are outside."""
    height, width = canvas.shape[:2]
    scale = max(0.4, min(height, width) / 1000)
    thickness = max(1, round(1.6 * scale))
    font = cv2.FONT_HERSHEY_SIMPLEX
    (text_width, text_height), _ = cv2.getTextSize(text, font, scale, thickness)

    middle = (positions[:, 0].min() + positions[:, 0].max()) / 2
    margin = 2 * thickness
    left = round(np.clip(middle - text_width / 2, margin, max(width - text_width, margin)))
    head_room = 12 * scale  # pixels between the topmost joint and the text
    base = positions[:, 1].min() - head_room
    bottom = round(np.clip(base, text_height + margin, max(height - margin, text_height)))
    corner = (left, bottom)
    cv2.putText(canvas, text, corner, font, scale, OUTLINE, 3 * thickness, cv2.LINE_AA)
    cv2.putText(canvas, text, corner, font, scale, colour, thickness, cv2.LINE_AA)


def _limb_width(positions: np.ndarray, canvas: np.ndarray) -> int:
    """Pixels, in proportion to the person's size and limited by the image's."""
    width, height = np.ptp(positions, axis=0)
    longest = max(width, height)
    area = max(width * height, longest**2 / 4)  # the second: joints along one line
    in_proportion = LIMB_WIDTH * float(np.sqrt(area))

    short_side = min(canvas.shape[:2])
    widest = max(2.0, MAX_LIMB_WIDTH * short_side)
    return round(min(max(in_proportion, 1.0), widest))


def _side(skeleton: Skeleton, joint: int) -> int:
    """Index into `Shades`; the flip pairs list the left joint first."""
    name = skeleton.keypoints[joint]
    for left, right in skeleton.flip_pairs:
        if name == left:
            return 0
        if name == right:
            return 1
    return 2


def _limb_colour(a: Colour, b: Colour, shades: Shades) -> Colour:
    """The shade of the only side that the ends have; the middle's for limbs across the body."""
    sides = {a, b} - {shades.middle}
    return sides.pop() if len(sides) == 1 else shades.middle


def _to_subpixels(point: np.ndarray) -> tuple[int, int]:
    in_subpixels = np.rint(SUBPIXELS * np.asarray(point[:2], dtype=np.float64))
    x, y = in_subpixels.astype(np.int64).tolist()
    return x, y


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    channels = colorsys.hsv_to_rgb(hue, saturation, value)
    red, green, blue = (round(255 * channel) for channel in channels)
    return red, green, blue
