"""Drawing one body part by part, farthest first, and finding which keypoints are visible."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from duopose.datasets.sample_data.body import HEAD_RADIUS, Joints

Colour = tuple[int, int, int]
SHIFT = 4  # cv2 draws with a precision of 2^-4 pixel
RIM_SHADE = 0.45  # brightness of a shape's rim relative to the shape

# Limb part -> its joints.
LIMBS = {
    "upper_arm": ("shoulder", "elbow"),
    "forearm": ("elbow", "wrist"),
    "thigh": ("hip", "knee"),
    "shin": ("knee", "ankle"),
}
LIMB_PARTS = tuple(f"{side}_{part}" for side in ("left", "right") for part in LIMBS)
PARTS = ("torso", "head", *LIMB_PARTS)
PARTS_PER_PERSON = 16  # ids reserved per person in `Canvas.ids`, at least len(PARTS)

# Joint -> limb parts on which it is visible where they are on top at its pixel.
VISIBLE_ON = {
    "shoulder": ("upper_arm",),
    "elbow": ("upper_arm", "forearm"),
    "wrist": ("forearm",),
    "hip": ("thigh",),
    "knee": ("thigh", "shin"),
    "ankle": ("shin",),
}
# Joint of torso or head -> depth (in heights, towards the viewer) above which it is visible there:
# a nose faces the viewer, an ear is visible until it is well behind, a hip is inside the body.
MIN_DEPTH = {"nose": 0.01, "eye": 0.0, "ear": -0.04, "shoulder": -0.07, "hip": -0.05}
TORSO_JOINTS = ("hip", "shoulder", "pelvis", "thorax")
BODY_JOINTS = (*MIN_DEPTH, "head", "top", "neck", "pelvis", "thorax")  # not on limbs alone


@dataclass(frozen=True)
class Look:
    """Colours and build of one person; nothing here differs between left and right."""

    skin: Colour
    hair: Colour
    shirt: Colour
    sleeve: Colour
    trousers: Colour
    shoes: Colour
    bib: Colour  # on the chest
    pack: Colour  # on the back
    stoutness: float


@dataclass(frozen=True)
class Canvas:
    """An image being drawn, and which part of whom is on top at each pixel."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    ids: np.ndarray  # (H, W) uint8: 0 nobody, else 1 + PARTS_PER_PERSON * person + part


def random_look(rng: np.random.Generator) -> Look:
    """Random colours of clothes; plausible colours of skin and hair."""

    def any_colour(low: int, high: int) -> Colour:
        red, green, blue = rng.integers(low, high, 3)
        return int(red), int(green), int(blue)

    tone = rng.uniform(0.45, 1.0)
    shirt = any_colour(30, 230)
    sleeve = _shade(shirt, rng.uniform(0.6, 1.3))

    return Look(
        skin=_shade((250, 200, 165), tone),
        hair=_shade((120, 85, 50), rng.uniform(0.2, 1.4)),
        shirt=shirt,
        sleeve=sleeve,
        trousers=any_colour(20, 200),
        shoes=any_colour(10, 120),
        bib=any_colour(190, 256),
        pack=any_colour(0, 70),
        stoutness=float(rng.uniform(0.85, 1.2)),
    )


def draw_figure(canvas: Canvas, joints: Joints, look: Look, height: float, person: int) -> None:
    """Draw a person on top of the canvas.

    joints: (3,) each, canvas pixels, z towards the viewer; height: of the person, canvas pixels;
    person: number of the person, for `Canvas.ids`.
    """
    depth = _part_depths(joints, height)
    for part in sorted(PARTS, key=lambda name: depth[name]):
        identity = 1 + PARTS_PER_PERSON * person + PARTS.index(part)
        pen = _Pen(canvas, height, identity)
        if part == "torso":
            _draw_torso(pen, joints, look)
        elif part == "head":
            _draw_head(pen, joints, look)
        else:
            _draw_limb(pen, joints, look, part)


