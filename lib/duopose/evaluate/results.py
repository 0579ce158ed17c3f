"""The results file: `ImageResult`s in the form that the COCO server takes, and back.

One entry a person: image_id, category_id 1, keypoints [x, y, score, ...] of the skeleton's K joints
in the image frame (0, 0, 0 where a joint was not found), and score. With `with_filled` an entry has
one key more, `filled`: the indices of the joints that were filled in without a peak of their own;
with `with_sigma`, and a calibrated model, the key `sigma`: the standard deviation of each joint in
pixels. The server's format has no such keys, so they are written on request only.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
import numpy as np
import orjson

from duopose.annotation_types import MAX_KEYPOINTS, Id
from duopose.errors import UserError
from duopose.files import paused_garbage_collection, write_atomically
from duopose.json_files import MAX_MEMORY, read_typed_json
from duopose.types import ImageResult, Poses

FIELDS = ("image_id", "category_id", "keypoints", "score")  # of an entry
PERSON_CATEGORY = 1  # COCO's category id of people

# Thousandths of a pixel halve the file and change none of the ten COCO numbers, neither on the
# reference detections nor on 100,000 random ones; hundredths changed the sixth digit there.
POSITION_DECIMALS = 3
# Joint scores are confidences from 0 to 1, which six decimals keep apart.
SCORE_DECIMALS = 6
ROUNDING = 10.0 ** np.array([POSITION_DECIMALS, POSITION_DECIMALS, SCORE_DECIMALS])
# Images written in one part. Memory that is used again is several times faster than new memory;
# this many keep a part small.
IMAGES_PER_PART = 64

Entry = dict[str, Any]  # one person, with FIELDS


class _EntryFields(TypedDict, total=False):
    """What is read of an entry; `check_entries` reports missing fields."""

    image_id: Id
    category_id: int
    keypoints: Annotated[list[float], msgspec.Meta(max_length=3 * MAX_KEYPOINTS)]
    score: float
    filled: list[Annotated[int, msgspec.Meta(ge=0, lt=MAX_KEYPOINTS)]]
    sigma: list[float]


FORMAT_NAME = f"COCO's results format, a list of people with {', '.join(FIELDS)}"
_DECODER = msgspec.json.Decoder(list[_EntryFields])


class EntriesOfFile(list[Entry]):
    """The people of a results file, which remembers its name for messages."""

    path: Path = Path()


# A results file, or people in either form.
Results = str | Path | Iterable[ImageResult] | list[Entry]


def to_entries(
    results: Iterable[ImageResult],
    with_filled: bool = False,
    as_lists: bool = True,
    with_sigma: bool = False,
) -> list[Entry]:
    """One entry a person, rounded as in the file.

    as_lists: keypoints as lists, which evaluators read fastest, instead of (3K,) float64 arrays,
    which orjson writes fastest. ValueError naming an image where a value is not finite.
    """
    with_people = [result for result in results if len(result.poses.scores)]
    if not with_people:
        return []

    poses = [result.poses for result in with_people]
    keypoints = np.concatenate([one.keypoints for one in poses], dtype=np.float64)
    scores = np.concatenate([one.scores for one in poses], dtype=np.float64)
    image_ids = [result.image_id for result in with_people for _ in result.poses.scores]

    finite = np.isfinite(keypoints).all(axis=(1, 2)) & np.isfinite(scores)
    if not finite.all():
        image_id = image_ids[int(finite.argmin())]
        raise ValueError(f"image {image_id}: a keypoint or score that was found is not finite")

    rounded = np.rint(keypoints * ROUNDING) / ROUNDING
    flat = rounded.reshape(len(rounded), 3 * rounded.shape[1])
    with paused_garbage_collection():
        rows = flat.tolist() if as_lists else list(flat)
        entries: list[Entry] = [
            {"image_id": image_id, "category_id": PERSON_CATEGORY, "keypoints": row, "score": score}
            for image_id, row, score in zip(image_ids, rows, scores.tolist(), strict=True)
        ]

    if with_filled:
        filled = np.concatenate([one.filled for one in poses])
        for entry, of_person in zip(entries, filled, strict=True):
            entry["filled"] = np.flatnonzero(of_person).tolist()
    if with_sigma:
        _add_sigma(entries, poses)
    return entries


def _add_sigma(entries: list[Entry], poses: list[Poses]) -> None:
    """Add the key `sigma`, where all people have one."""
    stated = [one.sigma for one in poses if one.sigma is not None]
    if len(stated) < len(poses):
        return
    factor = 10.0**POSITION_DECIMALS
    rounded = np.rint(np.concatenate(stated, dtype=np.float64) * factor) / factor
    for entry, of_person in zip(entries, rounded.tolist(), strict=True):
        entry["sigma"] = of_person


def write_results(
    path: str | Path,
    results: Iterable[ImageResult],
    with_filled: bool = False,
    with_sigma: bool = False,
) -> None:
    """Write the results file, completely or not at all."""
    write_atomically(path, _json_parts(list(results), with_filled, with_sigma))


def _json_parts(results: list[ImageResult], with_filled: bool, with_sigma: bool) -> Iterator[bytes]:
    """The bytes of the file, some images at a time."""
    separator = b"["
    for start in range(0, len(results), IMAGES_PER_PART):
        part = results[start : start + IMAGES_PER_PART]
        entries = to_entries(part, with_filled, as_lists=False, with_sigma=with_sigma)
        if entries:
            text = orjson.dumps(entries, option=orjson.OPT_SERIALIZE_NUMPY)
            yield separator + text[1:-1]  # without the brackets of the part
            separator = b","

    is_empty = separator == b"["
    yield b"[]" if is_empty else b"]"


def write_entries(path: str | Path, entries: list[Entry]) -> None:
    """`write_results` for people that are entries already."""
    write_atomically(path, orjson.dumps(entries, option=orjson.OPT_SERIALIZE_NUMPY))


def check_results_file(path: str | Path) -> None:
    """UserError, naming the tool that writes it, where there is no such file."""
    if not Path(path).exists():
        raise UserError(
            f"results file '{path}' does not exist; tools/valid.py --cfg FILE.yaml writes "
            "results.json into results/ of the run folder"
        )


def read_entries(path: str | Path, max_memory: int = MAX_MEMORY) -> EntriesOfFile:
    """The people of a results file; other fields than FIELDS, `filled` and `sigma` are left out.

    UserError where it is not a list of records, or a field has another type; `check_entries`
    checks the values. max_memory: bytes, see `json_files.read_json`.
    """
    check_results_file(path)
    content = read_typed_json(path, "results file", _DECODER, max_memory, FORMAT_NAME)
    entries = EntriesOfFile(content)
    entries.path = Path(path)
    return entries


def checked_entries(
    results: Results,
    num_keypoints: int,
    image_ids: Collection[int | str],
    max_memory: int = MAX_MEMORY,
) -> list[Entry]:
    """The people of any form of results, checked by `check_entries`. max_memory: of a file."""
    entries = as_entries(results, max_memory)
    check_entries(entries, num_keypoints, image_ids, results_name(results))
    return entries


def as_entries(results: Results, max_memory: int = MAX_MEMORY) -> list[Entry]:
    """The people of any form of results, not checked yet. max_memory: of a file."""
    if isinstance(results, (str, Path)):
        return read_entries(results, max_memory)
    if isinstance(results, EntriesOfFile):
        return results
    items: list[Any] = list(results)
    return to_entries(items) if items and isinstance(items[0], ImageResult) else items


def results_name(results: Results) -> str:
    """Name of the results in error messages."""
    path = results.path if isinstance(results, EntriesOfFile) else results
    return f"results file '{path}'" if isinstance(path, (str, Path)) else "results"


def check_entries(
    entries: list[Entry],
    num_keypoints: int,
    image_ids: Collection[int | str],
    name: str = "results",
) -> None:
    """UserError naming the first person that cannot be scored, and why.

    Every entry must have all FIELDS, 3 * num_keypoints finite numbers as keypoints, a finite number
    as score, and an image of `image_ids`. `name` is used in the message.
    """
    known = set(image_ids)
    number = 0
    try:
        for number, entry in enumerate(entries):
            if not _is_valid(entry, 3 * num_keypoints, known):
                problem = _describe_problem(entry, num_keypoints, known)
                raise UserError(f"{name}: person {number} {problem}")
    except (KeyError, TypeError) as error:
        missing = [field for field in FIELDS if field not in entries[number]]
        problem = f"{missing} missing" if missing else str(error)
        raise UserError(
            f"{name}: person {number} must have {', '.join(FIELDS)}, keypoints and score being "
            f"numbers, but: {problem}"
        ) from error


def _is_valid(entry: Entry, length: int, known: set[int | str]) -> bool:
    """Whether an entry can be scored; KeyError or TypeError for missing fields or no numbers.

    The sum is finite only if all values are, and a TypeError if one is not a number; this is faster
    than to check them one by one.
    """
    keypoints = entry["keypoints"]
    score = entry["score"]
    return (
        len(keypoints) == length
        and entry["image_id"] in known
        and entry["category_id"] == PERSON_CATEGORY
        and not isinstance(score, bool)
        and math.isfinite(sum(keypoints) + score)
    )


def _describe_problem(entry: Entry, num_keypoints: int, known: set[int | str]) -> str:
    """Why `_is_valid` is False, as the end of a sentence."""
    image_id = entry["image_id"]
    if image_id not in known:
        return (
            f"is in image {image_id!r}, which the annotation file does not have; "
            "is it of another split?"
        )

    person = f"(image {image_id})"
    if entry["category_id"] != PERSON_CATEGORY:
        return f"{person} has category_id {entry['category_id']!r}; people have {PERSON_CATEGORY}"
    if len(entry["keypoints"]) != 3 * num_keypoints:
        return (
            f"{person} has {len(entry['keypoints'])} keypoint numbers, but the skeleton has "
            f"{num_keypoints} keypoints, so there must be {3 * num_keypoints}; was the file made "
            "with another skeleton (DATASET.SKELETON)?"
        )
    if isinstance(entry["score"], bool):
        return f"{person} has the score {entry['score']}, which is not a number"
    return f"{person} has a keypoint or score that is not finite"


def from_entries(entries: Iterable[Entry]) -> list[ImageResult]:
    """The people collected by image, images in the order of their first person."""
    by_image: dict[int | str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_image[entry["image_id"]].append(entry)
    return [ImageResult(image_id, _poses(people)) for image_id, people in by_image.items()]


def _poses(people: list[Entry]) -> Poses:
    flat = np.array([person["keypoints"] for person in people], dtype=np.float64)
    keypoints = flat.reshape(len(people), -1, 3)
    scores = np.array([person["score"] for person in people], dtype=np.float64)

    filled = np.zeros(keypoints.shape[:2], dtype=bool)
    for row, person in zip(filled, people, strict=True):
        joints = [joint for joint in person.get("filled", ()) if joint < len(row)]
        row[joints] = True

    sigma = None
    if all(len(person.get("sigma", ())) == keypoints.shape[1] for person in people):
        sigma = np.array([person["sigma"] for person in people], dtype=np.float64)
    return Poses(keypoints, scores, filled, sigma)
