"""Checks of the lists: fields, ids, and what points to what."""

from __future__ import annotations

from collections import Counter
from typing import Any

from duopose.datasets.annotations import MOST_PIXELS, AnnotationFile, Record
from duopose.datasets.check.findings import Findings, is_number
from duopose.skeletons import Skeleton


def check_lists(file: AnnotationFile, findings: Findings) -> None:
    """Empty splits, ids twice, annotations that point nowhere, images without a size or a name."""
    if not file.images:
        findings.problem("'images' is empty: the split has no images")
    if not file.annotations:
        findings.notice(
            "'annotations' is empty: nothing to train on, and results can be written but not scored"
        )
    _check_ids(file.images, "image", findings)
    _check_ids(file.annotations, "annotation", findings)
    _check_images(file.images, findings)
    known = {_hashable(image.get("id")) for image in file.images}
    for annotation in file.annotations:
        if _hashable(annotation.get("image_id")) not in known:
            findings.problem("'image_id' is no id of 'images'", "annotation", annotation.get("id"))


def check_categories(file: AnnotationFile, skeleton: Skeleton, findings: Findings) -> None:
    """Names and order of the keypoints against the skeleton; annotations of unknown categories."""
    for category in file.categories:
        if not isinstance(category.get("keypoints", []), list) or not isinstance(
            category.get("id"), (int, str)
        ):
            findings.problem(
                "a record of 'categories' needs a number or word as 'id' and, if any, a list of names as 'keypoints'"
            )
    named = [
        category
        for category in file.categories
        if category.get("keypoints") and isinstance(category["keypoints"], list)
    ]
    expected = list(skeleton.keypoints)
    if named and all(len(category["keypoints"]) != len(expected) for category in named):
        counts = ", ".join(
            f"'{category.get('name')}' {len(category['keypoints'])}" for category in named
        )
        findings.problem(
            f"'categories' name another number of keypoints ({counts}) than skeleton '{skeleton.name}' has ({len(expected)})"
        )
    for category in named:
        names = list(category["keypoints"])
        if names == expected or len(names) != len(expected):
            continue
        differing = next((a, b) for a, b in zip(names, expected, strict=True) if a != b)
        if sorted(map(str, names)) == sorted(expected):
            findings.problem(
                f"'categories': the keypoints stand in another order than in skeleton '{skeleton.name}': {names} against {expected}"
            )
        else:
            findings.notice(
                f"'categories': keypoints are called otherwise than in skeleton '{skeleton.name}', e.g. {differing[0]} for {differing[1]}"
            )
    ids = {_hashable(category.get("id")) for category in file.categories}
    for annotation in file.annotations:
        if ids and _hashable(annotation.get("category_id")) not in ids:
            findings.problem(
                "'category_id' is no id of 'categories'; such annotations are not used",
                "annotation",
                annotation.get("id"),
            )


def check_skeleton(skeleton: Skeleton, findings: Findings) -> None:
    """What a skeleton's constructor cannot know to be wrong: names that look like a pair but are none, missing sigmas."""
    for name in skeleton.keypoints:
        partner = name.replace("left", "right")
        if partner != name and partner in skeleton.keypoints and skeleton.mirror[name] != partner:
            findings.problem(
                f"skeleton '{skeleton.name}': '{name}' and '{partner}' are not in flip_pairs; mirrored images would teach the wrong side"
            )
    if skeleton.sigmas_are_default:
        findings.notice(
            f"skeleton '{skeleton.name}' gives no sigmas: OKS is computed with {skeleton.sigmas[0]} for every keypoint"
        )


def _check_ids(records: list[Record], noun: str, findings: Findings) -> None:
    ids = [_hashable(record.get("id")) for record in records]
    for record_id, count in Counter(ids).items():
        if record_id is None:
            findings.problem(f"{count} {noun}s have no 'id'")
        elif count > 1:
            findings.problem(f"the same 'id' is given to several {noun}s", "id", record_id)
    if noun == "annotation" and any(record_id == 0 for record_id in ids):
        findings.notice(
            "an annotation has id 0, which COCO's evaluator takes for 'not matched'; number them from 1",
            "annotation",
            0,
        )


def _check_images(images: list[Record], findings: Findings) -> None:
    names: Counter[str] = Counter()
    for image in images:
        sizes = [image.get("width"), image.get("height")]
        if not all(is_number(side) and 1 <= side <= MOST_PIXELS for side in sizes):  # type: ignore[operator]
            findings.problem(
                "'width' and 'height' must be the image's size in pixels", "image", image.get("id")
            )
        if not isinstance(image.get("file_name"), str) or not image["file_name"]:
            findings.problem("'file_name' is missing", "image", image.get("id"))
        else:
            names[image["file_name"]] += 1
    for name, count in names.items():
        if count > 1:
            findings.problem("several entries of 'images' have the same 'file_name'", "name", name)


def _hashable(value: Any) -> Any:
    return (
        value if isinstance(value, (int, str, float)) else (None if value is None else repr(value))
    )