def _part_depths(joints: Joints, height: float) -> dict[str, float]:
    """Depth of each part towards the viewer, canvas pixels; the torso is at 0."""
    depth = {"torso": 0.0, "head": float(joints["head_middle"][2]) + 0.01 * height}
    for part in LIMB_PARTS:
        side, name = part.split("_", 1)
        start, end = LIMBS[name]
        sum_of_ends = float(joints[f"{side}_{start}"][2] + joints[f"{side}_{end}"][2])
        depth[part] = sum_of_ends / 2 + 0.02 * height
    return depth


def is_visible(canvas: Canvas, joints: Joints, height: float, person: int, name: str) -> bool:
    """Whether a keypoint is visible: a part that shows it is on top at its pixel."""
    x, y = np.rint(joints[name][:2]).astype(int)
    index = int(canvas.ids[y, x]) - 1 - PARTS_PER_PERSON * person
    if not 0 <= index < len(PARTS):
        return False

    part = PARTS[index]
    side, _, kind = name.rpartition("_")
    if part in [f"{side}_{limb}" for limb in VISIBLE_ON.get(kind, ())]:
        return True
    if kind not in BODY_JOINTS:
        return False

    shown_on_torso = kind in TORSO_JOINTS
    middle = joints["pelvis"] if shown_on_torso else joints["head_middle"]
    if not joints[name][2] - middle[2] > MIN_DEPTH.get(kind, -1.0) * height:
        return False
    if kind == "neck":
        return part in ("head", "torso")
    return part == ("torso" if shown_on_torso else "head")


def _shade(colour: Colour, factor: float) -> Colour:
    """The colour made brighter or darker."""
    red, green, blue = (min(max(int(value * factor), 0), 255) for value in colour)
    return red, green, blue


class _Pen:
    """Draws filled shapes with a dark rim into the image, and their id into the map of ids."""

    def __init__(self, canvas: Canvas, height: float, identity: int) -> None:
        self.canvas = canvas
        self.height = height
        self.identity = identity
        self.rim = max(0.6, 0.006 * height)  # pixels

    def disc(self, middle: np.ndarray, radius: float, colour: Colour, rim: bool = True) -> None:
        """A disc; its id covers the rim even where none is drawn."""
        outer = radius + self.rim
        if rim:
            self._circle(self.canvas.image, middle, outer, _shade(colour, RIM_SHADE), cv2.LINE_AA)
        self._circle(self.canvas.image, middle, radius, colour, cv2.LINE_AA)
        self._circle(self.canvas.ids, middle, outer, self.identity, cv2.LINE_8)

    def capsule(
        self, start: np.ndarray, end: np.ndarray, radii: tuple[float, float], colour: Colour
    ) -> None:
        """The hull of two discs."""
        rim = _capsule_polygon(start[:2], end[:2], radii[0] + self.rim, radii[1] + self.rim)
        self.polygon(rim, _shade(colour, RIM_SHADE))
        inner = _capsule_polygon(start[:2], end[:2], radii[0], radii[1])
        self._fill(self.canvas.image, inner, colour, cv2.LINE_AA)

    def polygon(self, corners: np.ndarray, colour: Colour) -> None:
        """A convex polygon (N, 2) without a rim."""
        self._fill(self.canvas.image, corners, colour, cv2.LINE_AA)
        self._fill(self.canvas.ids, corners, self.identity, cv2.LINE_8)

    def _circle(
        self, target: np.ndarray, middle: np.ndarray, radius: float, value: int | Colour, line: int
    ) -> None:
        x, y = np.rint(middle[:2] * 2**SHIFT).astype(int)
        fixed_radius = int(radius * 2**SHIFT)
        cv2.circle(target, (int(x), int(y)), fixed_radius, value, -1, line, SHIFT)

    def _fill(
        self, target: np.ndarray, corners: np.ndarray, value: int | Colour, line: int
    ) -> None:
        points = np.rint(corners * 2**SHIFT).astype(np.int32)
        cv2.fillConvexPoly(target, points, value, line, SHIFT)


def _capsule_polygon(
    start: np.ndarray, end: np.ndarray, start_radius: float, end_radius: float
) -> np.ndarray:
    """(20, 2) outline of the hull of two discs: half a circle around each end."""
    along = end - start
    angle = np.arctan2(along[1], along[0])
    half_circle = np.linspace(np.pi / 2, 3 * np.pi / 2, 10)
    start_arc = start + start_radius * _unit(angle + half_circle)
    end_arc = end + end_radius * _unit(angle + half_circle + np.pi)
    return np.concatenate([start_arc, end_arc])


