"""The finished images of an evaluation that was killed, from which the next one goes on.

Each rank appends a line per image to its own file in the folder of the results. The first line of a
file is a key: the checksum of everything on which a result depends. Files with another key are
removed. A line begins with its own checksum, since the last one may be incomplete.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import orjson

from duopose.files import write_atomically
from duopose.regular_files import open_own, open_to_append
from duopose.types import ImageResult, Poses

PATTERN = "unfinished_*.jsonl"
MAX_LINE = 64 * 2**20  # bytes; an image with a hundred people has 150 kB
NUMBER_TYPES = ("float32", "float64", "bool", "int64")


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
        with suppress(OSError), open_own(file) as lines:
            count += max(sum(1 for line in _lines_of(lines)) - 1, 0)
    return count


class UnfinishedFile:
    """The file of one rank; a context manager."""

    def __init__(self, folder: Path, key: str, rank: int) -> None:
        path = _file(folder, rank)
        # Without a buffer: what was written survives a killed process.
        self._file = os.fdopen(open_to_append(path), "ab", buffering=0)
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
    results: list[ImageResult] = []
    with suppress(OSError), open_own(file) as content:
        lines = _lines_of(content)
        if _content(next(lines, b"")) != key:
            return []
        for line in lines:
            result = _result(_content(line))
            if result is None:
                break
            results.append(result)
    return results


def _lines_of(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, up to one that is longer than any of ours."""
    while line := file.readline(MAX_LINE):
        yield line
        if len(line) == MAX_LINE:
            return


def _content(line: bytes) -> Any:
    """What a line holds, None where it is not whole."""
    checksum, _, content = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(content):
        return None
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _result(content: Any) -> ImageResult | None:
    """The result in a line, None where it is of another form."""
    try:
        image_id, *arrays = content
        keypoints, scores, filled, sigma = (_array(values) for values in arrays)
    except (TypeError, ValueError, OverflowError):
        return None
    if keypoints is None or scores is None or filled is None:
        return None
    if not isinstance(image_id, int | str) or keypoints.shape[:2] != filled.shape:
        return None
    if keypoints.shape[2:] != (3,) or scores.shape != keypoints.shape[:1]:
        return None
    if sigma is not None and sigma.shape != filled.shape:
        return None
    return ImageResult(image_id, Poses(keypoints, scores, filled, sigma))


def _array(values: Any) -> np.ndarray | None:
    if values is None:
        return None
    dtype, shape, flat = values
    if dtype not in NUMBER_TYPES:
        raise ValueError(f"{dtype} is no type of number here")
    array = np.array(flat, dtype=dtype).reshape(shape)
    if not np.isfinite(array).all():
        raise ValueError("a value that is too large")
    return array
