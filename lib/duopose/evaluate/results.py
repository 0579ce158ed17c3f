"""The results file: `ImageResult`s in the form the COCO server takes, and back.

One entry a person: image_id, category_id 1, keypoints [x, y, score, ...] of the skeleton's K joints in the picture frame
(0, 0, 0 where a joint was not found), score. With `with_filled` an entry has one key more, `filled`: the indices of the
joints that were filled in without a peak of their own. The server's format has no such key, so it is written on request only.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from duopose.errors import UserError
from duopose.evaluate.files import paused_garbage_collection, read_json, write_atomically
from duopose.types import ImageResult, Poses

PERSON_CATEGORY = 1
# Thousandths of a pixel halve the file and change none of the ten numbers on the reference detections nor on 100,000 random
# ones; hundredths changed the sixth digit there. Joint scores are confidences, which six decimals tell apart.
POSITION_DECIMALS = 3
SCORE_DECIMALS = 6
FIELDS = ("image_id", "category_id", "keypoints", "score")

Entry = dict[str, Any]
Results = str | Path | Iterable[ImageResult] | list[Entry]  # a results file, or people in either form


def to_entries(results: Iterable[ImageResult], with_filled: bool = False) -> list[Entry]:
    """One entry a person, keypoints as (3K,) float64 arrays, rounded as the file is; ValueError where a value is not finite."""
    entries: list[Entry] = []
    for result in results:
        entries += _picture_entries(result, with_filled)
    return entries


def _picture_entries(result: ImageResult, with_filled: bool) -> list[Entry]:
    poses = result.poses
    keypoints = np.array(poses.keypoints, dtype=np.float64)
    scores = np.asarray(poses.scores, dtype=np.float64)
    if not (np.isfinite(keypoints).all() and np.isfinite(scores).all()):
        raise ValueError(f"picture {result.image_id}: a keypoint or score that was found is not finite")
    keypoints[..., :2] = np.round(keypoints[..., :2], POSITION_DECIMALS)
    keypoints[..., 2] = np.round(keypoints[..., 2], SCORE_DECIMALS)
    rows = keypoints.reshape(len(keypoints), 3 * keypoints.shape[1])
    entries: list[Entry] = [
        {"image_id": result.image_id, "category_id": PERSON_CATEGORY, "keypoints": row, "score": score}
        for row, score in zip(rows, scores.tolist(), strict=True)
    ]
    if with_filled:
        for entry, filled in zip(entries, poses.filled, strict=True):
            entry["filled"] = np.flatnonzero(filled).tolist()
    return entries


def write_results(path: str | Path, results: Iterable[ImageResult], with_filled: bool = False) -> None:
    """Writes the results file, whole or not at all."""
    write_entries(path, to_entries(results, with_filled))


def write_entries(path: str | Path, entries: list[Entry]) -> None:
    """`write_results` for people that are entries already."""
    write_atomically(path, orjson.dumps(entries, option=orjson.OPT_SERIALIZE_NUMPY))


def read_entries(path: str | Path) -> list[Entry]:
    """The people of a results file; UserError where it is not one. Their fields are checked by `check_entries`."""
    content = read_json(path, "results file")
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content[:1]):
        raise UserError(f"results file '{path}' must hold a list of people, each with {', '.join(FIELDS)}")
    return content


def check_entries(entries: list[Entry], num_keypoints: int, image_ids: Collection[int | str], where: str = "results") -> None:
    """UserError on the first person that has a field missing or of another kind, a wrong keypoint count, or an unknown picture."""
    length, known = 3 * num_keypoints, image_ids if isinstance(image_ids, (set, frozenset)) else set(image_ids)
    try:
        for number, entry in enumerate(entries):
            if len(entry["keypoints"]) != length or entry["image_id"] not in known or entry["category_id"] != PERSON_CATEGORY:
                raise UserError(f"{where}: person {number} {_what_is_wrong(entry, num_keypoints, known)}")
        _check_numbers(entries, length, where)
    except (KeyError, TypeError) as error:
        raise UserError(f"{where}: person {number} must have {', '.join(FIELDS)}, but: {_missing(entry) or error}") from error


def _missing(entry: Any) -> str:
    return f"{[field for field in FIELDS if field not in entry]} missing" if isinstance(entry, dict) else f"it is {entry!r}"


def _what_is_wrong(entry: Entry, num_keypoints: int, known: Collection[int | str]) -> str:
    if entry["image_id"] not in known:
        return f"is in picture {entry['image_id']!r}, which the annotation file does not have; is it of another split?"
    if entry["category_id"] != PERSON_CATEGORY:
        return f"(picture {entry['image_id']}) has category_id {entry['category_id']!r}; people have {PERSON_CATEGORY}"
    return (
        f"(picture {entry['image_id']}) has {len(entry['keypoints'])} keypoint numbers, but the skeleton has {num_keypoints} keypoints, "
        f"so there must be {3 * num_keypoints}; was the file made with another skeleton (DATASET.SKELETON)?"
    )


def _check_numbers(entries: list[Entry], length: int, where: str) -> None:
    flat = itertools.chain.from_iterable(entry["keypoints"] for entry in entries)
    try:
        keypoints = np.fromiter(flat, dtype=np.float64, count=length * len(entries))
        scores = np.fromiter((entry["score"] for entry in entries), dtype=np.float64, count=len(entries))
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: keypoints and scores must be numbers ({error})") from error
    wrong = ~(np.isfinite(keypoints).reshape(len(entries), length).all(axis=1) & np.isfinite(scores))
    if wrong.any():
        number = int(np.argmax(wrong))
        raise UserError(f"{where}: person {number} (picture {entries[number]['image_id']}) has a keypoint or score that is not finite")


def from_entries(entries: Iterable[Entry]) -> list[ImageResult]:
    """The people put together by picture again, pictures in the order in which they first appear."""
    by_picture: dict[int | str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_picture[entry["image_id"]].append(entry)
    return [ImageResult(image_id, _poses(people)) for image_id, people in by_picture.items()]


def _poses(people: list[Entry]) -> Poses:
    keypoints = np.array([person["keypoints"] for person in people], dtype=np.float64).reshape(len(people), -1, 3)
    filled = np.zeros(keypoints.shape[:2], dtype=bool)
    for row, person in zip(filled, people, strict=True):
        row[person.get("filled", [])] = True
    return Poses(keypoints, np.array([person["score"] for person in people], dtype=np.float64), filled)


def as_entries(results: Results) -> list[Entry]:
    """The people of a results file, of `ImageResult`s, or of entries as they are."""
    if isinstance(results, (str, Path)):
        return read_entries(results)
    items = list(results)
    if items and isinstance(items[0], ImageResult):
        with paused_garbage_collection():
            return to_entries(items)  # type: ignore[arg-type]
    return items  # type: ignore[return-value]
