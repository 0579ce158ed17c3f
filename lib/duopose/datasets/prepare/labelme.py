"""Reader of labelme: one json file per image, each keypoint a shape of the type point.

Format: https://github.com/wkentaro/labelme (the fields shapes, imagePath, imageWidth, imageHeight;
of a shape label, points, group_id, shape_type, flags).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from duopose.datasets.prepare.label_files import (
    MAX_FILE_BYTES,
    ReadOptions,
    SourceFiles,
    image_size,
)
from duopose.datasets.prepare.labelled_people import (
    LabelledImage,
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
from duopose.json_files import check_memory, decode_json
from duopose.regular_files import FolderReader

# Flags of a shape that mark a hidden keypoint; labelme has no field of its own for this.
HIDDEN_FLAGS = ("occluded", "hidden", "invisible")
WHAT = "labelme file"
KINDS = {"point": "point", "rectangle": "box", "polygon": "polygon"}


def read_labelme(source: Path, images: Path | None, options: ReadOptions) -> LabelledSet:
    """All json files below a folder, or one file.

    images: the folder of the images, only needed where a file states no size. UserError naming the
    file that is not labelme's.
    """
    files = SourceFiles(source, "*.json", options)
    folder = options.folder(images or files.root)
    found = LabelledSet([], [])
    skipped: Counter[str] = Counter()
    names: dict[str, None] = {}  # a set that keeps the order
    for own_name in files.names:
        file = files.root / own_name
        content = _read(files, own_name, options.max_memory)
        if files.is_folder and _is_coco(content):
            found.notices.append(f"'{file}' is in COCO format and not read")
            continue
        _raise_if_unfit(content, file)

        shapes = _shapes(content["shapes"], file, skipped)
        names |= dict.fromkeys(shape.label for shape in shapes if shape.kind == "point")

        name = _image_name(content, file, files.root)
        width, height = _size(content, file, folder, name)
        people = people_of_shapes(shapes, options.person_label, str(file))
        found.add(LabelledImage(name, width, height, people), f"'{source}'")

    found.keypoints = list(names)
    check_keypoints(found.keypoints, f"'{source}'")
    for kind, count in skipped.items():
        found.notices.append(f"{count} shapes of the type {kind!r} are not used")
    return found


def _read(files: SourceFiles, name: str, max_memory: int) -> dict[str, Any]:
    text = files.read(name, WHAT, MAX_FILE_BYTES)
    where = f"{WHAT} '{files.root / name}'"
    check_memory(text, where, max_memory)
    content = decode_json(text, where)
    return content if isinstance(content, dict) else {}


def _is_coco(content: dict[str, Any]) -> bool:
    """A file of an earlier conversion may lie in the folder."""
    return "images" in content and "annotations" in content


def _raise_if_unfit(content: dict[str, Any], file: Path) -> None:
    if not isinstance(content.get("shapes"), list):
        raise UserError(f"'{file}' is not a file of labelme: it has no list 'shapes'")


def _shapes(records: list[Any], file: Path, skipped: Counter[str]) -> list[Shape]:
    """Points, rectangles and polygons; other types are counted in `skipped`."""
    shapes = []
    for index, record in enumerate(records):
        where = f"labelme file '{file}', shape {index}"
        if not isinstance(record, dict):
            raise UserError(f"{where} is not a mapping")
        kind = str(record.get("shape_type") or "polygon")  # early versions had polygons only
        if kind in KINDS:
            shapes.append(_shape(record, KINDS[kind], where))
        else:
            skipped[kind[:40]] += 1
    return shapes


def _shape(record: dict[str, Any], kind: str, where: str) -> Shape:
    label = keypoint_name(record.get("label"), where)
    group = record.get("group_id")
    if group is not None and not isinstance(group, int | str):
        raise UserError(f"{where}: 'group_id' must be a number")

    flags = record.get("flags")
    is_hidden = isinstance(flags, dict) and any(flags.get(flag) for flag in HIDDEN_FLAGS)
    points = _points(record.get("points"), where)
    counts = {"point": len(points) == 1, "box": len(points) == 2, "polygon": len(points) > 2}
    if not counts[kind]:
        raise UserError(f"{where}: a {kind} cannot have {len(points)} points")

    if kind == "box":
        return Shape(kind, label, group, _box_values(points))
    values = tuple(value for point in points for value in point)
    return Shape(kind, label, group, values, is_hidden)


def _points(value: Any, where: str) -> list[tuple[float, float]]:
    is_list = isinstance(value, list)
    if not is_list or not all(isinstance(point, list) and len(point) == 2 for point in value):
        raise UserError(f"{where}: 'points' must be a list of pairs x, y")
    return [(number(x, where), number(y, where)) for x, y in value]


def _box_values(corners: list[tuple[float, float]]) -> tuple[float, float, float, float]:
    """x, y, width, height of a rectangle that may be drawn from any corner."""
    (x1, y1), (x2, y2) = corners
    return min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1)


def _image_name(content: dict[str, Any], file: Path, root: Path) -> str:
    """The image lies where its json file lies, or at the same place below --images.

    'imagePath' may lead anywhere on the machine of the labelling; only its last part counts.
    """
    where = f"labelme file '{file}', 'imagePath'"
    stated = content.get("imagePath")
    last = stated.replace("\\", "/").rsplit("/", 1)[-1] if isinstance(stated, str) else stated
    folder = PurePosixPath(file.parent.relative_to(root).as_posix())
    return (folder / safe_image_name(last, where)).as_posix()


def _size(content: dict[str, Any], file: Path, folder: FolderReader, name: str) -> tuple[int, int]:
    """Width and height, of the json file or else of the image."""
    width = content.get("imageWidth")
    height = content.get("imageHeight")
    where = f"labelme file '{file}'"
    if width is None or height is None:
        return image_size(folder, name, f"{where} has no 'imageWidth' and 'imageHeight'")
    return image_length(width, where), image_length(height, where)
