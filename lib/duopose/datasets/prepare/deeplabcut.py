"""Reader of DeepLabCut's CollectedData_*.csv: one row per image, columns under several headers.

Format: https://deeplabcut.github.io/DeepLabCut/ . The header rows are scorer, bodyparts, coords;
with several animals also individuals. A row begins with the path of the image, in one column or in
three (labeled-data, video, image). Empty cells are not labelled.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from duopose.datasets.prepare.labelled_people import (
    LabelledImage,
    LabelledPerson,
    LabelledSet,
    check_keypoints,
    image_file_size,
    keypoint_name,
    number,
    read_text,
    safe_image_name,
)
from duopose.errors import UserError

HEADERS = ("scorer", "individuals", "bodyparts", "coords")
FILES = "CollectedData_*.csv"
NOT_LABELLED = ("", "nan", "NaN")


@dataclass(frozen=True)
class _Columns:
    """Of a csv file. coordinates: column of x (y follows) of each individual's body parts."""

    num_index: int  # columns with the image's path
    num_headers: int  # rows
    keypoints: list[str]
    coordinates: dict[str, dict[str, int]]


def read_deeplabcut(source: Path, images: Path | None) -> LabelledSet:
    """One csv file, or all CollectedData_*.csv below a folder (labeled-data of a project).

    images: the folder of the images; None: the folder itself, or that of the csv file. UserError
    naming the file and row that is wrong, or where an image is missing (csv files have no sizes).
    """
    files = sorted(source.rglob(FILES)) if source.is_dir() else [source]
    if not files:
        raise UserError(f"'{source}' has no {FILES}; give the csv file or labeled-data")
    root = images or (source if source.is_dir() else source.parent)

    found = LabelledSet([], [])
    for file in files:
        rows = _rows(file)
        columns = _columns(rows, file)
        found.keypoints = found.keypoints or columns.keypoints
        if set(columns.keypoints) != set(found.keypoints):
            raise UserError(f"'{file}' has other body parts than '{files[0]}'")
        for index, row in enumerate(rows[columns.num_headers :], start=columns.num_headers + 1):
            if any(row):
                found.images.append(_image(row, columns, root, f"'{file}', row {index}"))
    return found


def _rows(file: Path) -> list[list[str]]:
    text = read_text(file, "csv file")
    try:
        return list(csv.reader(io.StringIO(text)))
    except csv.Error as error:
        raise UserError(f"'{file}' is not a valid csv file: {error}") from error


# ---- headers ----


def _columns(rows: Sequence[list[str]], file: Path) -> _Columns:
    headers: dict[str, list[str]] = {}
    for row in rows[: len(HEADERS)]:
        if row and row[0] in HEADERS:
            headers[row[0]] = row
    missing = [name for name in ("scorer", "bodyparts", "coords") if name not in headers]
    if missing:
        raise UserError(f"'{file}' is not a csv of DeepLabCut: it has no header row {missing[0]}")
    if len({len(row) for row in headers.values()}) > 1:
        raise UserError(f"'{file}': the header rows have different numbers of columns")
    if "likelihood" in headers["coords"]:
        raise UserError(
            f"'{file}' holds predictions for a video (likelihood), not labels; give {FILES}"
        )

    parts = headers["bodyparts"]
    num_index = 1
    while num_index < len(parts) and not parts[num_index]:
        num_index += 1
    individuals = headers.get("individuals", [""] * len(parts))
    coordinates = _coordinates(parts, individuals, headers["coords"], num_index, file)
    names = list(dict.fromkeys(name for part in coordinates.values() for name in part))
    check_keypoints(names, f"'{file}'")
    return _Columns(num_index, len(headers), names, coordinates)


def _coordinates(
    parts: Sequence[str],
    individuals: Sequence[str],
    axes: Sequence[str],
    num_index: int,
    file: Path,
) -> dict[str, dict[str, int]]:
    """Individual -> body part -> column of x."""
    coordinates: dict[str, dict[str, int]] = {}
    for column in range(num_index, len(parts), 2):
        where = f"'{file}', column {column + 1}"
        following = column + 1
        is_pair = list(axes[column : following + 1]) == ["x", "y"]
        if not is_pair or parts[column] != parts[following]:
            raise UserError(f"{where}: expected x and y of one body part")
        name = keypoint_name(parts[column], where)
        own = coordinates.setdefault(individuals[column], {})
        if name in own or individuals[column] != individuals[following]:
            raise UserError(f"{where}: the columns of body part '{name}' are not in order")
        own[name] = column
    return coordinates


# ---- rows ----


def _image(row: list[str], columns: _Columns, root: Path, where: str) -> LabelledImage:
    width = columns.num_index + 2 * sum(map(len, columns.coordinates.values()))
    if len(row) != width:
        raise UserError(f"{where} has {len(row)} columns, the header has {width}")

    path = safe_image_name("/".join(row[: columns.num_index]), where)
    name = _name_below(path, root)
    size = image_file_size(root / name, where)
    people = []
    for parts in columns.coordinates.values():
        person = _person(row, parts, where)
        if person.points:
            people.append(person)
    return LabelledImage(name, *size, people)


def _name_below(path: str, root: Path) -> str:
    """labeled-data/video/image, video/image or image: the longest that exists below the root."""
    parts = PurePosixPath(path).parts
    names = ["/".join(parts[start:]) for start in range(len(parts))]
    return next((name for name in names if (root / name).is_file()), names[-1])


def _person(row: list[str], parts: dict[str, int], where: str) -> LabelledPerson:
    """The labelled body parts of one individual."""
    person = LabelledPerson()
    for name, column in parts.items():
        pair = [value.strip() for value in row[column : column + 2]]
        if all(value in NOT_LABELLED for value in pair):
            continue
        at = f"{where}, '{name}'"
        person.points[name] = (number(pair[0], at), number(pair[1], at), 2)
    return person
