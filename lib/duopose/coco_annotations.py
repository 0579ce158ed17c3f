"""COCO-format annotation files: the reader, and the rule for which annotations are people.

Training, the data check and scoring all use this one rule, so that a model is scored on the same
kind of people as it was trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import msgspec

from duopose.annotation_types import FileFields
from duopose.errors import UserError, counted
from duopose.json_files import MAX_MEMORY, json_values, read_typed_json

Record = dict[str, Any]  # one entry of a list of the file, with the file's own keys
WHAT = "annotation file"  # in messages
FORMAT_NAME = "COCO format"
LENGTHS = {"bbox": 4, "head_box": 4, "objpos": 2}  # numbers of a box or point
PERSON_NAME = "person"  # the name in COCO, CrowdPose and our converted MPII files


@dataclass(frozen=True)
class AnnotationFile:
    """The three lists of a COCO file; `read_annotation_file` states what is checked."""

    path: Path
    images: list[Record]
    annotations: list[Record]  # empty for a test split without ground truth
    categories: list[Record]


if TYPE_CHECKING:
    _Value = Any
else:
    _Value = json_values(8)  # lists in each other: of groups in MPII files 2, of polygons 2


class _Lists(TypedDict, total=False):
    """The lists with all fields of the records."""

    images: list[dict[str, _Value]]
    annotations: list[dict[str, _Value]] | None
    categories: list[dict[str, _Value]] | None


_FIELDS = msgspec.json.Decoder(FileFields)
_ALL_FIELDS = msgspec.json.Decoder(_Lists)


@dataclass(frozen=True)
class RequiredField:
    """The field of an annotation without which a benchmark cannot score a person."""

    name: str
    reason: str
    is_sometimes_missing: bool = False  # in the official files, so a lack is no mistake of the user


def read_annotation_file(path: str | Path, max_memory: int = MAX_MEMORY) -> AnnotationFile:
    """Parse a COCO file: records with the fields of `annotation_types`, types and bounds checked.

    'annotations' and 'categories' may be missing, as in COCO's test splits. max_memory: bytes, see
    `json_files.read_json`. UserError naming the file, the key and the id of the record where it is
    not in COCO format, where a value has another type, and where two images have the same id.
    """
    content = read_typed_json(path, WHAT, _FIELDS, max_memory, FORMAT_NAME)
    file = _annotation_file(Path(path), content)
    _check_lengths(file)
    _check_image_ids(file)
    return file


def read_all_fields(path: str | Path, max_memory: int = MAX_MEMORY) -> AnnotationFile:
    """Parse a COCO file for those who keep or check everything that is in it.

    Only the three lists being lists of records is checked; UserError where they are not.
    """
    content = read_typed_json(path, WHAT, _ALL_FIELDS, max_memory, FORMAT_NAME)
    return _annotation_file(Path(path), content)


def _annotation_file(path: Path, content: dict[str, Any]) -> AnnotationFile:
    if content.get("images") is None:
        raise UserError(
            f"{WHAT} '{path}' is not in {FORMAT_NAME}: 'images' must be a list of records; the "
            f"lists in it are {list(content)}"
        )
    lists = [content.get(key) or [] for key in ("images", "annotations", "categories")]
    return AnnotationFile(path, *lists)


def _check_lengths(file: AnnotationFile) -> None:
    """UserError where a box or point has another number of values; empty ones count as missing."""
    for annotation in file.annotations:
        for name, length in LENGTHS.items():
            values = annotation.get(name)
            if values and len(values) != length:
                raise UserError(
                    f"{WHAT} '{file.path}': annotation {annotation.get('id')}: '{name}' has "
                    f"{counted(len(values), 'number')}, not {length}"
                )


def _check_image_ids(file: AnnotationFile) -> None:
    """UserError where two images have the same id: it would not be known whose people are whose."""
    ids = [image["id"] for image in file.images if "id" in image]
    if len(set(ids)) == len(ids):
        return
    repeated = [image_id for image_id, count in Counter(ids).items() if count > 1]
    raise UserError(
        f"{WHAT} '{file.path}': {counted(len(repeated), 'id')} of 'images' repeated, "
        f"first {repeated[:3]}; each image needs an id of its own"
    )


def person_category(
    categories: list[Record], num_keypoints: int, where: str | Path
) -> int | str | None:
    """Id of the category whose annotations are people; None where the file has no categories.

    It is the first of these rules that gives exactly one category:

    1. the category named 'person';
    2. the category with as many keypoints as the skeleton (`num_keypoints`);
    3. the only category of the file.

    None means that every annotation is a person. UserError naming the candidates where no rule
    applies, or where the id is neither a number nor a word; `where` is the file, for this message.
    """
    if not categories:
        return None

    named = [category for category in categories if category.get("name") == PERSON_NAME]
    fitting = [category for category in categories if _num_keypoints(category) == num_keypoints]
    for candidates in (named, fitting, categories):
        if len(candidates) == 1:
            return _category_id(candidates[0], where)

    names = [
        category.get("name", category.get("id")) for category in named or fitting or categories
    ]
    raise UserError(
        f"annotation file '{where}': which of the categories {names} are the people? "
        f"Name one category '{PERSON_NAME}', or give one of them {num_keypoints} 'keypoints'"
    )


def is_person(annotation: Record, category: int | str | None) -> bool:
    """Whether an annotation is of `category` (of `person_category`); one without category_id is."""
    return category is None or annotation.get("category_id", category) == category


def _num_keypoints(category: Record) -> int:
    names = category.get("keypoints")
    return len(names) if isinstance(names, list) else 0


def _category_id(category: Record, where: str | Path) -> int | str:
    category_id = category.get("id")
    if isinstance(category_id, bool) or not isinstance(category_id, (int, str)):
        raise UserError(
            f"annotation file '{where}': category {category.get('name')!r} needs a number or word "
            f"as 'id', not {category_id!r}"
        )
    return category_id


# ---- names of keypoints ----


class NameDifference(NamedTuple):
    """The first keypoint at which the names of a file and of a skeleton differ."""

    name: str  # in the file
    expected: str  # in the skeleton
    is_other_order: bool  # names of the skeleton stand at other positions

    def message(self, skeleton_name: str) -> str:
        """The difference as a part of a sentence."""
        what = "the order of the keypoints differs" if self.is_other_order else "names differ"
        return (
            f"{what} from skeleton '{skeleton_name}', e.g. {self.name} instead of {self.expected}"
        )


def compare_keypoint_names(
    names: Sequence[object], expected: Sequence[str]
) -> NameDifference | None:
    """How the names of a category differ from those of a skeleton with as many; None: not at all.

    Case, spaces and hyphens do not count.
    """
    plain_names = [_plain(name) for name in names]
    plain_expected = [_plain(name) for name in expected]
    pairs = list(zip(plain_names, plain_expected, strict=True))
    differing = [index for index, (name, other) in enumerate(pairs) if name != other]
    if not differing:
        return None

    moved = [index for index in differing if plain_names[index] in plain_expected]
    first = (moved or differing)[0]
    return NameDifference(str(names[first]), expected[first], bool(moved))


def check_keypoint_names(file: AnnotationFile, keypoints: Sequence[str], skeleton_name: str) -> str:
    """A notice where the people's category has other keypoint names than the skeleton, else ''.

    UserError where it has the skeleton's names in another order: joints would be exchanged.
    """
    if not file.annotations:
        return ""
    category_id = person_category(file.categories, len(keypoints), file.path)
    names = [
        category.get("keypoints")
        for category in file.categories
        if category.get("id") == category_id and _num_keypoints(category) == len(keypoints)
    ]
    difference = compare_keypoint_names(names[0], keypoints) if names and names[0] else None
    if difference is None:
        return ""

    text = f"annotation file {file.path}, 'categories': {difference.message(skeleton_name)}"
    if difference.is_other_order:
        raise UserError(
            f"{text}; list the keypoints of the skeleton (DATASET.SKELETON) in the order of the "
            "file. tools/check_data.py prints both orders"
        )
    return text


def _plain(name: object) -> str:
    """A name in lower case with underscores, to compare it with others."""
    return str(name).strip().lower().replace(" ", "_").replace("-", "_")
