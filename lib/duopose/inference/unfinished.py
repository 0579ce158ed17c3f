"""The finished images of an evaluation that was killed, from which the next one goes on.

Each rank appends a line per image to its own file in the folder of the results. The first line of a
file is a key: the checksum of everything on which a result depends. Files with another key are
removed. A line begins with its own checksum, since the last one may be incomplete.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import orjson

from duopose.files import write_atomically
from duopose.types import ImageResult, Poses

PATTERN = "unfinished_*.jsonl"


def key_of(record: Mapping[str, Any]) -> str:
    """The checksum of an evaluation: its protocol and its data."""
    text = json.dumps(record, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def take_over(folder: Path, key: str) -> list[ImageResult]:
    """The finished images of an interrupted evaluation with this key.

    Afterwards they are in the file of rank 0, and there is no other file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(folder.glob(PATTERN))
    finished: dict[int | str, ImageResult] = {}
    for file in files:
        finished.update((result.image_id, result) for result in _read(file, key))

    own = _file(folder, 0)
    write_atomically(own, _lines(key, finished.values()))
    for file in files:
        if file != own:
            file.unlink(missing_ok=True)
    return list(finished.values())


def remove(folder: Path) -> None:
    """Remove the files: the evaluation is complete."""
    for file in folder.glob(PATTERN):
        file.unlink(missing_ok=True)


def count_finished(folder: Path) -> int:
    """Images in the files, without reading them in full."""
    count = 0
    for file in folder.glob(PATTERN):
        count += max(file.read_bytes().count(b"\n") - 1, 0)
    return count


class UnfinishedFile:
    """The file of one rank; a context manager."""

    def __init__(self, folder: Path, key: str, rank: int) -> None:
        path = _file(folder, rank)
        self._file = path.open("ab", buffering=0)  # what was written survives a killed process
        if not path.stat().st_size:
            self._file.write(_line(orjson.dumps(key)))

    def append(self, result: ImageResult) -> None:
        """Add a finished image. Raises OSError, as on a full disk."""
        self._file.write(_result_line(result))

    def __enter__(self) -> UnfinishedFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


def _file(folder: Path, rank: int) -> Path:
    return folder / PATTERN.replace("*", str(rank))


def _lines(key: str, results: Iterable[ImageResult]) -> Iterable[bytes]:
    yield _line(orjson.dumps(key))
    for result in results:
        yield _result_line(result)


def _line(content: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _result_line(result: ImageResult) -> bytes:
    poses = result.poses
    arrays = (poses.keypoints, poses.scores, poses.filled, poses.sigma)
    content = [result.image_id, *(_array_values(array) for array in arrays)]
    return _line(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY))


def _array_values(array: np.ndarray | None) -> tuple[str, Sequence[int], np.ndarray] | None:
    """Type, shape and flat values; json keeps every bit of a float."""
    if array is None:
        return None
    return str(array.dtype), array.shape, np.ascontiguousarray(array).reshape(-1)


def _read(file: Path, key: str) -> list[ImageResult]:
    """The results of a file with this key, up to the first damaged line."""
    results = []
    with file.open("rb") as lines:
        if _content(lines.readline()) != key:
            return []
        for line in lines:
            content = _content(line)
            if content is None:
                break
            image_id, *arrays = content
            keypoints, scores, filled, sigma = (_array(values) for values in arrays)
            assert keypoints is not None and scores is not None and filled is not None
            results.append(ImageResult(image_id, Poses(keypoints, scores, filled, sigma)))
    return results


def _content(line: bytes) -> Any:
    """What a line holds, None where it is not whole."""
    checksum, _, content = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(content):
        return None
    return orjson.loads(content)


def _array(values: Any) -> np.ndarray | None:
    if values is None:
        return None
    dtype, shape, flat = values
    return np.array(flat, dtype=dtype).reshape(shape)
