"""Names of the files beside an ONNX file that hold its weights, without a library for ONNX.

The file is walked along the fields of onnx.proto that can hold tensors; their values are skipped,
so that this takes milliseconds. https://protobuf.dev/programming-guides/encoding/ describes the
encoding: each field is a number with a kind, and a value.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from duopose.regular_files import open_regular

# Fields of onnx.proto that lead to tensors: message -> number of a field -> message in it.
_FIELDS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY = 1  # of an entry
_VALUE = 2
_LOCATION = b"location"
MAX_DEPTH = 60  # of messages in each other; a graph in a node is three
MAX_FIELDS = 5_000_000  # of the messages above; ours have 20,000

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5  # kinds of fields
_SIZES = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}


class DamagedOnnxFile(ValueError):
    """The file is no ONNX file, or damaged."""


def external_locations(path: Path, max_bytes: int) -> list[str]:
    """The names of the files of weights, as the file states them, each once.

    OSError where the file cannot be opened or is larger. DamagedOnnxFile where it is no ONNX file.
    """
    with open_regular(path, max_bytes) as file:
        size = file.seek(0, 2)
        if not size:
            raise DamagedOnnxFile("it is empty")
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
            return list(dict.fromkeys(_Walker(content).locations()))


class _Walker:
    """Walks through one file."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content = content
        self.num_fields = 0

    def locations(self) -> Iterator[str]:
        """The locations of all tensors."""
        yield from self._message("model", 0, len(self.content), 0)

    def _message(self, kind: str, start: int, end: int, depth: int) -> Iterator[str]:
        if depth > MAX_DEPTH:
            raise DamagedOnnxFile("its graphs are too deep in each other")
        key = value = b""
        for number, first, last in self._fields(start, end):
            if kind == "entry":
                key = self.content[first:last] if number == _KEY else key
                value = self.content[first:last] if number == _VALUE else value
                continue
            inner = _FIELDS[kind].get(number)
            if inner is not None:
                yield from self._message(inner, first, last, depth + 1)
        if key == _LOCATION:
            yield value.decode(errors="replace")

    def _fields(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Number, start and end of the fields with a length; the others are skipped."""
        position = start
        while position < end:
            self.num_fields += 1
            if self.num_fields > MAX_FIELDS:
                raise DamagedOnnxFile(f"it has more than {MAX_FIELDS} fields")
            tag, position = self._number(position, end)
            kind = tag & 7
            if kind == _LENGTH:
                length, position = self._number(position, end)
                if length > end - position:
                    raise DamagedOnnxFile("a part is missing")
                yield tag >> 3, position, position + length
                position += length
            elif kind == _VARINT:
                _, position = self._number(position, end)
            elif kind in _SIZES:
                position += _SIZES[kind]
            else:
                raise DamagedOnnxFile(f"a field at byte {position} has the kind {kind}")

    def _number(self, position: int, end: int) -> tuple[int, int]:
        """A number of variable length, and where it ends."""
        value = 0
        for shift in range(0, 70, 7):
            if position >= end:
                break
            byte = self.content[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
        raise DamagedOnnxFile("a number does not end")
