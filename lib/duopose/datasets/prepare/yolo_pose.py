"""Reader of YOLO-pose: a data.yaml, and one txt file per image with one person a line.

Format: https://docs.ultralytics.com/datasets/pose/ . A line is: class, box centre x, y, width,
height, then x, y [, visibility] of each keypoint. All lengths are fractions of the image.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from duopose.datasets.prepare.label_files import (
    MAX_LABEL_BYTES,
    ReadOptions,
    as_text,
    check_inside,
    image_size,
    read_in_folder,
)
from duopose.datasets.prepare.labelled_people import (
    MAX_KEYPOINTS,
    LabelledImage,
    LabelledPerson,
    LabelledSet,
    check_keypoints,
    keypoint_name,
    number,
    safe_image_name,
)
from duopose.errors import UserError
from duopose.regular_files import FolderReader
from duopose.skeletons import COCO
from duopose.yaml_files import read_yaml_file

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
BOX_COLUMNS = 5  # class, x, y, width, height


@dataclass(frozen=True)
class _Layout:
    """What data.yaml says about a line."""

    keypoints: list[str]
    values_per_keypoint: int  # 2 or 3
    person_class: int | None  # None: all classes


def read_yolo_pose(
    source: Path,
    images: Path | None,
    split: str,
    options: ReadOptions,
    keypoints: Sequence[str] = (),
) -> LabelledSet:
    """The images of one split and their txt files.

    images: the folder of the images; None: the one that data.yaml names, if it is below the folder
    of data.yaml. keypoints: names in the order of the columns, where data.yaml has none. UserError
    naming the file and line that is wrong.
    """
    content = _read_yaml(source)
    notices: list[str] = []
    layout = _layout(content, source, options.person_label, keypoints, notices)
    folder = images or _image_folder(content, source, split, options)
    labels = _label_folder(folder)
    if images is None:
        check_inside(labels, source.parent, options, f"'{source}'")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise UserError(f"'{folder}' has no images; give their folder with --images")
    if not labels.is_dir():
        raise UserError(f"'{source}': the folder of the txt files '{labels}' does not exist")

    found = LabelledSet(layout.keypoints, [], notices=notices)
    image_reader = options.folder(folder)
    label_reader = options.folder(labels)
    num_without = 0
    for file in files:
        name = file.relative_to(folder).as_posix()
        size = image_size(image_reader, name, f"'{source}'")
        label_name = PurePosixPath(name).with_suffix(".txt").as_posix()
        people = []
        if os.path.lexists(labels / label_name):
            people = _people(label_reader, label_name, size, layout)
        else:
            num_without += 1
        found.add(LabelledImage(name, *size, people), f"'{source}'")

    if num_without == len(files):
        raise UserError(
            f"none of the {len(files)} images of '{folder}' has a txt file in '{labels}'"
        )
    if num_without:
        notices.append(f"images without a txt file, taken to be without people: {num_without}")
    found.flip_pairs = _flip_pairs(content.get("flip_idx"), layout.keypoints, source)
    return found


# ---- data.yaml ----


def _read_yaml(source: Path) -> dict[str, Any]:
    content = read_yaml_file(source, "yaml file")
    if not isinstance(content, dict) or "kpt_shape" not in content:
        raise UserError(f"'{source}' is not a data.yaml of YOLO-pose: it has no 'kpt_shape'")
    return content


def _layout(
    content: dict[str, Any],
    source: Path,
    person_label: str,
    keypoints: Sequence[str],
    notices: list[str],
) -> _Layout:
    shape = content["kpt_shape"]
    is_pair = isinstance(shape, list) and [type(value) for value in shape] == [int, int]
    if not is_pair or shape[1] not in (2, 3) or not 0 < shape[0] <= MAX_KEYPOINTS:
        raise UserError(f"'{source}': 'kpt_shape' must be [number of keypoints, 2 or 3]")

    person_class = _person_class(content.get("names"), source, person_label)
    names = list(keypoints) or _names(content.get("kpt_names"), person_class, source)
    if not names and shape[0] == COCO.num_keypoints:
        names = list(COCO.keypoints)
        notices.append("17 keypoints without names: those of COCO, in its order")
    elif not names:
        names = [f"keypoint_{index + 1}" for index in range(shape[0])]
        notices.append("the keypoints have no names: name them with --keypoints")
    if len(names) != shape[0]:
        raise UserError(f"'{source}': 'kpt_shape' has {shape[0]} keypoints, {len(names)} are named")
    check_keypoints(names, f"'{source}'")
    return _Layout(names, shape[1], person_class)


def _person_class(names: Any, source: Path, person_label: str) -> int | None:
    """The class named `person_label`, or the only one."""
    if names is None:
        return None
    by_number = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(by_number, dict):
        raise UserError(f"'{source}': 'names' must be a list or a mapping")
    found = [key for key, name in by_number.items() if name == person_label]
    candidates = found or list(by_number)
    if len(candidates) != 1 or not isinstance(candidates[0], int):
        raise UserError(
            f"'{source}': which of the classes {list(by_number.values())[:8]} are the people? "
            "Give its name with --person"
        )
    return candidates[0]


def _names(value: Any, person_class: int | None, source: Path) -> list[str]:
    """Names of the keypoints, which data.yaml may list, also for each class; else empty."""
    names = value.get(person_class or 0) if isinstance(value, dict) else value
    if not isinstance(names, list):
        return []
    return [keypoint_name(name, f"'{source}', 'kpt_names'") for name in names]


def _flip_pairs(value: Any, keypoints: Sequence[str], source: Path) -> list[tuple[str, str]] | None:
    """'flip_idx': index of the keypoint that each one becomes in a mirrored image."""
    if value is None:
        return None
    count = len(keypoints)
    is_valid = isinstance(value, list) and len(value) == count
    is_valid = is_valid and all(type(index) is int and 0 <= index < count for index in value)
    if not is_valid or any(value[value[index]] != index for index in range(count)):
        raise UserError(
            f"'{source}': 'flip_idx' must exchange pairs of the {count} keypoints, from 0"
        )
    pairs = [(index, other) for index, other in enumerate(value) if index < other]
    return [(keypoints[one], keypoints[other]) for one, other in pairs]


def _image_folder(content: dict[str, Any], source: Path, split: str, options: ReadOptions) -> Path:
    """The folder of a split, below the folder of data.yaml."""
    entry = content.get(split)
    if not isinstance(entry, str):
        raise UserError(
            f"'{source}' names no folder of images as '{split}'; give it with --images, or another "
            "split with --split"
        )
    where = f"'{source}', '{split}'"
    relative = safe_image_name(entry.removeprefix("../"), where)  # Roboflow writes ../train/images
    parts = [source.parent / relative]
    base = content.get("path")
    if isinstance(base, str) and base.isprintable() and ".." not in base:
        parts.insert(0, source.parent / base.strip("/\\") / relative)
    found = [folder for folder in parts if folder.is_dir()]
    if not found:
        raise UserError(
            f"'{source}': '{entry}' ('{split}') is no folder below '{source.parent}'; give the "
            "folder of the images with --images"
        )
    check_inside(found[0], source.parent, options, where)
    return found[0]


def _label_folder(images: Path) -> Path:
    """The last folder named images becomes labels, as in the original; else the same folder."""
    parts = list(images.absolute().parts)
    for index in reversed(range(len(parts))):
        if parts[index] == "images":
            parts[index] = "labels"
            return Path(*parts)
    return images


# ---- txt files ----


def _people(
    folder: FolderReader, name: str, size: tuple[int, int], layout: _Layout
) -> list[LabelledPerson]:
    file = folder.root / name
    text = as_text(read_in_folder(folder, name, "txt file", MAX_LABEL_BYTES), f"txt file '{file}'")
    people = []
    for row, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if words:
            where = f"'{file}', line {row}"
            person = _person(words, size, layout, where)
            people += [] if person is None else [person]
    return people


def _person(
    words: list[str], size: tuple[int, int], layout: _Layout, where: str
) -> LabelledPerson | None:
    """None for an object of another class."""
    step = layout.values_per_keypoint
    expected = BOX_COLUMNS + step * len(layout.keypoints)
    if len(words) != expected:
        raise UserError(f"{where} has {len(words)} numbers, 'kpt_shape' needs {expected}")
    values = [number(word, where) for word in words]
    if layout.person_class is not None and values[0] != layout.person_class:
        return None
    if any(abs(value) > 2 for value in values[1:BOX_COLUMNS]):
        raise UserError(f"{where}: the box is not given as fractions of the image")

    width, height = size
    centre_x, centre_y, box_width, box_height = values[1:BOX_COLUMNS]
    left = (centre_x - box_width / 2) * width
    top = (centre_y - box_height / 2) * height
    person = LabelledPerson(box=(left, top, box_width * width, box_height * height))
    for index, name in enumerate(layout.keypoints):
        keypoint = values[BOX_COLUMNS + step * index : BOX_COLUMNS + step * (index + 1)]
        visibility = _visibility(keypoint, where)
        if visibility:
            person.points[name] = (keypoint[0] * width, keypoint[1] * height, visibility)
    return person


def _visibility(keypoint: Sequence[float], where: str) -> int:
    """The third value; without one, 0, 0 is not labelled."""
    if len(keypoint) == 2:
        return 2 if any(keypoint) else 0
    if keypoint[2] not in (0, 1, 2):
        raise UserError(f"{where}: the visibility of a keypoint must be 0, 1 or 2")
    return int(keypoint[2])
