"""The files of a prediction: one COCO-style json and, on request, one csv, written as they grow.

    {"info": {...}, "categories": [...],
     "images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}, ...],
     "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "keypoints": [x, y, score, ...],
                      "score": 0.9, "num_keypoints": 15, "bbox": [x, y, w, h], "area": 9.5,
                      "iscrowd": 0, "filled": [3], "sigma": [...], "track_id": 2}, ...]}

Frames of a video are images of their own, with `frame` (from 0) and `seconds`. Records go to the
disk at once, so that memory stays the same however long a video is.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import orjson

import duopose
from duopose.datasets.annotations import person_category_record
from duopose.errors import UserError
from duopose.files import write_atomically
from duopose.inference.model import People
from duopose.skeletons import Skeleton

CHUNK_BYTES = 1 << 20
JSON_NAME = "predictions.json"
CSV_NAME = "predictions.csv"
SIGMA_DECIMALS = 3


class PredictionFiles:
    """Collects images and people; the json is complete after `close`."""

    def __init__(self, folder: Path, skeleton: Skeleton, with_csv: bool = False) -> None:
        self.json = folder / JSON_NAME
        self.csv = folder / CSV_NAME if with_csv else None
        self.num_images = 0  # frames of videos included
        self.num_frames = 0
        self.num_people = 0
        self._skeleton = skeleton
        self._images = _Records(folder / f".images.{os.getpid()}.tmp")
        self._people = _Records(folder / f".people.{os.getpid()}.tmp")
        self._table: TextIO | None = None
        if self.csv is not None:
            self.csv.unlink(missing_ok=True)  # a link of that name must not be followed
            self._table = self.csv.open("x", newline="", encoding="utf-8")
            csv.writer(self._table).writerow(_columns(skeleton))

    def add(
        self,
        people: People,
        file_name: str,
        size: tuple[int, int],
        frame: int | None = None,
        seconds: float | None = None,
    ) -> None:
        """Add one image or frame; size: width, height."""
        self.num_images += 1
        image_id = self.num_images
        image: dict[str, Any] = {"id": image_id, "file_name": file_name}
        image |= {"width": size[0], "height": size[1]}
        if frame is not None:
            self.num_frames += 1
            image |= {"frame": frame, "seconds": round(seconds or 0.0, 4)}
        self._images.add(image)

        for person, entry in enumerate(people.to_coco(image_id)):
            self.num_people += 1
            record = {"id": self.num_people, **entry, **_extra_fields(people, person)}
            self._people.add(record)
            if self._table is not None:
                row = _row(people, person, record, image)
                csv.writer(self._table).writerow(row)

    def close(self, info: dict[str, Any]) -> None:
        """Write the json; info: what made it."""
        if self._table is not None:
            self._table.close()
        head = {
            "info": {"duopose": duopose.__version__, **info},
            "categories": [person_category_record(self._skeleton)],
        }
        write_atomically(self.json, self._parts(orjson.dumps(head)[1:-1]))
        self._images.remove()
        self._people.remove()

    def discard(self) -> None:
        """Remove everything: nothing could be read."""
        if self._table is not None:
            self._table.close()
        self._images.remove()
        self._people.remove()
        if self.csv is not None:
            self.csv.unlink(missing_ok=True)

    def _parts(self, head: bytes) -> Iterator[bytes]:
        yield b"{" + head + b',\n"images": [\n'
        yield from self._images.chunks()
        yield b'\n],\n"annotations": [\n'
        yield from self._people.chunks()
        yield b"\n]}\n"


class _Records:
    """Json records in a temporary file, separated by commas."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        self._file = path.open("xb")
        self._separator = b""

    def add(self, record: dict[str, Any]) -> None:
        self._file.write(self._separator + orjson.dumps(record))
        self._separator = b",\n"

    def chunks(self) -> Iterator[bytes]:
        self._file.close()
        with self._path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def remove(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


def make_output_folder(folder: Path) -> None:
    """UserError where files cannot be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".trial.{os.getpid()}.tmp"
        trial.touch()
        trial.unlink()
    except OSError as error:
        reason = (error.strerror or "not permitted").lower()
        raise UserError(
            f"the output folder '{folder}' cannot be written ({reason}); "
            "name another one (--out FOLDER)"
        ) from error


def free_folder(parent: Path, name: str) -> Path:
    """parent/name, or parent/name-2, name-3 ..., whichever does not exist yet."""
    folder = parent / name
    number = 1
    while folder.exists():
        number += 1
        folder = parent / f"{name}-{number}"
    return folder


def _extra_fields(people: People, person: int) -> dict[str, Any]:
    """What a COCO annotation has besides the fields of a result, and what only Duopose knows."""
    keypoints = people.keypoints[person]
    found = keypoints[:, 2] > 0
    points = keypoints[found, :2]
    box = [0.0, 0.0, 0.0, 0.0]
    if len(points):
        corner = points.min(axis=0)
        size = points.max(axis=0) - corner
        box = np.round([*corner, *size], 2).tolist()

    fields: dict[str, Any] = {"num_keypoints": int(found.sum()), "bbox": box}
    fields |= {"area": round(box[2] * box[3], 2), "iscrowd": 0}
    fields["filled"] = np.flatnonzero(people.filled[person]).tolist()
    if people.sigma is not None:
        fields["sigma"] = np.round(people.sigma[person], SIGMA_DECIMALS).tolist()
    if people.track_ids is not None:
        fields["track_id"] = int(people.track_ids[person])
    return fields


def _columns(skeleton: Skeleton) -> list[str]:
    """Names of the columns of the csv: one row a person."""
    values = ("x", "y", "score", "sigma")
    joints = [f"{name}_{value}" for name in skeleton.keypoints for value in values]
    return ["image_id", "file_name", "frame", "seconds", "person", "track_id", "score", *joints]


def _row(
    people: People, person: int, record: dict[str, Any], image: dict[str, Any]
) -> Iterable[Any]:
    """A row; cells of joints that were not found are empty."""
    yield from (image["id"], image["file_name"], image.get("frame", ""), image.get("seconds", ""))
    yield from (person, record.get("track_id", ""), round(record["score"], 6))

    sigma = record.get("sigma", [""] * len(people.names))
    flat = record["keypoints"]
    for joint in range(len(people.names)):
        x, y, score = flat[3 * joint : 3 * joint + 3]
        yield from (x, y, score, sigma[joint]) if score > 0 else ("", "", "", "")
