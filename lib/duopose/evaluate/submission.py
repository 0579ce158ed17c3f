"""Results of a split without public ground truth, checked and packed for the benchmark's server.

All writers have the same form (`SubmissionWriter`), so that each benchmark's record names one.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson
import scipy.io

from duopose.coco_annotations import Record
from duopose.errors import UserError
from duopose.evaluate.ground_truth import open_annotations
from duopose.evaluate.mpii_groups import by_image, scored_indices
from duopose.evaluate.results import FIELDS, Entry, Results, checked_entries, write_entries
from duopose.files import write_atomically
from duopose.json_files import MAX_MEMORY
from duopose.skeleton_tables import MPII_FILE_KEYPOINTS
from duopose.skeletons import Skeleton

METHOD_NAME = "duopose"
# https://cocodataset.org/#upload: one json, in a zip of the same name.
COCO_NAME = "person_keypoints_{split}_{method}_results"
FIXED_DATE = (1980, 1, 1, 0, 0, 0)  # so that the same results give the same zip
MPII_NAME = "pred_keypoints_mpii_multi.mat"
MPII_FIRST_PIXEL = 1.0  # MATLAB counts from 1


class SubmissionWriter(Protocol):
    """Writes what the server of a benchmark takes."""

    def __call__(
        self,
        folder: str | Path,
        results: Results,
        annotations: str | Path,
        skeleton: Skeleton,
        split: str,
        *,
        max_memory: int = MAX_MEMORY,
    ) -> Path:
        """Write into `folder` and return the path of the file to upload.

        annotations: the image list of the split. max_memory: bytes that each file may need, see
        `json_files.read_json`. UserError where a person does not fit it or the
        skeleton, or a value is not a finite number.
        """
        ...


def write_coco_submission(
    folder: str | Path,
    results: Results,
    annotations: str | Path,
    skeleton: Skeleton,
    split: str,
    method: str = METHOD_NAME,
    *,
    max_memory: int = MAX_MEMORY,
) -> Path:
    """A zip with a json of the same name, see `SubmissionWriter`.

    split: the server's name, e.g. test-dev2017. method: its name on the leaderboard; UserError
    where it has characters that do not belong in a file name.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", method):
        raise UserError(
            f"a submission's name is made of letters, digits, dots, - and _, not '{method}'"
        )

    entries, _ = _entries_and_images(results, annotations, skeleton, max_memory)
    plain = [{field: entry[field] for field in FIELDS} for entry in entries]
    content = orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY)

    stem = COCO_NAME.format(split=split, method=method)
    path = Path(folder) / f"{stem}.zip"
    write_atomically(path, _zipped(f"{stem}.json", content))
    return path


def _entries_and_images(
    results: Results, annotations: str | Path, skeleton: Skeleton, max_memory: int
) -> tuple[list[Entry], list[Record]]:
    """The checked people, and the images of the split."""
    images = open_annotations(annotations, max_memory).images
    ids = {image["id"] for image in images}
    return checked_entries(results, skeleton.num_keypoints, ids, max_memory), images


def _zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name, FIXED_DATE), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def write_crowdpose_submission(
    folder: str | Path,
    results: Results,
    annotations: str | Path,
    skeleton: Skeleton,
    split: str,
    *,
    max_memory: int = MAX_MEMORY,
) -> Path:
    """CrowdPose takes a results file as it is, see `SubmissionWriter`: its path."""
    entries, _ = _entries_and_images(results, annotations, skeleton, max_memory)
    if isinstance(results, (str, Path)):
        return Path(results)

    path = Path(folder) / f"crowdpose_{split}_results.json"
    write_entries(path, entries)
    return path


def write_mpii_submission(
    folder: str | Path,
    results: Results,
    annotations: str | Path,
    skeleton: Skeleton,
    split: str,
    *,
    max_memory: int = MAX_MEMORY,
) -> Path:
    """Predictions in the form of MPII's own annotations, see `SubmissionWriter`.

    pred(i).image.name, pred(i).annorect(r).annopoints.point(k).{id, x, y, score},
    pred(i).annorect(r).score; ids in MPII's order, coordinates from 1. One entry for each image of
    the file, in its order. Every detected joint is written, pelvis and thorax too.
    """
    scored_indices(skeleton)
    entries, images = _entries_and_images(results, annotations, skeleton, max_memory)
    entries_of = by_image(entries)

    records = []
    for image in images:
        people = [_mpii_person(entry, skeleton) for entry in entries_of[image["id"]]]
        record = {"image": {"name": image["file_name"]}, "annorect": _struct_array(people)}
        records.append(record)

    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"pred": _struct_array(records)}, do_compression=True)
    path = Path(folder) / MPII_NAME
    write_atomically(path, buffer.getvalue())
    return path


def _mpii_person(entry: Entry, skeleton: Skeleton) -> dict[str, Any]:
    """One `annorect`."""
    keypoints = np.array(entry["keypoints"], dtype=np.float64).reshape(-1, 3)
    points = []
    for joint_id, name in enumerate(MPII_FILE_KEYPOINTS):
        if name not in skeleton.keypoints:
            continue
        x, y, score = keypoints[skeleton.index(name)]
        if score > 0:
            point = {"id": joint_id, "x": x + MPII_FIRST_PIXEL, "y": y + MPII_FIRST_PIXEL}
            points.append(point | {"score": score})
    return {"annopoints": {"point": _struct_array(points)}, "score": entry["score"]}


def _struct_array(items: list[dict[str, Any]]) -> np.ndarray:
    """(1, n) MATLAB struct array of dictionaries with the same keys; 0 x 0 where there are none."""
    if not items:
        return np.zeros((0, 0))

    array = np.empty((1, len(items)), dtype=[(name, object) for name in items[0]])
    for struct, item in zip(array[0], items, strict=True):
        for name, value in item.items():
            struct[name] = value
    return array
