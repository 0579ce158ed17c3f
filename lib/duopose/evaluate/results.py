"""The results file: `ImageResult`s in the form the COCO server takes, and back.

One entry a person: image_id, category_id 1, keypoints [x, y, score, ...] of the skeleton's K joints in the image frame
(0, 0, 0 where a joint was not found), score. With `with_filled` an entry has one key more, `filled`: the indices of the
joints that were filled in without a peak of their own. The server's format has no such key, so it is written on request only.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from duopose.errors import UserError
from duopose.files import paused_garbage_collection, read_json, write_atomically
from duopose.types import ImageResult, Poses

PERSON_CATEGORY = 1
# Thousandths of a pixel halve the file and change none of the ten numbers on the reference detections nor on 100,000 random
# ones; hundredths changed the sixth digit there. Joint scores are confidences, which six decimals tell apart.
POSITION_DECIMALS = 3
SCORE_DECIMALS = 6
STEPS = np.array(
    [10.0**POSITION_DECIMALS, 10.0**POSITION_DECIMALS, 10.0**SCORE_DECIMALS]
)  # of x, y, score, to one
IMAGES_AT_ONCE = 64
FIELDS = ("image_id", "category_id", "keypoints", "score")

Entry = dict[str, Any]
Results = (
    str | Path | Iterable[ImageResult] | list[Entry]
)  # a results file, or people in either form


def to_entries(
    results: Iterable[ImageResult], with_filled: bool = False, as_lists: bool = True
) -> list[Entry]:
    """One entry a person, rounded as the file is; ValueError naming an image where a value is not finite.

    as_lists: keypoints as lists, which evaluators read fastest, instead of (3K,) float64 arrays, which orjson writes fastest.
    """
    with_people = [result for result in results if len(result.poses.scores)]
    if not with_people:
        return []
    keypoints = np.concatenate([result.poses.keypoints for result in with_people], dtype=np.float64)
    scores = np.concatenate([result.poses.scores for result in with_people], dtype=np.float64)
    owners = [result.image_id for result in with_people for _ in result.poses.scores]
    finite = np.isfinite(keypoints).all(axis=(1, 2)) & np.isfinite(scores)
    if not finite.all():
        raise ValueError(
            f"image {owners[int(finite.argmin())]}: a keypoint or score that was found is not finite"
        )
    keypoints = np.rint(keypoints * STEPS) / STEPS
    with paused_garbage_collection():
        flat = keypoints.reshape(len(keypoints), 3 * keypoints.shape[1])
        rows = flat.tolist() if as_lists else list(flat)
        entries: list[Entry] = [
            {"image_id": image_id, "category_id": PERSON_CATEGORY, "keypoints": row, "score": score}
            for image_id, row, score in zip(owners, rows, scores.tolist(), strict=True)
        ]
    if with_filled:
        for entry, filled in zip(
            entries, np.concatenate([result.poses.filled for result in with_people]), strict=True
        ):
            entry["filled"] = np.flatnonzero(filled).tolist()
    return entries


def write_results(
    path: str | Path, results: Iterable[ImageResult], with_filled: bool = False
) -> None:
    """Writes the results file, whole or not at all."""
    write_atomically(path, _json_parts(list(results), with_filled))


def _json_parts(results: list[ImageResult], with_filled: bool) -> Iterator[bytes]:
    """The file a few images at a time: memory that is used again is several times faster than new memory."""
    separator = b"["
    for start in range(0, len(results), IMAGES_AT_ONCE):
        entries = to_entries(results[start : start + IMAGES_AT_ONCE], with_filled, as_lists=False)
        if entries:
            yield separator + orjson.dumps(entries, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
            separator = b","
    yield b"[]" if separator == b"[" else b"]"


def write_entries(path: str | Path, entries: list[Entry]) -> None:
    """`write_results` for people that are entries already."""
    write_atomically(path, orjson.dumps(entries, option=orjson.OPT_SERIALIZE_NUMPY))


def read_entries(path: str | Path) -> list[Entry]:
    """The people of a results file; UserError where it is not one. Their fields are checked by `check_entries`."""
    content = read_json(path, "results file")
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content[:1]):
        raise UserError(
            f"results file '{path}' must hold a list of people, each with {', '.join(FIELDS)}"
        )
    return content


def check_entries(
    entries: list[Entry],
    num_keypoints: int,
    image_ids: Collection[int | str],
    where: str = "results",
) -> None:
    """UserError on the first person that has a field missing or not of numbers, a wrong keypoint count, or an unknown image."""
    length, known = 3 * num_keypoints, set(image_ids)
    number = 0
    try:
        for number, entry in enumerate(entries):
            keypoints = entry["keypoints"]
            right = (
                len(keypoints) == length
                and entry["image_id"] in known
                and entry["category_id"] == PERSON_CATEGORY
            )
            # A sum with a value that is not finite is not finite, and one with something else than numbers is a TypeError.
            if (
                not right
                or isinstance(entry["score"], bool)
                or not math.isfinite(sum(keypoints) + entry["score"])
            ):
                raise UserError(
                    f"{where}: person {number} {_what_is_wrong(entry, num_keypoints, known)}"
                )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{where}: person {number} must have {', '.join(FIELDS)}, keypoints and score being numbers, but: "
            f"{_missing(entries[number]) or error}"
        ) from error


def _missing(entry: Any) -> str:
    missing = [field for field in FIELDS if not isinstance(entry, dict) or field not in entry]
    return f"{missing} missing" if missing else ""


def _what_is_wrong(entry: Entry, num_keypoints: int, known: Collection[int | str]) -> str:
    if entry["image_id"] not in known:
        return f"is in image {entry['image_id']!r}, which the annotation file does not have; is it of another split?"
    place = f"(image {entry['image_id']})"
    if entry["category_id"] != PERSON_CATEGORY:
        return f"{place} has category_id {entry['category_id']!r}; people have {PERSON_CATEGORY}"
    if len(entry["keypoints"]) != 3 * num_keypoints:
        return (
            f"{place} has {len(entry['keypoints'])} keypoint numbers, but the skeleton has {num_keypoints} keypoints, "
            f"so there must be {3 * num_keypoints}; was the file made with another skeleton (DATASET.SKELETON)?"
        )
    if isinstance(entry["score"], bool):
        return f"{place} has the score {entry['score']}, which is no number"
    return f"{place} has a keypoint or score that is not finite"


def from_entries(entries: Iterable[Entry]) -> list[ImageResult]:
    """The people put together by image again, images in the order in which they first appear."""
    by_image: dict[int | str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_image[entry["image_id"]].append(entry)
    return [ImageResult(image_id, _poses(people)) for image_id, people in by_image.items()]


def _poses(people: list[Entry]) -> Poses:
    keypoints = np.array([person["keypoints"] for person in people], dtype=np.float64).reshape(
        len(people), -1, 3
    )
    filled = np.zeros(keypoints.shape[:2], dtype=bool)
    for row, person in zip(filled, people, strict=True):
        row[person.get("filled", [])] = True
    return Poses(
        keypoints, np.array([person["score"] for person in people], dtype=np.float64), filled
    )


def checked_entries(
    results: Results, num_keypoints: int, image_ids: Collection[int | str]
) -> list[Entry]:
    """The people of any form of results, found to be about these images and this number of keypoints (UserError)."""
    items: list[Any] = read_entries(results) if isinstance(results, (str, Path)) else list(results)
    entries = to_entries(items) if items and isinstance(items[0], ImageResult) else items
    check_entries(entries, num_keypoints, image_ids, results_name(results))
    return entries


def results_name(results: Results) -> str:
    """How errors call these results."""
    return f"results file '{results}'" if isinstance(results, (str, Path)) else "results"
