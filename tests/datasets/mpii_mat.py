"""Writing MPII's own .mat files, with the nesting of the official ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

EMPTY = np.zeros((0, 0))


def struct_array(items: list[dict[str, Any]]) -> np.ndarray:
    """(1, n) MATLAB struct array; all elements have all fields, empty where one lacks it."""
    fields = list(dict.fromkeys(name for item in items for name in item))
    array = np.empty((1, len(items)), dtype=[(name, object) for name in fields])
    for struct, item in zip(array[0], items, strict=True):
        for name in fields:
            struct[name] = item.get(name, EMPTY)
    return array


def cells(items: list[Any]) -> np.ndarray:
    """(1, n) MATLAB cell array."""
    array = np.empty((1, len(items)), dtype=object)
    for index, item in enumerate(items):
        array[0, index] = item
    return array


def point(joint: int, x: float, y: float, visible: Any = 1) -> dict[str, Any]:
    return {"id": joint, "x": x, "y": y, "is_visible": visible}


def person(x: float, joints: int = 16, **changes: Any) -> dict[str, Any]:
    """Joint j at (x + j, 2 j), counted from 1; j % 3 == 0 hidden; 8 and 9 without is_visible."""
    visible = [EMPTY if j in (8, 9) else ("0" if j % 3 == 0 else "1") for j in range(joints)]
    points = struct_array([point(j, x + j, 2.0 * j, visible[j]) for j in range(joints)])
    whole = {
        "x1": x, "y1": 10.0, "x2": x + 30, "y2": 50.0,
        "scale": 1.5, "objpos": {"x": x + 5, "y": 20.0},
        "annopoints": {"point": points},
    }  # fmt: skip
    return {**whole, **changes}


def write_mat(path: Path, images: list[dict[str, Any]], train: list[int]) -> Path:
    release = {
        "annolist": struct_array(images),
        "img_train": np.array([train], dtype=np.uint8),
        "version": "12",
    }
    scipy.io.savemat(path, {"RELEASE": release})
    return path


def image(name: str, people: Any, video: Any = 7) -> dict[str, Any]:
    return {"image": {"name": name}, "annorect": people, "frame_sec": EMPTY, "vididx": video}


def real_person(raw: dict[str, Any]) -> dict[str, Any]:
    """A person of the annotations_only file as an annorect; head = box of joints 8 and 9."""
    labelled = [joint for joint in range(16) if raw["joints_labelled"][joint]]
    points = struct_array([point(joint, *raw["joints"][joint]) for joint in labelled])
    rectangle = {"scale": raw["scale"], "annopoints": {"point": points}}
    if 8 in labelled and 9 in labelled:
        (x1, y1), (x2, y2) = np.sort([raw["joints"][8], raw["joints"][9]], axis=0)
        rectangle |= {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return rectangle


def write_groups(path: Path, groups: list[list[list[int]]]) -> Path:
    """`groups_v12.mat`: cells of images, groups, annorect indices (from 1; in `groups` from 0)."""
    column = np.empty((len(groups), 1), dtype=object)
    for index, of_image in enumerate(groups):
        column[index, 0] = cells([np.array(group)[:, None] + 1 for group in of_image])
    scipy.io.savemat(path, {"groups": column})
    return path
