"""Reader of MPII's own files: `mpii_human_pose_v1_u12_1.mat` and `groups_v12.mat`.

    RELEASE.annolist(i).image.name
                       .vididx
                       .annorect(r).x1, y1, x2, y2                         head rectangle
                                   .scale, .objpos.x, .objpos.y
                                   .annopoints.point(k).id, x, y, is_visible
           .img_train(i)

Any field may be missing or empty: test images have only scale and objpos, some people have no
points, and upper neck and head top have no is_visible. Coordinates in the file count pixels from 1
(HRNet's and PoseAE's readers subtract it, too); those returned here count from 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duopose.annotation_types import MAX_COORDINATE, MAX_NAME_LENGTH
from duopose.errors import UserError
from duopose.mat_files import read_mat

FIRST_PIXEL = 1.0  # MATLAB's index of the first pixel
HIDDEN = 1  # COCO's visibility values
VISIBLE = 2

Point = tuple[float, float]
Struct = dict[str, Any]  # field -> value as of mat_files


@dataclass(frozen=True)
class MpiiPerson:
    """One annorect, in pixel-index coordinates of the image."""

    # MPII joint id -> x, y, visibility (1 hidden, 2 visible or not stated)
    joints: Mapping[int, tuple[float, float, int]]
    head_box: tuple[float, float, float, float] | None  # x1, y1, x2, y2
    position: Point | None  # objpos
    scale: float | None  # height of the person / 200 pixels


@dataclass(frozen=True)
class MpiiImage:
    """One entry of annolist; entry i (from 0) is image i + 1 in MPII's numbering."""

    name: str
    train: bool
    video: int | None  # images of one video look alike
    people: tuple[MpiiPerson, ...]


def read_release(path: str | Path) -> list[MpiiImage]:
    """The images of the annotation file in its order; UserError where it is not MPII's."""
    releases = to_structs(read_mat(path, "RELEASE"))
    annolist = releases[0].get("annolist") if len(releases) == 1 else None
    img_train = releases[0].get("img_train") if len(releases) == 1 else None
    if len(releases) != 1 or not {"annolist", "img_train"} <= set(releases[0]):
        raise UserError(
            f"'{path}' is not MPII's annotation file: RELEASE must contain annolist and img_train"
        )

    entries = to_structs(annolist)
    train = to_list(img_train)
    if len(train) != len(entries):
        raise UserError(f"'{path}': annolist has {len(entries)} images, img_train has {len(train)}")

    images = []
    for index, (entry, is_train) in enumerate(zip(entries, train, strict=True)):
        try:
            images.append(_image(entry, bool(to_number(is_train))))
        except (ValueError, TypeError, OverflowError) as error:
            raise UserError(f"'{path}': annolist({index + 1}) cannot be used: {error}") from error
    return images


def read_groups(path: str | Path, num_images: int) -> list[list[list[int]]]:
    """Per image its groups; a group is a list of annorect indices (from 0).

    UserError where the file is for another number of images.
    """
    cells = to_list(read_mat(path, "groups"))
    if len(cells) != num_images:
        raise UserError(
            f"'{path}' has groups of {len(cells)} images, the annotation file has {num_images}; "
            "both must be of MPII v1.2"
        )

    groups = []
    for index, cell in enumerate(cells):
        try:
            groups.append([_indices(group) for group in to_list(cell)])
        except (ValueError, TypeError, OverflowError) as error:
            raise UserError(f"'{path}': groups({index + 1}) cannot be used: {error}") from error
    return groups


def _indices(group: Any) -> list[int]:
    return [int(index) - 1 for index in to_list(group)]


# ---- values of mat_files ----


def to_list(value: Any) -> list[Any]:
    """The values of an array: none, one, or several."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def to_structs(value: Any) -> list[Struct]:
    """The structs of a struct array, or of a cell of structs; else none."""
    structs: list[Struct] = []
    for item in to_list(value):
        if isinstance(item, dict):
            structs.append(item)
        elif isinstance(item, list):
            structs += to_structs(item)
    return structs


def to_number(value: Any) -> float | None:
    """A number, stored as number or text; None where it is missing, empty or NaN.

    ValueError where it is no number, infinite, or larger than any coordinate.
    """
    while isinstance(value, list):
        value = value[0] if value else None
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    found = float(value)
    if abs(found) > MAX_COORDINATE:
        raise ValueError(f"{found:g} is no coordinate in pixels")
    return None if math.isnan(found) else found


def _image(entry: Struct, train: bool) -> MpiiImage:
    image = to_structs(entry.get("image"))
    name = to_list(image[0].get("name")) if image else []
    if not name:
        raise ValueError("it has no image.name")
    if not isinstance(name[0], str) or len(name[0]) > MAX_NAME_LENGTH:
        raise ValueError("image.name is no file name")

    video = to_number(entry.get("vididx"))
    people = tuple(_person(rectangle) for rectangle in to_structs(entry.get("annorect")))
    return MpiiImage(name[0], train, None if video is None else int(video), people)


def _person(rectangle: Struct) -> MpiiPerson:
    joints = {}
    for group in to_structs(rectangle.get("annopoints")):
        for point in to_structs(group.get("point")):
            joint = _joint(point)
            if joint is not None:
                joint_id, position_and_visibility = joint
                joints[joint_id] = position_and_visibility

    object_position = to_structs(rectangle.get("objpos"))
    return MpiiPerson(
        joints=joints,
        head_box=_head_box(rectangle),
        position=_position(object_position[0]) if object_position else None,
        scale=to_number(rectangle.get("scale")),
    )


def _head_box(rectangle: Struct) -> tuple[float, float, float, float] | None:
    """x1, y1, x2, y2; None where one of them is missing."""
    x1, y1, x2, y2 = (to_number(rectangle.get(name)) for name in ("x1", "y1", "x2", "y2"))
    if x1 is None or y1 is None or x2 is None or y2 is None:
        return None
    return (x1 - FIRST_PIXEL, y1 - FIRST_PIXEL, x2 - FIRST_PIXEL, y2 - FIRST_PIXEL)


def _position(point: Struct) -> Point | None:
    x = to_number(point.get("x"))
    y = to_number(point.get("y"))
    return None if x is None or y is None else (x - FIRST_PIXEL, y - FIRST_PIXEL)


def _joint(point: Struct) -> tuple[int, tuple[float, float, int]] | None:
    """Joint id, and x, y, visibility; None where id or position is missing."""
    joint_id = to_number(point.get("id"))
    position = _position(point)
    if joint_id is None or position is None:
        return None
    is_hidden = to_number(point.get("is_visible")) == 0
    return int(joint_id), (*position, HIDDEN if is_hidden else VISIBLE)
