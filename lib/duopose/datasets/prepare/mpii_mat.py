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

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from duopose.errors import UserError

FIRST_PIXEL = 1.0  # MATLAB's index of the first pixel
HIDDEN = 1  # COCO's visibility values
VISIBLE = 2

Point = tuple[float, float]


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
    releases = to_structs(_load(path, "RELEASE"))
    annolist = get_field(releases[0], "annolist") if len(releases) == 1 else None
    img_train = get_field(releases[0], "img_train") if len(releases) == 1 else None
    if annolist is None or img_train is None:
        raise UserError(
            f"'{path}' is not MPII's annotation file: RELEASE must contain annolist and img_train"
        )

    entries = to_structs(annolist)
    train = np.asarray(img_train).reshape(-1)
    if len(train) != len(entries):
        raise UserError(f"'{path}': annolist has {len(entries)} images, img_train has {len(train)}")

    images = []
    for index, (entry, is_train) in enumerate(zip(entries, train, strict=True)):
        try:
            images.append(_image(entry, bool(to_number(is_train)), path, index))
        except UserError:
            raise
        except (ValueError, TypeError, OverflowError, IndexError) as error:
            raise UserError(f"'{path}': annolist({index + 1}) cannot be used: {error}") from error
    return images


def read_groups(path: str | Path, num_images: int) -> list[list[list[int]]]:
    """Per image its groups; a group is a list of annorect indices (from 0).

    UserError where the file is for another number of images.
    """
    cells = _load(path, "groups").reshape(-1)
    if len(cells) != num_images:
        raise UserError(
            f"'{path}' has groups of {len(cells)} images, the annotation file has {num_images}; "
            "both must be of MPII v1.2"
        )

    groups = []
    for cell in cells:
        of_image = np.asarray(cell, dtype=object).reshape(-1)
        groups.append([_indices(group) for group in of_image])
    return groups


def _indices(group: Any) -> list[int]:
    return [int(index) - 1 for index in np.asarray(group).reshape(-1)]


def _load(path: str | Path, variable: str) -> np.ndarray:
    """A variable of a .mat file; UserError where file or variable is missing."""
    if not Path(path).is_file():
        raise UserError(f"'{path}' does not exist (looked in {Path(path).absolute().parent})")
    try:
        content = scipy.io.loadmat(path, variable_names=[variable])
    except Exception as error:  # scipy raises many kinds for damaged files, MemoryError among them
        raise UserError(
            f"'{path}' cannot be read as a MATLAB file (version 7 or older): "
            f"{type(error).__name__} {error}; is it damaged?"
        ) from error

    if variable not in content:
        existing = [name for name, *_ in scipy.io.whosmat(path)]
        raise UserError(f"'{path}' has no variable {variable}; it has {existing}")
    return content[variable]


# ---- values as scipy nests them: everything is an array, a missing value is an empty one ----


def to_structs(value: Any) -> list[np.void]:
    """The structs of a struct array, of one struct, or of a cell of structs; else none."""
    if not isinstance(value, (np.ndarray, np.void)):
        return []
    items = np.asarray(value).reshape(-1)
    if items.dtype.names:
        return list(items)
    return [struct for item in items for struct in to_structs(item)]


def get_field(struct: np.void, name: str) -> Any:
    """The value of a field, None where the struct has no such field."""
    return struct[name] if name in (struct.dtype.names or ()) else None


def to_number(value: Any) -> float | None:
    """A number, stored as number or text; None where it is missing, empty or NaN."""
    array = np.asarray(value).reshape(-1)
    if array.dtype == object:
        return to_number(array[0]) if array.size and array[0] is not None else None
    if not array.size or not str(array[0]).strip():
        return None
    found = float(array[0])
    return None if np.isnan(found) else found


def _image(entry: np.void, train: bool, path: str | Path, index: int) -> MpiiImage:
    image = to_structs(get_field(entry, "image"))
    name = np.asarray(get_field(image[0], "name")).reshape(-1) if image else np.zeros(0)
    if not name.size:
        raise UserError(f"'{path}': annolist({index + 1}) has no image.name")

    video = to_number(get_field(entry, "vididx"))
    people = tuple(_person(rectangle) for rectangle in to_structs(get_field(entry, "annorect")))
    return MpiiImage(str(name[0]), train, None if video is None else int(video), people)


def _person(rectangle: np.void) -> MpiiPerson:
    joints = {}
    for group in to_structs(get_field(rectangle, "annopoints")):
        for point in to_structs(get_field(group, "point")):
            joint = _joint(point)
            if joint is not None:
                joint_id, position_and_visibility = joint
                joints[joint_id] = position_and_visibility

    object_position = to_structs(get_field(rectangle, "objpos"))
    return MpiiPerson(
        joints=joints,
        head_box=_head_box(rectangle),
        position=_position(object_position[0]) if object_position else None,
        scale=to_number(get_field(rectangle, "scale")),
    )


def _head_box(rectangle: np.void) -> tuple[float, float, float, float] | None:
    """x1, y1, x2, y2; None where one of them is missing."""
    x1, y1, x2, y2 = (to_number(get_field(rectangle, name)) for name in ("x1", "y1", "x2", "y2"))
    if x1 is None or y1 is None or x2 is None or y2 is None:
        return None
    return (x1 - FIRST_PIXEL, y1 - FIRST_PIXEL, x2 - FIRST_PIXEL, y2 - FIRST_PIXEL)


def _position(point: np.void) -> Point | None:
    x = to_number(get_field(point, "x"))
    y = to_number(get_field(point, "y"))
    return None if x is None or y is None else (x - FIRST_PIXEL, y - FIRST_PIXEL)


def _joint(point: np.void) -> tuple[int, tuple[float, float, int]] | None:
    """Joint id, and x, y, visibility; None where id or position is missing."""
    joint_id = to_number(get_field(point, "id"))
    position = _position(point)
    if joint_id is None or position is None:
        return None
    is_hidden = to_number(get_field(point, "is_visible")) == 0
    return int(joint_id), (*position, HIDDEN if is_hidden else VISIBLE)
