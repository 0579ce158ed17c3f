"""What the readers of labelling programs return, and what they share: grouping, names, limits.

A reader (`labelme`, `cvat_xml`, `yolo_pose`, `deeplabcut`) turns files of its program into a
`LabelledSet`; `labelled_to_coco` turns that into COCO format, whatever the program was.
The files may come from anywhere: `label_files` reads them, numbers of images and points are
bounded, and a name inside a file is used as a path only after `safe_image_name`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from duopose.errors import UserError

MAX_COORDINATE = 1e6  # pixels
MAX_NAME_LENGTH = 255
MAX_KEYPOINTS = 500
MAX_IMAGES = 1_000_000
MAX_POINTS = 4_000_000  # of all people, corners of their boxes and polygons included: 0.8 GB
MAX_PAIRS = 4_000_000  # of points and boxes of one image without groups, which are all compared

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
    num_points: int = 0

    def add(self, image: LabelledImage, where: str) -> None:
        """One more image; UserError with `where` beyond MAX_IMAGES and MAX_POINTS."""
        for person in image.people:
            corners = sum(len(polygon) // 2 for polygon in person.polygons)
            self.num_points += len(person.points) + corners + 2
        self.images.append(image)
        if len(self.images) > MAX_IMAGES or self.num_points > MAX_POINTS:
            raise UserError(
                f"{where}: more than {MAX_IMAGES} images or {MAX_POINTS} points; convert them in "
                "parts"
            )


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
    if len(points) * len(boxes) > MAX_PAIRS:
        raise UserError(f"{where} has {len(points)} keypoints without a group; give them groups")
    members: list[list[Shape]] = [[area] for area in areas]
    members_of = {id(area): own for area, own in zip(areas, members, strict=True)}
    for point in points:
        around = [area for area in boxes if _contains(area, point)]
        if len(around) != 1:
            raise UserError(
                f"{where} has keypoint '{repeated}' more than once without a group, and "
                f"'{point.label}' is inside {len(around)} boxes of '{person_label}': give all "
                "keypoints of a person the same group"
            )
        members_of[id(around[0])].append(point)
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


def number(value: Any, where: str) -> float:
    """A finite coordinate; UserError with `where`."""
    try:
        is_grouped = isinstance(value, str) and "_" in value  # float() takes 1_0 for 10
        result = math.nan if is_grouped else float(value)
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


def _short(value: Any) -> str:
    """A value of a file for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