def _unit(angles: np.ndarray) -> np.ndarray:
    """(N,) radians -> (N, 2) unit vectors."""
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _rounded(corners: np.ndarray, radius: float) -> np.ndarray:
    """Hull (N, 2) of discs around the corners."""
    ring = radius * _unit(np.linspace(0, 2 * np.pi, 12, endpoint=False))
    points = (corners[:, None] + ring[None]).reshape(-1, 2).astype(np.float32)
    return cv2.convexHull(points)[:, 0]


def _draw_torso(pen: _Pen, joints: Joints, look: Look) -> None:
    shoulders = np.array([joints["left_shoulder"], joints["right_shoulder"]])
    hips = np.array([joints["right_hip"], joints["left_hip"]])
    neck_radius = 0.035 * pen.height
    pen.capsule(joints["thorax"], joints["upper_neck"], (neck_radius, neck_radius), look.skin)

    radius = 0.045 * pen.height * look.stoutness
    corners = np.concatenate([shoulders, hips])
    pen.polygon(_rounded(corners[:, :2], radius + pen.rim), _shade(look.shirt, RIM_SHADE))
    pen.polygon(_rounded(corners[:, :2], radius), look.shirt)

    # A bib on the chest, or a pack on the back, where that side is visible.
    front = np.cross(shoulders[0] - shoulders[1], joints["pelvis"] - joints["thorax"])
    front /= max(float(np.linalg.norm(front)), 1e-6)
    if abs(front[2]) < 0.15:
        return
    faces_viewer = front[2] > 0
    colour = look.bib if faces_viewer else look.pack
    width = 0.55 if faces_viewer else 0.85

    surface = np.sign(front[2]) * front * 0.05 * pen.height
    patch = np.concatenate([_narrowed(shoulders, width), _narrowed(hips, width)]) + surface
    patch[2:] += (shoulders.mean(0) - hips.mean(0)) * 0.2
    pen.polygon(patch[:, :2], colour)


def _narrowed(pair: np.ndarray, width: float) -> np.ndarray:
    """Two points moved towards their middle; `width` is the new relative distance."""
    middle = pair.mean(0)
    return middle + (pair - middle) * width


def _draw_head(pen: _Pen, joints: Joints, look: Look) -> None:
    radius = HEAD_RADIUS * pen.height
    middle = joints["head_middle"]
    front = joints["nose"] - middle

    for ear in ("left_ear", "right_ear"):
        if joints[ear][2] - middle[2] > MIN_DEPTH["ear"] * pen.height:
            pen.disc(joints[ear], 0.22 * radius, look.skin)
    pen.disc(middle, radius, look.hair)
    if front[2] > -0.3 * radius:
        pen.disc(joints["face"] + [0, 0.12 * radius, 0], 0.76 * radius, look.skin, rim=False)

    for eye in ("left_eye", "right_eye"):
        if joints[eye][2] > middle[2]:
            pen.disc(joints[eye], max(0.14 * radius, 0.7), (20, 20, 30), rim=False)
    if front[2] > 0.1 * radius:
        pen.disc(joints["nose"], max(0.13 * radius, 0.7), _shade(look.skin, 0.6), rim=False)


def _draw_limb(pen: _Pen, joints: Joints, look: Look, part: str) -> None:
    side, name = part.split("_", 1)
    start, end = (joints[f"{side}_{joint}"] for joint in LIMBS[name])
    thick = pen.height * look.stoutness

    if name == "upper_arm":
        pen.capsule(start, end, (0.042 * thick, 0.036 * thick), look.sleeve)
    elif name == "forearm":
        pen.capsule(start, end, (0.033 * thick, 0.026 * thick), look.skin)
        pen.disc(end, 0.034 * thick, look.skin)
    elif name == "thigh":
        pen.capsule(start, end, (0.058 * thick, 0.045 * thick), look.trousers)
    else:
        toe = joints[f"{side}_toe"]
        pen.capsule(end, toe, (0.032 * thick, 0.028 * thick), look.shoes)
        pen.capsule(start, end, (0.043 * thick, 0.03 * thick), look.trousers)
