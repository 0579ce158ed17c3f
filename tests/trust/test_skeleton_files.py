"""Hostile and broken skeletons: yaml files, and those in weight files."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from duopose.errors import UserError
from duopose.skeletons import MPII, get_skeleton, skeleton_from_dict, skeleton_to_dict

FIELDS = ("name", "keypoints", "flip_pairs", "torso", "parents", "centre_only", "sigmas", "limbs")
ODD: list[Any] = [
    5, True, "nose", [1], [[1]], [[["a"]]], {"a": "b"}, {"a": ["b"]}, {1: 2}, [None], [{"a": 1}],
    [["a", "b", "c"]], ["x" * 5000], ["a"] * 5000, [float("nan")] * 16, [float("inf")] * 16,
    [-1.0] * 16, [0.0] * 16, [10**400] * 16, ["a"] * 16, [True] * 16, b"a", object,
]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_wrong_values_name_the_skeleton(field: str) -> None:
    for value in ODD:
        content = skeleton_to_dict(MPII)
        content[field] = value
        if field == "name" and value in (5, "nose"):
            assert skeleton_from_dict(content, "x.yaml").name == str(value)
            continue
        with pytest.raises(UserError, match=r"x\.yaml|mpii|nose") as error:
            skeleton_from_dict(content, "x.yaml")
        assert len(str(error.value)) < 200_000


@pytest.mark.parametrize("content", [None, 5, [], "a", {}, {"name": "a"}, {1: 2}])
def test_what_is_no_skeleton(content: Any) -> None:
    with pytest.raises(UserError, match=r"x\.yaml"):
        skeleton_from_dict(content, "x.yaml")


def test_yaml_files(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    content = skeleton_to_dict(MPII) | {"name": "own", "sigmas": ["5e-2"] * 16}
    path.write_text(yaml.safe_dump(content))
    assert get_skeleton(str(path)).sigmas == (0.05,) * 16
    for text in ("", "a: *b", "a: &a [*a]", "[" * 1000, "name: " + "9" * 100_000, "a: !!int b"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"own\.yaml"):
            get_skeleton(str(path))


def test_a_long_chain_of_parents() -> None:
    names = [f"j{number}" for number in range(400)]
    skeleton = skeleton_from_dict(
        {
            "name": "chain", "keypoints": names, "flip_pairs": [], "torso": ["j0"],
            "parents": dict(zip(names[1:], names[:-1], strict=True)), "centre_only": [],
        },
        "x",
    )  # fmt: skip
    assert skeleton.parents_first == tuple(range(1, 400))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(FIELDS), VALUES)
def test_any_value_is_a_skeleton_or_a_user_error(field: str, value: Any) -> None:
    with contextlib.suppress(UserError):
        skeleton_from_dict(skeleton_to_dict(MPII) | {field: value}, "x.yaml").offset_layout()


@pytest.mark.parametrize("letter", ["\ud800", "\x1b", "\n", "\0"])
def test_names_that_cannot_be_drawn(tmp_path: Path, letter: str) -> None:
    path = tmp_path / "skeleton.yaml"
    text = yaml.safe_dump(skeleton_to_dict(MPII))
    escaped = f'"a\\u{ord(letter):04x}"'
    path.write_text(text.replace("head_top", escaped))
    with pytest.raises(UserError, match="without a shape"):
        get_skeleton(str(path))
