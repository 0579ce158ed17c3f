"""What the readers of labelling programs return, and what they share: grouping, names, limits.

A reader (`labelme`, `cvat_xml`, `yolo_pose`, `deeplabcut`) turns files of its program into a
`LabelledSet`; `labelled_to_coco` turns that into COCO format, whatever the program was.
The files may come from anywhere: sizes are bounded, and a name inside a file is used as a path only
after `safe_image_name`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from duopose.errors import UserError

MAX_FILE_BYTES = 512 * 2**20  # of one annotation file; 100,000 people in CVAT's xml have 200 MB
MAX_COORDINATE = 1e6  # pixels
MAX_NAME_LENGTH = 255
MAX_KEYPOINTS = 500

Point = tuple[float, float, int]  # x, y, visibility: 1 hidden, 2 visible
Box = tuple[float, float, float, float]  # x, y, width, height


@dataclass
class LabelledPerson:
    """One person in pixels of the image; without points it is a region to ignore."""

    points: dict[str, Point] = field(default_factory=dict)
    box: Box | None = None
    polygons: list[list[float]] = field(default_factory=list)  # each x1, y1, x2, y2 ...


@dataclass
class LabelledImage:
    """An image and its people. `name`: path below the folder of images, with forward slashes."""

    name: str
    width: int
    height: int
    people: list[LabelledPerson]


@dataclass
class LabelledSet:
    """All that a reader found. `keypoints`: in the order of the file.

    flip_pairs: where the format states them, else None.
    """

    keypoints: list[str]
    images: list[LabelledImage]
    flip_pairs: list[tuple[str, str]] | None = None
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Shape:
    """One drawn shape. kind: point, box or polygon; values: x, y ... (box: x, y, width, height)."""

    kind: str
    label: str
    group: Hashable | None
    values: tuple[float, ...]
    is_hidden: bool = False

    @property
    def point(self) -> Point:
        """A point with its visibility."""
        return self.values[0], self.values[1], 1 if self.is_hidden else 2


# ---- shapes to people ----


def people_of_shapes(
    shapes: Sequence[Shape], person_label: str, where: str
) -> list[LabelledPerson]:
    """People of one image.

    Points with the same group are one person, together with the box or polygons of the group.
    Points without a group are one person if no name repeats; else each belongs to the only box
    around it. Other boxes and polygons are people without keypoints if they have `person_label`.
    UserError where the points cannot be assigned to people.
    """
    groups: dict[Hashable, list[Shape]] = {}
    ungrouped: list[Shape] = []
    for shape in shapes:
        if shape.group is None:
            ungrouped.append(shape)
        else:
            groups.setdefault(shape.group, []).append(shape)

    members = [*groups.values(), *_split_ungrouped(ungrouped, person_label, where)]
    people = []
    for group in members:
        points = [shape for shape in group if shape.kind == "point"]
        if points or any(shape.label == person_label for shape in group):
            people.append(_person(group, where))
    return people


def _split_ungrouped(shapes: Sequence[Shape], person_label: str, where: str) -> list[list[Shape]]:
    """Lists of the shapes of one person each, by the rules of `people_of_shapes`."""
    points = [shape for shape in shapes if shape.kind == "point"]
    areas = [shape for shape in shapes if shape.kind != "point" and shape.label == person_label]
    repeated = _first_repeated(shape.label for shape in points)
    if not repeated and points:
        if len(areas) == 1:
            return [[*points, *areas]]
        return [points, *([area] for area in areas)]

    boxes = [area for area in areas if area.kind == "box"]
    members: list[list[Shape]] = [[area] for area in areas]
    for point in points:
        around = [area for area in boxes if _contains(area, point)]
        if len(around) != 1:
            raise UserError(
                f"{where} has keypoint '{repeated}' more than once without a group, and "
                f"'{point.label}' is inside {len(around)} boxes of '{person_label}': give all "
                "keypoints of a person the same group"
            )
        members[areas.index(around[0])].append(point)
    return members


def _contains(box: Shape, point: Shape) -> bool:
    x, y, width, height = box.values
    return x <= point.values[0] <= x + width and y <= point.values[1] <= y + height


def _first_repeated(names: Any) -> str:
    """The first name that occurs twice, else an empty text."""
    return next((name for name, count in Counter(names).items() if count > 1), "")


def _person(shapes: Sequence[Shape], where: str) -> LabelledPerson:
    points = [shape for shape in shapes if shape.kind == "point"]
    repeated = _first_repeated(shape.label for shape in points)
    if repeated:
        raise UserError(f"{where}: one person has the keypoint '{repeated}' more than once")

    person = LabelledPerson({shape.label: shape.point for shape in points})
    for shape in shapes:
        if shape.kind == "box":
            x, y, width, height = shape.values
            person.box = (x, y, width, height)
        elif shape.kind == "polygon":
            person.polygons.append(list(shape.values))
    return person


# ---- values from files ----


def read_bounded(path: Path, what: str) -> bytes:
    """The content of a file; UserError where it is missing, a folder, unreadable or too large."""
    if path.is_dir():
        raise UserError(f"{what} '{path}' is a folder; give the file in it")
    if not path.is_file():
        raise UserError(f"{what} '{path}' does not exist")
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise UserError(
                f"{what} '{path}' has {size / 2**20:.0f} MiB; the limit is "
                f"{MAX_FILE_BYTES // 2**20} MiB: split it"
            )
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{what} '{path}' cannot be read: {error.strerror}") from error


def read_text(path: Path, what: str) -> str:
    """The text of a file in utf-8; UserError as `read_bounded`, or where it is no such text."""
    try:
        return read_bounded(path, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{what} '{path}' is not a text in utf-8: {error.reason}") from error


def number(value: Any, where: str) -> float:
    """A finite coordinate; UserError with `where`."""
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if isinstance(value, bool) or not math.isfinite(result) or abs(result) > MAX_COORDINATE:
        raise UserError(f"{where}: {_short(value)} is not a coordinate in pixels")
    return result


def image_length(value: Any, where: str) -> int:
    """Width or height of an image; UserError with `where`."""
    length = number(value, where)
    if length < 1 or length != int(length):
        raise UserError(f"{where}: {_short(value)} is not the width or height of an image")
    return int(length)


def keypoint_name(value: Any, where: str) -> str:
    """A name to show and to write into yaml; UserError with `where`."""
    is_name = isinstance(value, str) and value.isprintable()
    if not is_name or not value.strip() or len(value) > MAX_NAME_LENGTH:
        raise UserError(f"{where}: {_short(value)} is not a usable name of a keypoint")
    return str(value.strip())


def check_keypoints(names: Sequence[str], where: str) -> None:
    """UserError where there are none, too many, or one name twice."""
    repeated = _first_repeated(names)
    if repeated:
        raise UserError(f"{where}: the keypoint '{repeated}' is named twice")
    if not names:
        raise UserError(f"{where} has no keypoints")
    if len(names) > MAX_KEYPOINTS:
        raise UserError(f"{where} names {len(names)} keypoints; the limit is {MAX_KEYPOINTS}")


def safe_image_name(value: Any, where: str) -> str:
    """A path below the folder of images, with forward slashes; UserError for any other."""
    is_text = isinstance(value, str) and value.isprintable() and len(value) <= 4 * MAX_NAME_LENGTH
    path = PurePosixPath(value.replace("\\", "/")) if is_text else PurePosixPath()
    is_drive = bool(path.parts) and path.parts[0].endswith(":")
    if not path.name or path.is_absolute() or is_drive or ".." in path.parts:
        raise UserError(
            f"{where}: {_short(value)} is not the name of an image below the folder of images"
        )
    return path.as_posix()


def image_file_size(path: Path, where: str) -> tuple[int, int]:
    """Width and height from the header of an image file; UserError with `where`."""
    if not path.is_file():
        raise UserError(
            f"{where}: the image '{path}' does not exist; give its folder with --images"
        )
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{where}: '{path}' cannot be read as an image: {error}") from error


def _short(value: Any) -> str:
    """A value of a file for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
