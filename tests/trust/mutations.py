"""Broken forms of a valid file: values replaced, removed, repeated; bytes changed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

DEEP: Any = []
for _ in range(100):
    DEEP = [DEEP]

# Values that have broken readers: of other types, at the limits, far beyond them.
ODD_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 1.5, -0.5, 1e-300, 1e300, -1e300, 1e8, -1e8, 3e7, 2**31,
    -(2**31), 2**32, 2**63, 2**64, 10**30, "", "a", "1", "person", "../../a", "a\nb", "\0",
    "x" * 5000, [], [0], [None], [[]], [1, 2, 3], [1, 2, 3, 4], [[0, 0, 1e8, 0, 5, 5]],
    [[1, 2, 3]], ["a"] * 6, [-1] * 51, [0] * 51, [1e300] * 51, {}, {"a": 1}, DEEP,
    {"size": [60, 80], "counts": "04"}, {"size": [60000, 60000], "counts": [0]},
    {"size": [2**31, 2**31], "counts": "a"},
]  # fmt: skip

changes = st.lists(
    st.tuples(
        st.integers(0, 2**32 - 1),  # which value of the file
        st.sampled_from(("replace", "replace", "replace", "remove", "repeat")),
        st.sampled_from(ODD_VALUES)
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=5),
    ),
    min_size=1,
    max_size=3,
)
byte_changes = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=3)), min_size=1, max_size=3
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in nested lists and mappings."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, child in value.items():
            yield from places(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from places(child, (*path, index))


def changed(content: Any, edits: list[tuple[int, str, Any]]) -> Any:
    """A copy with the edits of `changes`."""
    content = copy.deepcopy(content)
    for number, what, value in edits:
        found = [path for path in places(content) if len(path) < 20]
        if not found:
            return value
        *parents, last = found[number % len(found)]
        parent = content
        for key in parents:
            parent = parent[key]
        if what == "remove":
            del parent[last]
        elif what == "repeat" and isinstance(parent, list):
            parent.insert(last, copy.deepcopy(parent[last]))
        else:
            parent[last] = copy.deepcopy(value)
    return content


def changed_bytes(text: bytes, edits: list[tuple[int, bytes]]) -> bytes:
    """The text with some bytes replaced or cut away."""
    for number, replacement in edits:
        position = number % (len(text) + 1)
        text = text[:position] + replacement + text[position + 1 :]
    return text


def as_text(content: Any) -> bytes:
    """Json text of any content that Python writes."""
    return json.dumps(content).encode()
