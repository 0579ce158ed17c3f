"""The joints of a drawn body in three dimensions, in a random pose.

Body frame: x to the person's left, y up, z to its front; the unit is the person's height and the
origin is between the hips. `pose_body` returns the camera frame: x to the image's right, y down, z
towards the viewer.

Lengths and angles here and in `figure` and `scene` were set by eye: bodies should look human, and
a small network should learn them in minutes.
"""

from __future__ import annotations

import numpy as np

SIDES = (("left", 1.0), ("right", -1.0))  # name, sign of x

# Lengths in heights.
HEAD_RADIUS = 0.085
HIP_HALF_WIDTH = 0.08
SHOULDER_HALF_WIDTH = 0.13
TORSO = 0.3
UPPER_ARM = 0.17
FOREARM = 0.16
THIGH = 0.24
SHIN = 0.23
FOOT = 0.07

UP = np.array([0.0, 1.0, 0.0])
FRONT = np.array([0.0, 0.0, 1.0])

# Which way people look: 72 % to the viewer, 20 % away, the rest anywhere. Only the visible side of
# the body, far away in the image, distinguishes a left from a right leg: with as many backs as
# faces, a small network spends all of a ten-minute training on that alone.
FACES_VIEWER = 0.72
FACES_OR_TURNS_BACK = 0.92

Joints = dict[str, np.ndarray]


def pose_body(rng: np.random.Generator) -> Joints:
    """Named points (3,) of one person of height 1 in the camera frame."""
    joints = _torso_and_head(rng)
    for side, sign in SIDES:
        joints |= _arm(rng, side, sign, joints[f"{side}_shoulder"])
        joints |= _leg(rng, side, sign, joints[f"{side}_hip"])

    yaw = _random_yaw(rng)
    roll = _random_roll(rng)
    rotation = _body_to_camera(yaw, roll)
    return {name: rotation @ point for name, point in joints.items()}


def _random_yaw(rng: np.random.Generator) -> float:
    """Degrees of rotation around the vertical axis; 0 faces the viewer."""
    kind = rng.random()
    if kind < FACES_VIEWER:
        return float(rng.normal(0, 22))
    if kind < FACES_OR_TURNS_BACK:
        return float(rng.normal(180, 22))
    return float(rng.uniform(0, 360))


def _random_roll(rng: np.random.Generator) -> float:
    """Degrees of rotation in the image plane: mostly upright, one person in ten leaps or falls."""
    is_upright = rng.random() < 0.9
    return float(rng.normal(0, 9 if is_upright else 40))


def _body_to_camera(yaw: float, roll: float) -> np.ndarray:
    """(3, 3) rotation; at yaw 0 the person faces the viewer, so its left is the image's right."""
    cos = np.cos(np.deg2rad(yaw))
    sin = np.sin(np.deg2rad(yaw))
    turned = np.array([[cos, 0, sin], [0, -1, 0], [-sin, 0, cos]])

    cos = np.cos(np.deg2rad(roll))
    sin = np.sin(np.deg2rad(roll))
    rolled = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return rolled @ turned


def _torso_and_head(rng: np.random.Generator) -> Joints:
    build = rng.uniform(0.85, 1.15)
    # The spine, bent a little forwards or backwards.
    spine = np.array([0.0, np.cos(0.2), 0.0]) + FRONT * rng.normal(0, 0.08)
    thorax = spine * TORSO

    joints: Joints = {
        "pelvis": np.zeros(3),
        "thorax": thorax,
        "neck": thorax + spine * 0.03,
        "upper_neck": thorax + spine * 0.045,
    }
    for side, sign in SIDES:
        joints[f"{side}_hip"] = np.array([sign * HIP_HALF_WIDTH * build, 0, 0])
        shrug = rng.normal(0, 0.008)
        forwards = rng.normal(0, 0.015)
        shoulder = np.array([sign * SHOULDER_HALF_WIDTH * build, shrug, forwards])
        joints[f"{side}_shoulder"] = thorax + shoulder

    head_middle = thorax + spine * (0.05 + HEAD_RADIUS)
    return joints | _head(rng, head_middle)


def _head(rng: np.random.Generator, middle: np.ndarray) -> Joints:
    """The head turns relative to the body by up to 40 degrees."""
    turn = np.deg2rad(np.clip(rng.normal(0, 18), -40, 40))
    left = np.array([np.cos(turn), 0, -np.sin(turn)])
    front = np.array([np.sin(turn), 0, np.cos(turn)])

    joints = {
        "head_middle": middle,
        "head": middle + UP * HEAD_RADIUS,
        "head_top": middle + UP * HEAD_RADIUS,
        "nose": middle + HEAD_RADIUS * (front - 0.12 * UP),
        "face": middle + HEAD_RADIUS * 0.4 * front,
    }
    for side, sign in SIDES:
        eye = sign * 0.4 * left + 0.28 * UP + 0.85 * front
        joints[f"{side}_eye"] = middle + HEAD_RADIUS * eye
        joints[f"{side}_ear"] = middle + HEAD_RADIUS * sign * 0.97 * left
    return joints


def _arm(rng: np.random.Generator, side: str, sign: float, shoulder: np.ndarray) -> Joints:
    is_raised = rng.random() < 0.3
    sideways = rng.uniform(60, 165) if is_raised else rng.uniform(5, 60)
    upper_arm = _direction(sign, sideways, rng.uniform(-30, 50))

    inwards = -sign * rng.uniform(-0.6, 1.0)
    upwards = rng.uniform(-0.2, 1.0)
    forwards = rng.uniform(0.1, 0.8)
    towards = np.array([inwards, upwards, forwards])
    forearm = _bent(upper_arm, towards, rng.uniform(0, 120))

    elbow = shoulder + UPPER_ARM * upper_arm
    return {f"{side}_elbow": elbow, f"{side}_wrist": elbow + FOREARM * forearm}


def _leg(rng: np.random.Generator, side: str, sign: float, hip: np.ndarray) -> Joints:
    sideways = rng.uniform(-4, 35)
    forwards = rng.uniform(-30, 60)
    thigh = _direction(sign, sideways, forwards)

    is_bent = rng.random() < 0.5
    bend = rng.uniform(0, 80) if is_bent else rng.uniform(0, 15)
    shin = _bent(thigh, -FRONT, bend)

    knee = hip + THIGH * thigh
    ankle = knee + SHIN * shin
    toe = ankle + FOOT * np.array([sign * 0.25, -0.35, 0.9])
    return {f"{side}_knee": knee, f"{side}_ankle": ankle, f"{side}_toe": toe}


def _direction(sign: float, sideways: float, forwards: float) -> np.ndarray:
    """(3,) unit vector: down, raised by `sideways` degrees outwards and `forwards` to the front."""
    sideways = np.deg2rad(sideways)
    forwards = np.deg2rad(forwards)
    x = sign * np.sin(sideways) * np.cos(forwards)
    y = -np.cos(sideways) * np.cos(forwards)
    return np.array([x, y, np.sin(forwards)])


def _bent(direction: np.ndarray, towards: np.ndarray, degrees: float) -> np.ndarray:
    """`direction` rotated by `degrees` in the plane that it spans with `towards`."""
    side = towards - (towards @ direction) * direction
    side /= max(float(np.linalg.norm(side)), 1e-6)
    return np.cos(np.deg2rad(degrees)) * direction + np.sin(np.deg2rad(degrees)) * side
