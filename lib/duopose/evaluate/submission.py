"""Results of a split without truth, checked and packed as the COCO server takes them."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import orjson

from duopose.errors import UserError
from duopose.evaluate.results import FIELDS, Results, checked_entries
from duopose.files import read_json, write_atomically
from duopose.skeletons import Skeleton

# https://cocodataset.org/#upload: one json, named person_keypoints_[testset]_[alg]_results.json, in a zip of the same name.
NAME = "person_keypoints_{split}_{name}_results"
A_FIXED_MOMENT = (1980, 1, 1, 0, 0, 0)  # the same results give the same zip


def write_submission(
    folder: str | Path,
    results: Results,
    annotations: str | Path,
    skeleton: Skeleton,
    split: str,
    name: str,
) -> Path:
    """Writes the zip for the server into `folder` and gives its path.

    annotations: the split's image list (image_info_test-dev2017.json). split: as the server calls it, e.g. test-dev2017.
    name: of the method, for the leaderboard. UserError where an image is unknown, a person has not 17 keypoints, a value
    is no finite number, or the name has characters that do not belong into a file name.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", name.replace("_", "-")):
        raise UserError(
            f"a submission's name is made of letters, digits, dots, - and _, not '{name}'"
        )
    content = read_json(annotations, "image list")
    if not isinstance(content, dict) or "images" not in content:
        raise UserError(f"image list '{annotations}' is not in COCO format: ['images'] missing")
    entries = checked_entries(
        results, skeleton.num_keypoints, {image["id"] for image in content["images"]}
    )
    plain = [{field: entry[field] for field in FIELDS} for entry in entries]
    stem = NAME.format(split=split, name=name)
    path = Path(folder) / f"{stem}.zip"
    write_atomically(
        path, _zipped(f"{stem}.json", orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY))
    )
    return path


def _zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name, A_FIXED_MOMENT), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
