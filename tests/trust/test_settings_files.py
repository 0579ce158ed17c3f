"""Hostile and broken settings: yaml files, words of the command line, settings in weight files."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duopose.config import config_from_text, config_text, load_config, saved_settings
from duopose.config.load import flatten, parse_value
from duopose.errors import UserError
from duopose.yaml_files import parse_yaml


def bomb(levels: int) -> str:
    """Aliases of aliases: 10 ** levels values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        aliases = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} [{aliases}]")
    return "\n".join(lines)


def mapping_bomb(levels: int) -> str:
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} {{<<: [*a{level - 1}, *a{level - 1}], y{level}: 1}}")
    return "\n".join(lines)


HOSTILE: dict[str, str] = {
    "empty": "",
    "a number": "5",
    "a list": "[1, 2]",
    "text": "hello",
    "two documents": "a: 1\n---\nb: 2\n",
    "tabs": "TRAIN:\n\tLR: 1\n",
    "open bracket": "TRAIN: {LR: [1",
    "alias bomb": bomb(9),
    "merge bomb": mapping_bomb(40),
    "unknown alias": "a: *b",
    "refers to itself": "a: &a [*a]",
    "mapping in itself": "&a {b: *a}",
    "key refers to itself": "&a {*a : 1}",
    "deep": "[" * 10_000,
    "deep and closed": "a: " + "[" * 5000 + "]" * 5000,
    "deep blocks": "\n".join(" " * depth + "a:" for depth in range(500)),
    "deep by aliases": "\n".join(
        ["a0: &a0 [1]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 100))]
    ),
    "a million digits": "SEED: " + "9" * 400_000,
    "sexagesimal": "SEED: " + ":".join(["59"] * 50_000),
    "many digits in a list": "TRAIN: {LR_STEP: [" + "9" * 200 + "]}",
    "too long": "# " + "x" * 1_000_000,
    "many values": "a: [" + "1, " * 100_000 + "1]",
    "not a date": "SEED: 2024-13-45",
    "python object": "SEED: !!python/object/apply:os.system [true]",
    "python name": "SEED: !!python/name:os.system",
    "own tag": "SEED: !new 5",
    "int that is none": "SEED: !!int foo",
    "float that is none": "TRAIN: {LR: !!float foo}",
    "bool that is none": "VERBOSE: !!bool foo",
    "binary": "SEED: !!binary aGVsbG8=",
    "set": "SEED: !!set {a, b}",
    "timestamp": "SEED: !!timestamp 2001-01-01",
    "list as key": "[1, 2]: 3",
    "mapping as key": "{a: 1}: 3",
    "zero byte": "SEED: \0",
    "key twice": "SEED: 1\nSEED: 2\n",
    "section twice": "TRAIN: {LR: 0.1}\nTRAIN: {LR: 0.2}\n",
    "key and section": "TRAIN.LR: 0.1\nTRAIN: {LR: 0.2}\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml(tmp_path: Path, name: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(HOSTILE[name])
    start = time.process_time()
    for read in (load_config, saved_settings_of):
        with pytest.raises(UserError) as error:
            read(path)
        assert len(str(error.value)) < 3000
    with pytest.raises(UserError, match="weights"):
        config_from_text(HOSTILE[name], source="weights.pth")
    assert time.process_time() - start < 20


def saved_settings_of(path: Path) -> object:
    """As of a checkpoint: values are not checked, so that only some texts are errors."""
    saved_settings(path.read_text())
    return load_config(path)


@pytest.mark.parametrize("content", [b"\xff\xfe\0a", "SEED: é".encode("latin-1"), b"\x00" * 10])
def test_bytes_that_are_no_text(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(path))):
        load_config(path)


def test_pipes_and_folders(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    for name in ("pipe.yaml", "folder.yaml", "loop.yaml", "none.yaml", "x" * 300 + ".yaml"):
        with pytest.raises(UserError, match=name[:50]):
            load_config(tmp_path / name)


@pytest.mark.parametrize("text", [None, 5, b"SEED: 1", ["SEED"], {"SEED": 1}])
def test_settings_in_weights_that_are_no_text(text: Any) -> None:
    with pytest.raises(UserError):
        saved_settings(text)
    with pytest.raises(UserError, match="weights"):
        config_from_text(text, source="weights.pth")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 010", "010"), ("a: 1:30", "1:30"), ("a: 2024-05-01", "2024-05-01"), ("a: 10", 10),
        ("a: -1_000", -1000), ("a: 1.5e-3", 0.0015), ("a: .5", 0.5), ("a: yes", True),
        ("a:", None), ("a: ''", ""), ("a: {b: [1, x]}", {"b": [1, "x"]}), ("a: 1\na: 1", 1),
        ("b: &b {c: 1}\na: {<<: *b, d: 2}", {"c": 1, "d": 2}),
    ],
)  # fmt: skip
def test_plain_values(text: str, value: Any) -> None:
    assert parse_yaml(text, "x")["a"] == value


