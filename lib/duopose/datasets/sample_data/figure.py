"""Drawing one figure, part by part from the farthest to the nearest, and telling which of its keypoints can be seen."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from duopose.datasets.sample_data.body import HEAD_RADIUS, Joints

Colour = tuple[int, int, int]
SHIFT = 4  # cv2 draws with 1 / 16 pixel
PARTS = (
    "torso",
    "head",
    *(
        f"{side}_{part}"
        for side in ("left", "right")
        for part in ("upper_arm", "forearm", "thigh", "shin")
    ),
)
PARTS_PER_PERSON = 16  # room in the map of ids
LIMBS = {
    "upper_arm": ("shoulder", "elbow"),
    "forearm": ("elbow", "wrist"),
    "thigh": ("hip", "knee"),
    "shin": ("knee", "ankle"),
}
# Which parts show a joint when they are on top at its pixel; joints of the torso and head need to be on the near side too.
SHOWN_BY = {
    "shoulder": ("upper_arm",), "elbow": ("upper_arm", "forearm"), "wrist": ("forearm",), "hip": ("thigh",),
    "knee": ("thigh", "shin"), "ankle": ("shin",),
}  # fmt: skip
# ... by more than so many heights: a nose faces the viewer, an ear shows until it is well behind, a hip sits in the middle.
NEAR_SIDE = {"nose": 0.01, "eye": 0.0, "ear": -0.04, "shoulder": -0.07, "hip": -0.05}


@dataclass(frozen=True)
class Look:
    """Colours and build of one person; nothing here differs between left and right."""

    skin: Colour
    hair: Colour
    shirt: Colour
    sleeve: Colour
    trousers: Colour
    shoes: Colour
    bib: Colour  # seen on the chest
    pack: Colour  # seen on the back
    stoutness: float


@dataclass(frozen=True)
class Canvas:
    """An image being drawn, and who is seen at each pixel: 0 nobody, else 1 + PARTS_PER_PERSON * person + part."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    ids: np.ndarray  # (H, W) uint8


def random_look(rng: np.random.Generator) -> Look:
    """Colours of clothes at random, of skin and hair within what people have."""

    def any_colour(low: int, high: int) -> Colour:
        red, green, blue = rng.integers(low, high, 3)
        return int(red), int(green), int(blue)

    tone = rng.uniform(0.45, 1.0)
    shirt = any_colour(30, 230)
    sleeve = _shade(shirt, rng.uniform(0.6, 1.3))
    return Look(
        skin=_shade((250, 200, 165), tone), hair=_shade((120, 85, 50), rng.uniform(0.2, 1.4)), shirt=shirt, sleeve=sleeve,
        trousers=any_colour(20, 200), shoes=any_colour(10, 120), bib=any_colour(190, 256), pack=any_colour(0, 70),
        stoutness=float(rng.uniform(0.85, 1.2)),
    )  # fmt: skip


def draw_figure(canvas: Canvas, joints: Joints, look: Look, height: float, person: int) -> None:
    """Draw a person on top of what is there. joints: (3,) in canvas pixels (z too); height: of the person in canvas pixels."""
    pen = _Pen(canvas, height)
    depth = {"torso": 0.0, "head": float(joints["head_middle"][2]) + 0.01 * height}
    for part in PARTS[2:]:
        side, name = part.split("_", 1)
        start, end = LIMBS[name]
        depth[part] = (
            float(joints[f"{side}_{start}"][2] + joints[f"{side}_{end}"][2]) / 2 + 0.02 * height
        )
    for part in sorted(PARTS, key=lambda name: depth[name]):
        pen.identity = 1 + PARTS_PER_PERSON * person + PARTS.index(part)
        if part == "torso":
            _draw_torso(pen, joints, look)
        elif part == "head":
            _draw_head(pen, joints, look)
        else:
            _draw_limb(pen, joints, look, part)


def is_seen(canvas: Canvas, joints: Joints, height: float, person: int, name: str) -> bool:
    """Whether the keypoint can be seen: a part that carries it is on top there (and it is on that part's near side)."""
    x, y = np.rint(joints[name][:2]).astype(int)
    code = int(canvas.ids[y, x]) - 1 - PARTS_PER_PERSON * person
    if not 0 <= code < len(PARTS):
        return False
    side, _, kind = name.rpartition("_")
    if PARTS[code] in (f"{side}_{part}" for part in SHOWN_BY.get(kind, ())):
        return True
    carrier = "torso" if kind in ("hip", "shoulder", "pelvis", "thorax") else "head"
    middle = joints["head_middle"] if carrier == "head" else joints["pelvis"]
    near = joints[name][2] - middle[2] > NEAR_SIDE.get(kind, -1.0) * height
    may_carry = kind in (*NEAR_SIDE, "head", "top", "neck", "pelvis", "thorax")
    return bool(
        may_carry and near and PARTS[code] in (carrier, "torso" if kind == "neck" else carrier)
    )


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(max(int(value * factor), 0), 255) for value in colour)
    return red, green, blue


