"""Reader of DeepLabCut's CollectedData_*.csv: one row per image, columns under several headers.

Format: https://deeplabcut.github.io/DeepLabCut/ . The header rows are scorer, bodyparts, coords;
with several animals also individuals. A row begins with the path of the image, in one column or in
three (labeled-data, video, image). Empty cells are not labelled.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from duopose.datasets.prepare.label_files import (
    MAX_TABLE_BYTES,
    ReadOptions,
    SourceFiles,
    as_text,
    image_size,
)
from duopose.datasets.prepare.labelled_people import (
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


def read_deeplabcut(source: Path, images: Path | None, options: ReadOptions) -> LabelledSet:
    """One csv file, or all CollectedData_*.csv below a folder (labeled-data of a project).

    images: the folder of the images; None: the folder itself, or that of the csv file. UserError
    naming the file and row that is wrong, or where an image is missing (csv files have no sizes).
    """
    files = SourceFiles(source, FILES, options)
    folder = options.folder(images or files.root)
    found = LabelledSet([], [])
    for name in files.names:
        _read_table(files, name, folder, found)
    return found


def _read_table(files: SourceFiles, name: str, folder: FolderReader, found: LabelledSet) -> None:
    """Add the images of one csv file."""
    file = files.root / name
    content = files.read(name, "csv file", MAX_TABLE_BYTES)
    rows = _rows(as_text(content, f"csv file '{file}'"), file)
    headers = list(itertools.islice(rows, len(HEADERS)))
    columns = _columns(headers, file)
    found.keypoints = found.keypoints or columns.keypoints
    if set(columns.keypoints) != set(found.keypoints):
        raise UserError(f"'{file}' has other body parts than '{files.root / files.names[0]}'")

    labels: Iterable[list[str]] = itertools.chain(headers[columns.num_headers :], rows)
    for index, row in enumerate(labels, start=columns.num_headers + 1):
        if any(row):
            where = f"'{file}', row {index}"
            found.add(_image(row, columns, folder, where), where)


def _rows(text: str, file: Path) -> Iterator[list[str]]:
    try:
        yield from csv.reader(io.StringIO(text))
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


def _image(row: list[str], columns: _Columns, folder: FolderReader, where: str) -> LabelledImage:
    width = columns.num_index + 2 * sum(map(len, columns.coordinates.values()))
    if len(row) != width:
        raise UserError(f"{where} has {len(row)} columns, the header has {width}")

    path = safe_image_name("/".join(row[: columns.num_index]), where)
    name = _name_below(path, folder)
    size = image_size(folder, name, where)
    people = []
    for parts in columns.coordinates.values():
        person = _person(row, parts, where)
        if person.points:
            people.append(person)
    return LabelledImage(name, *size, people)


def _name_below(path: str, folder: FolderReader) -> str:
    """labeled-data/video/image, video/image or image: the longest that exists in the folder."""
    parts = PurePosixPath(path).parts
    names = ["/".join(parts[start:]) for start in range(len(parts))]
    return next((name for name in names if folder.is_file(name)), names[-1])


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
