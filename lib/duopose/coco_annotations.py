"""COCO-format annotation files: the reader, and the rule for which annotations are people.

Training, the data check and scoring all use this one rule, so that a model is scored on the same
kind of people as it was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from duopose.errors import UserError
from duopose.files import read_json

Record = dict[str, Any]  # one entry of a list of the file, with the file's own keys
PERSON_NAME = "person"  # the name in COCO, CrowdPose and our converted MPII files


@dataclass(frozen=True)
class AnnotationFile:
    """The three lists of a COCO file, unchanged; only their being lists of records is checked."""

    path: Path
    images: list[Record]
    annotations: list[Record]  # empty for a test split without ground truth
    categories: list[Record]


@dataclass(frozen=True)
class RequiredField:
    """The field of an annotation without which a benchmark cannot score a person."""

    name: str
    reason: str
    is_sometimes_missing: bool = False  # in the official files, so a lack is no mistake of the user


def read_annotation_file(path: str | Path) -> AnnotationFile:
    """Parse a COCO file. 'annotations' and 'categories' may be missing, as in COCO's test splits.

    UserError naming the file and the key where it is not in COCO format.
    """
    content = read_json(path, "annotation file")

    if not isinstance(content, dict):
        raise UserError(
            f"annotation file {path} is not in COCO format: "
            f"its top level is a {type(content).__name__}, not a mapping"
        )

    lists = {key: content.get(key, []) for key in ("images", "annotations", "categories")}
    problems = [key for key, value in lists.items() if not _is_list_of_records(value)]
    if "images" not in content:
        problems = ["images", *problems]

    if problems:
        keys = ", ".join(f"'{key}'" for key in problems)
        raise UserError(
            f"annotation file {path} is not in COCO format: {keys} must be a list of records; "
            f"it has the keys {list(content)[:8]}"
        )
    return AnnotationFile(Path(path), **lists)


def _is_list_of_records(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(record, dict) for record in value)


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