def test_our_own_text_is_read_back() -> None:
    cfg = load_config(None, ["DATASET.ROOT", "2024-05-01", "DATASET.TRAIN", "010", "SEED", "7"])
    again = config_from_text(config_text(cfg))
    assert flatten(again) == flatten(cfg) and again.DATASET.TRAIN == "010"


WORDS = [
    "(" * 5000, "[" * 5000, "-" * 5000, "9" * 5000, "9" * 100_000, "1e400", "-1", "1.5", "nan",
    "inf", "-inf", "[[1]]", "[1, 'a']", "{1: 2}", "{[]: 1}", "b'a'", "1j", "None", "...", "'\\d'",
    "\0", "\udcff", "a" * 5000, "x\ny", "True", "[]", "()", "lambda: 1",
    "__import__('os').system('true')", "[" + "1," * 2000 + "]", "0x10", "1_0", str(2**31),
    str(2**63), str(10**300), "", " ", "é",
]  # fmt: skip
KEYS = [
    "SEED", "TRAIN.LR", "TRAIN.LR_STEP", "DATASET.ROOT", "VERBOSE", "WORKERS", "GPUS", "DEVICE",
    "MODEL.MODULES", "MODEL.WIDTH", "DATASET.INPUT_SIZE", "TEST.SCALE_FACTOR", "NO.SUCH.KEY",
    "MODEL.EXTRA.STAGE2.NUM_CHANNELS", "MODEL.NUM_JOINTS", "LIMITS.JSON_GB",
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_words_of_the_command_line(key: str) -> None:
    for word in WORDS:
        try:
            cfg = load_config(None, [key, word])
        except UserError as error:
            assert len(str(error)) < 3000
            continue
        config_from_text(config_text(cfg))  # the settings of a run are read back


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SEED", -1), ("SEED", 2**63), ("WORKERS", 10**9), ("GPUS", 10**6),
        ("MODEL.WIDTH", 10**6), ("MODEL.MODULES", [1, 10**6, 1]), ("MODEL.BLOCKS", 10**6),
        ("DATASET.INPUT_SIZE", 32 * 10**6), ("TEST.SCALE_FACTOR", [1e6]),
        ("TEST.SCALE_FACTOR", [1.0] * 100), ("TEST.MAX_PEOPLE", 10**9),
        ("TEST.NMS_KERNEL", 10**6 + 1), ("DATASET.OFFSET_RADIUS", 10**9), ("TRAIN.LR", 10**400),
        ("MODEL.STEM_CHANNELS", 10**9), ("MODEL.HEAD_BLOCKS", 10**9), ("LIMITS.JSON_GB", 0.0),
    ],
)  # fmt: skip
def test_values_that_would_only_fill_the_memory(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=key):
        load_config(None, [key, value])


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=30) | st.from_regex(r"[\[\]{}:,&*a-c0-9.\n -]{0,25}", fullmatch=True))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UserError):
        parse_yaml(text, "x")
    parse_value(text)


def test_thousands_of_unknown_keys_take_no_time(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(f"KEY{number}: 1" for number in range(9000)))
    start = time.process_time()
    with pytest.raises(UserError, match="8950 more"):
        load_config(path)
    assert time.process_time() - start < 20