class _Pen:
    """Filled shapes with a dark rim, drawn into the image and the map of ids alike."""

    def __init__(self, canvas: Canvas, height: float) -> None:
        self.canvas, self.height, self.identity = canvas, height, 0
        self.rim = max(0.6, 0.006 * height)

    def disc(self, middle: np.ndarray, radius: float, colour: Colour, rim: bool = True) -> None:
        centre = _fixed(middle[:2])
        if rim:
            cv2.circle(
                self.canvas.image,
                centre,
                int((radius + self.rim) * 2**SHIFT),
                _shade(colour, 0.45),
                -1,
                cv2.LINE_AA,
                SHIFT,
            )
        cv2.circle(
            self.canvas.image, centre, int(radius * 2**SHIFT), colour, -1, cv2.LINE_AA, SHIFT
        )
        cv2.circle(
            self.canvas.ids,
            centre,
            int((radius + self.rim) * 2**SHIFT),
            self.identity,
            -1,
            cv2.LINE_8,
            SHIFT,
        )

    def capsule(
        self, start: np.ndarray, end: np.ndarray, radii: tuple[float, float], colour: Colour
    ) -> None:
        for grown, shade in ((self.rim, 0.45), (0.0, 1.0)):
            polygon = _capsule_polygon(start[:2], end[:2], radii[0] + grown, radii[1] + grown)
            self._fill(polygon, _shade(colour, shade), mark=grown > 0)

    def polygon(self, corners: np.ndarray, colour: Colour) -> None:
        self._fill(corners, colour, mark=True)

    def _fill(self, corners: np.ndarray, colour: Colour, mark: bool) -> None:
        points = np.rint(corners * 2**SHIFT).astype(np.int32)
        cv2.fillConvexPoly(self.canvas.image, points, colour, cv2.LINE_AA, SHIFT)
        if mark:
            cv2.fillConvexPoly(self.canvas.ids, points, self.identity, cv2.LINE_8, SHIFT)


def _fixed(point: np.ndarray) -> tuple[int, int]:
    x, y = np.rint(point * 2**SHIFT).astype(int)
    return int(x), int(y)


def _capsule_polygon(start: np.ndarray, end: np.ndarray, first: float, second: float) -> np.ndarray:
    """(20, 2) outline of the hull of two discs: half a circle round each end."""
    along = end - start
    angle = np.arctan2(along[1], along[0])
    half = np.linspace(np.pi / 2, 3 * np.pi / 2, 10)
    arcs = [start + first * _unit(angle + half), end + second * _unit(angle + half + np.pi)]
    return np.concatenate(arcs)


def _unit(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _draw_torso(pen: _Pen, joints: Joints, look: Look) -> None:
    shoulders = np.array([joints["left_shoulder"], joints["right_shoulder"]])
    hips = np.array([joints["right_hip"], joints["left_hip"]])
    radius = 0.045 * pen.height * look.stoutness
    pen.capsule(
        joints["thorax"], joints["upper_neck"], (0.035 * pen.height, 0.035 * pen.height), look.skin
    )
    outline = _rounded(np.concatenate([shoulders, hips])[:, :2], radius + pen.rim)
    pen.polygon(outline, _shade(look.shirt, 0.45))
    pen.polygon(_rounded(np.concatenate([shoulders, hips])[:, :2], radius), look.shirt)
    front = np.cross(
        shoulders[0] - shoulders[1], joints["pelvis"] - joints["thorax"]
    )  # towards the person's front
    front /= max(float(np.linalg.norm(front)), 1e-6)
    if abs(front[2]) < 0.15:
        return
    colour, width = (look.bib, 0.55) if front[2] > 0 else (look.pack, 0.85)
    surface = np.sign(front[2]) * front * 0.05 * pen.height
    corners = np.concatenate([_towards_middle(shoulders, width), _towards_middle(hips, width)])
    corners = corners + surface
    corners[2:] += (shoulders.mean(0) - hips.mean(0)) * 0.2
    pen.polygon(corners[:, :2], colour)


def _towards_middle(pair: np.ndarray, width: float) -> np.ndarray:
    middle = pair.mean(0)
    return middle + (pair - middle) * width


def _rounded(corners: np.ndarray, radius: float) -> np.ndarray:
    """Hull (N, 2) of discs round the corners."""
    ring = radius * _unit(np.linspace(0, 2 * np.pi, 12, endpoint=False))
    points = (corners[:, None] + ring[None]).reshape(-1, 2).astype(np.float32)
    return cv2.convexHull(points)[:, 0]


def _draw_head(pen: _Pen, joints: Joints, look: Look) -> None:
    radius = HEAD_RADIUS * pen.height
    middle, front = joints["head_middle"], joints["nose"] - joints["head_middle"]
    for ear in ("left_ear", "right_ear"):
        if joints[ear][2] - middle[2] > NEAR_SIDE["ear"] * pen.height:
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
        pen.capsule(
            joints[f"{side}_ankle"],
            joints[f"{side}_toe"],
            (0.032 * thick, 0.028 * thick),
            look.shoes,
        )
        pen.capsule(start, end, (0.043 * thick, 0.03 * thick), look.trousers)
