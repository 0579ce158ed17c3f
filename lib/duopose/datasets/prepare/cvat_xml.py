"""Reader of "CVAT for images 1.1": one xml file with points or skeletons in every image.

Format: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/

`xml_files` reads the images one at a time, and refuses document types and entities.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from duopose.datasets.prepare.label_files import MAX_FILE_BYTES, ReadOptions
from duopose.datasets.prepare.labelled_people import (
    LabelledImage,
    LabelledPerson,
    LabelledSet,
    Shape,
    check_keypoints,
    image_length,
    keypoint_name,
    number,
    people_of_shapes,
    safe_image_name,
)
from duopose.errors import UserError
from duopose.xml_files import read_xml

# A shape with several points is one person, whose keypoints have no names of their own.
MAX_TAG_NAME = 40


@dataclass
class _Format:
    """What is known about the file, besides its images."""

    source: Path
    person_label: str
    keypoints: Sequence[str]  # names for point shapes that hold all points of a person
    labels: list[tuple[str | None, bool]] = field(default_factory=list)  # name, has a parent
    skipped: Counter[str] = field(default_factory=Counter)  # tags of shapes that are not used
    has_tracks: bool = False


def read_cvat(source: Path, options: ReadOptions, keypoints: Sequence[str] = ()) -> LabelledSet:
    """The images of one xml file.

    keypoints: names for point shapes that hold all points of a person, in the order of the points.
    UserError naming the file and the image where it is not this format.
    """
    read = _Format(source, options.person_label, keypoints)
    found = LabelledSet([], [])
    used: dict[str, None] = {}
    for element in read_xml(source, "xml file", "annotations", MAX_FILE_BYTES):
        if element.tag == "image":
            image = _image(element, read)
            found.add(image, f"'{source}'")
            used |= dict.fromkeys(name for person in image.people for name in person.points)
        elif element.tag == "meta":
            read.labels += _labels(element)
        read.has_tracks |= element.tag == "track"

    if not found.images:
        advice = " but <track>: export it again in that format" if read.has_tracks else ""
        raise UserError(
            f"'{source}' is not of the format 'CVAT for images 1.1': it has no <image> in "
            f"<annotations>{advice}"
        )
    found.keypoints = _keypoint_order(read, used)
    check_keypoints(found.keypoints, f"'{source}'")
    found.notices = [f"{count} shapes <{tag}> are not used" for tag, count in read.skipped.items()]
    return found


def _labels(meta: ET.Element) -> Iterable[tuple[str | None, bool]]:
    """Name of each label, and whether it belongs to another one."""
    for label in meta.iterfind(".//label"):
        yield label.findtext("name"), label.find("parent") is not None


def _keypoint_order(read: _Format, used: dict[str, None]) -> list[str]:
    """Order of the file's list of labels; names that it lacks follow in their order of use."""
    if read.keypoints and set(used) <= set(read.keypoints):
        return list(read.keypoints)
    listed: dict[str, None] = {}
    for name, has_parent in read.labels:
        if has_parent or name in used:
            listed[keypoint_name(name, f"'{read.source}', <label>")] = None
    return list(listed | used)


def _image(element: ET.Element, read: _Format) -> LabelledImage:
    name = safe_image_name(element.get("name"), f"'{read.source}', <image>")
    where = f"'{read.source}', image '{name}'"
    people: list[LabelledPerson] = []
    shapes: list[Shape] = []
    for child in element:
        if child.tag == "skeleton":
            people.append(_skeleton(child, where))
        elif child.tag == "points" and ";" in child.get("points", ""):
            people.append(_person_of_points(child, read.keypoints, where))
        elif child.tag in ("points", "box", "polygon"):
            shapes.append(_shape(child, where))
        elif child.tag != "tag":
            read.skipped[str(child.tag)[:MAX_TAG_NAME]] += 1

    people += people_of_shapes(shapes, read.person_label, where)
    width = image_length(element.get("width"), where)
    height = image_length(element.get("height"), where)
    return LabelledImage(name, width, height, people)


def _skeleton(element: ET.Element, where: str) -> LabelledPerson:
    """Points outside the image are not labelled."""
    person = LabelledPerson()
    for child in element.iterfind("points"):
        shape = _shape(child, where)
        if child.get("outside") == "1":
            continue
        if shape.label in person.points:
            raise UserError(f"{where}: one skeleton has the point '{shape.label}' twice")
        person.points[shape.label] = shape.point
    return person


def _person_of_points(element: ET.Element, keypoints: Sequence[str], where: str) -> LabelledPerson:
    """A shape with all points of a person; the names come from the command line."""
    values = _values(element, where)
    if 2 * len(keypoints) != len(values):
        have = f"{len(keypoints)} names were given" if keypoints else "name them, in their order,"
        raise UserError(
            f"{where}: a shape has {len(values) // 2} points without names; {have} with "
            "--keypoints or --skeleton"
        )
    visibility = 1 if element.get("occluded") == "1" else 2
    pairs = zip(values[::2], values[1::2], strict=True)
    named = zip(keypoints, pairs, strict=True)
    return LabelledPerson({name: (x, y, visibility) for name, (x, y) in named})


def _shape(element: ET.Element, where: str) -> Shape:
    """A named point, a box or a polygon. Shapes of CVAT's group 0 are in no group."""
    label = keypoint_name(element.get("label"), where)
    group = element.get("group_id")
    if group == "0":
        group = None
    is_hidden = element.get("occluded") == "1"
    if element.tag == "box":
        return Shape("box", label, group, _box_values(element, where))

    values = _values(element, where)
    if element.tag == "points":
        return Shape("point", label, group, values, is_hidden)
    if len(values) < 6:
        raise UserError(f"{where}: a polygon has fewer than three points")
    return Shape("polygon", label, group, values)


def _box_values(element: ET.Element, where: str) -> tuple[float, ...]:
    """x, y, width, height."""
    keys = ("xtl", "ytl", "xbr", "ybr")
    left, top, right, bottom = (number(element.get(key), f"{where}, <box> {key}") for key in keys)
    return left, top, right - left, bottom - top


def _values(element: ET.Element, where: str) -> tuple[float, ...]:
    """x1, y1, x2, y2 ... of the attribute 'points'."""
    text = element.get("points", "")
    pairs: list[Any] = [pair.split(",") for pair in text.split(";")]
    if not all(len(pair) == 2 for pair in pairs):
        raise UserError(f'{where}: points="{text[:40]}" is not a list of x,y')
    return tuple(number(value, where) for pair in pairs for value in pair)
