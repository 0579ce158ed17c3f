"""A figure's joints in three dimensions, in a random pose.

Body frame: x to the person's left, y up, z to its front; the unit is the person's height and the origin lies between the
hips. `pose_body` turns it to the camera: x to the image's right, y down, z towards the viewer.
"""

from __future__ import annotations

import numpy as np

SIDES = (("left", 1.0), ("right", -1.0))
HEAD_RADIUS = 0.085
HIP_HALF, SHOULDER_HALF = 0.08, 0.13
TORSO, UPPER_ARM, FOREARM, THIGH, SHIN, FOOT = 0.3, 0.17, 0.16, 0.24, 0.23, 0.07
DOWN = np.array([0.0, -1.0, 0.0])
FRONT = np.array([0.0, 0.0, 1.0])

Joints = dict[str, np.ndarray]


def pose_body(rng: np.random.Generator) -> Joints:
    """Named points (3,) of one person in the camera's frame, unit height, in a random pose seen from a random side."""
    joints = _torso_and_head(rng)
    for side, sign in SIDES:
        joints |= _arm(rng, side, sign, joints[f"{side}_shoulder"])
        joints |= _leg(rng, side, sign, joints[f"{side}_hip"])
    turn = _to_camera(_random_yaw(rng), _random_roll(rng))
    return {name: turn @ point for name, point in joints.items()}


def _random_yaw(rng: np.random.Generator) -> float:
    """Degrees that the person is turned: 72 % face the viewer, 20 % turn their back, the rest look anywhere.

    Which of two legs is the left one can only be told from the side the body shows, far away in the image; with as many
    backs as faces a small network spends the whole of a ten-minute training on that alone.
    """
    kind = rng.random()
    if kind < 0.92:
        return float(rng.normal(0 if kind < 0.72 else 180, 22))
    return float(rng.uniform(0, 360))


def _random_roll(rng: np.random.Generator) -> float:
    """Degrees of leaning in the image: mostly upright, one in ten leaps or falls."""
    return float(rng.normal(0, 9 if rng.random() < 0.9 else 40))


def _to_camera(yaw: float, roll: float) -> np.ndarray:
    """(3, 3) body frame -> camera frame; at yaw 0 the person faces the viewer, so its left is the image's right."""
    cos, sin = np.cos(np.deg2rad(yaw)), np.sin(np.deg2rad(yaw))
    turned = np.array([[cos, 0, sin], [0, -1, 0], [-sin, 0, cos]])
    cos, sin = np.cos(np.deg2rad(roll)), np.sin(np.deg2rad(roll))
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ turned


def _torso_and_head(rng: np.random.Generator) -> Joints:
    build = rng.uniform(0.85, 1.15)
    bend = np.array([0.0, np.cos(0.2), 0.0]) + FRONT * rng.normal(
        0, 0.08
    )  # the spine, bent a little forwards or back
    thorax = bend * TORSO
    joints: Joints = {
        "pelvis": np.zeros(3),
        "thorax": thorax,
        "neck": thorax + bend * 0.03,
        "upper_neck": thorax + bend * 0.045,
    }
    for side, sign in SIDES:
        joints[f"{side}_hip"] = np.array([sign * HIP_HALF * build, 0, 0])
        joints[f"{side}_shoulder"] = thorax + np.array(
            [sign * SHOULDER_HALF * build, rng.normal(0, 0.008), rng.normal(0, 0.015)]
        )
    return joints | _head(rng, thorax + bend * (0.05 + HEAD_RADIUS))


def _head(rng: np.random.Generator, middle: np.ndarray) -> Joints:
    """The head may look elsewhere than the body, by up to about 40 degrees."""
    turn = np.deg2rad(np.clip(rng.normal(0, 18), -40, 40))
    left, front = (
        np.array([np.cos(turn), 0, -np.sin(turn)]),
        np.array([np.sin(turn), 0, np.cos(turn)]),
    )
    up = -DOWN
    joints = {
        "head_middle": middle,
        "head": middle + up * HEAD_RADIUS,
        "head_top": middle + up * HEAD_RADIUS,
    }
    joints["nose"] = middle + HEAD_RADIUS * (front - 0.12 * up)
    joints["face"] = middle + HEAD_RADIUS * 0.4 * front
    for side, sign in SIDES:
        joints[f"{side}_eye"] = middle + HEAD_RADIUS * (
            sign * 0.4 * left + 0.28 * up + 0.85 * front
        )
        joints[f"{side}_ear"] = middle + HEAD_RADIUS * sign * 0.97 * left
    return joints


def _arm(rng: np.random.Generator, side: str, sign: float, shoulder: np.ndarray) -> Joints:
    raised = rng.uniform(60, 165) if rng.random() < 0.3 else rng.uniform(5, 60)
    upper = _direction(sign, raised, rng.uniform(-30, 50))
    towards = np.array(
        [-sign * rng.uniform(-0.6, 1.0), rng.uniform(-0.2, 1.0), rng.uniform(0.1, 0.8)]
    )
    elbow = shoulder + UPPER_ARM * upper
    return {
        f"{side}_elbow": elbow,
        f"{side}_wrist": elbow + FOREARM * _bent(upper, towards, rng.uniform(0, 120)),
    }


def _leg(rng: np.random.Generator, side: str, sign: float, hip: np.ndarray) -> Joints:
    thigh = _direction(sign, rng.uniform(-4, 35), rng.uniform(-30, 60))
    knee = hip + THIGH * thigh
    ankle = knee + SHIN * _bent(
        thigh,
        np.array([0.0, 0.0, -1.0]),
        rng.uniform(0, 80) if rng.random() < 0.5 else rng.uniform(0, 15),
    )
    return {
        f"{side}_knee": knee,
        f"{side}_ankle": ankle,
        f"{side}_toe": ankle + FOOT * np.array([sign * 0.25, -0.35, 0.9]),
    }


def _direction(sign: float, sideways: float, forwards: float) -> np.ndarray:
    """Hanging down, then raised by degrees to the front and to the person's own outside."""
    sideways, forwards = np.deg2rad(sideways), np.deg2rad(forwards)
    return np.array(
        [
            sign * np.sin(sideways) * np.cos(forwards),
            -np.cos(sideways) * np.cos(forwards),
            np.sin(forwards),
        ]
    )


def _bent(direction: np.ndarray, towards: np.ndarray, degrees: float) -> np.ndarray:
    """`direction` turned by some degrees in the plane that it spans with `towards`."""
    side = towards - (towards @ direction) * direction
    side /= max(float(np.linalg.norm(side)), 1e-6)
    return np.cos(np.deg2rad(degrees)) * direction + np.sin(np.deg2rad(degrees)) * side
