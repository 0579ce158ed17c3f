"""MPII's own files: `mpii_human_pose_v1_u12_1.mat` and `groups_v12.mat`.

RELEASE.annolist(i).image.name, .vididx, .annorect(r).{x1,y1,x2,y2 (head), scale, objpos.{x,y}, annopoints.point(k).{id,x,y,is_visible}};
RELEASE.img_train(i). Any field may be missing or empty: test images have only scale and objpos, some people no points,
upper neck and head top no is_visible. Coordinates there count pixels from 1 (HRNet's and PoseAE's readers subtract it, too); here from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from duopose.errors import UserError

FIRST_PIXEL = 1.0  # MATLAB's name of the first pixel
HIDDEN, VISIBLE = 1, 2

Point = tuple[float, float]


@dataclass(frozen=True)
class MpiiPerson:
    """One annorect; pixel-index coordinates of the image."""

    joints: Mapping[
        int, tuple[float, float, int]
    ]  # MPII joint id -> x, y, visibility (1 hidden, 2 visible or not stated)
    head_box: tuple[float, float, float, float] | None  # x1, y1, x2, y2
    position: Point | None  # objpos
    scale: float | None  # the person is about 200 x scale pixels tall


@dataclass(frozen=True)
class MpiiImage:
    """One entry of annolist; entry i is image i + 1 in MPII's own counting."""

    name: str
    train: bool
    video: int | None  # images of one video look alike
    people: tuple[MpiiPerson, ...]


def read_release(path: str | Path) -> list[MpiiImage]:
    """The images of the annotation file in its order; UserError where it is not MPII's."""
    release = structs(_load(path, "RELEASE"))
    if (
        len(release) != 1
        or field(release[0], "annolist") is None
        or field(release[0], "img_train") is None
    ):
        raise UserError(
            f"'{path}' is not MPII's annotation file: its RELEASE must hold annolist and img_train"
        )
    entries = structs(field(release[0], "annolist"))
    train = np.asarray(field(release[0], "img_train")).reshape(-1)
    if len(train) != len(entries):
        raise UserError(
            f"'{path}': annolist has {len(entries)} images, but img_train has {len(train)}"
        )
    return [
        _image(entry, bool(number(is_train)), path, index)
        for index, (entry, is_train) in enumerate(zip(entries, train))
    ]


def read_groups(path: str | Path, num_images: int) -> list[list[list[int]]]:
    """Per image its groups, a group being indices (from 0) of annorects; UserError where the file is for other images."""
    cells = _load(path, "groups").reshape(-1)
    if len(cells) != num_images:
        raise UserError(
            f"'{path}' has groups of {len(cells)} images, the annotation file has {num_images}; both must be of MPII v1.2"
        )
    return [
        [_indices(group) for group in np.asarray(cell, dtype=object).reshape(-1)] for cell in cells
    ]


def _indices(group: Any) -> list[int]:
    return [int(index) - 1 for index in np.asarray(group).reshape(-1)]


def _load(path: str | Path, variable: str) -> np.ndarray:
    if not Path(path).is_file():
        raise UserError(f"'{path}' does not exist (looked in {Path(path).absolute().parent})")
    try:
        content = scipy.io.loadmat(path, variable_names=[variable])
    except (ValueError, TypeError, NotImplementedError, scipy.io.matlab.MatReadError) as error:
        raise UserError(
            f"'{path}' cannot be read as a MATLAB file (version 7 or older): {error}"
        ) from error
    if variable not in content:
        raise UserError(
            f"'{path}' has no variable {variable}; it has {[name for name, *_ in scipy.io.whosmat(path)]}"
        )
    return content[variable]


# ---- values as MATLAB nests them: everything is an array, and what is missing an empty one ----


def structs(value: Any) -> list[np.void]:
    """The structs of a struct array, a single struct or a cell of structs; none of anything else."""
    if not isinstance(value, (np.ndarray, np.void)):
        return []
    items = np.asarray(value).reshape(-1)
    return (
        list(items) if items.dtype.names else [struct for item in items for struct in structs(item)]
    )


def field(struct: np.void, name: str) -> Any:
    """A field's value, None where the struct has no such field."""
    return struct[name] if name in (struct.dtype.names or ()) else None


def number(value: Any) -> float | None:
    """A number, written as one or as text; None where it is missing, empty or NaN."""
    array = np.asarray(value).reshape(-1)
    if array.dtype == object:
        return number(array[0]) if array.size and array[0] is not None else None
    if not array.size or not str(array[0]).strip():
        return None
    found = float(array[0])
    return None if np.isnan(found) else found


def _image(entry: np.void, train: bool, path: str | Path, index: int) -> MpiiImage:
    image = structs(field(entry, "image"))
    name = np.asarray(field(image[0], "name")).reshape(-1) if image else np.zeros(0)
    if not name.size:
        raise UserError(f"'{path}': annolist({index + 1}) has no image.name")
    video = number(field(entry, "vididx"))
    people = tuple(_person(rectangle) for rectangle in structs(field(entry, "annorect")))
    return MpiiImage(str(name[0]), train, None if video is None else int(video), people)


def _person(rectangle: np.void) -> MpiiPerson:
    head = [number(field(rectangle, name)) for name in ("x1", "y1", "x2", "y2")]
    sides = [side - FIRST_PIXEL for side in head if side is not None]
    position = structs(field(rectangle, "objpos"))
    points = [
        point
        for group in structs(field(rectangle, "annopoints"))
        for point in structs(field(group, "point"))
    ]
    return MpiiPerson(
        joints=dict(joint for joint in map(_joint, points) if joint is not None),
        head_box=(sides[0], sides[1], sides[2], sides[3]) if len(sides) == 4 else None,
        position=_position(position[0]) if position else None,
        scale=number(field(rectangle, "scale")),
    )


def _position(point: np.void) -> Point | None:
    x, y = number(field(point, "x")), number(field(point, "y"))
    return None if x is None or y is None else (x - FIRST_PIXEL, y - FIRST_PIXEL)


def _joint(point: np.void) -> tuple[int, tuple[float, float, int]] | None:
    identity, position = number(field(point, "id")), _position(point)
    if identity is None or position is None:
        return None
    hidden = number(field(point, "is_visible")) == 0
    return int(identity), (*position, HIDDEN if hidden else VISIBLE)
